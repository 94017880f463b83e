"""What a trace is told of a connection does not depend on how it was found out."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from chaos.faults.units import Data
from chaos.link.endings import SIDES
from chaos.link.transcript import Journal, Transcript
from chaos.recorder import Recorder
from chaos.trace import Event, Stream

# a message in two pieces, with a ping between them
PIECES = (TextMessage("par", message_finished=False), Ping(b"between"), TextMessage("ts"))
SENT = st.lists(
    st.one_of(
        st.builds(Ping, payload=st.binary(max_size=20)),
        st.builds(TextMessage, data=st.text(max_size=200)),
        st.just(PIECES),
        st.builds(CloseConnection, code=st.just(4000)),
    ),
    max_size=6,
)
NONSENSE = b"\xff\xff\xff"


def handshake(deflate: bool) -> tuple[WSConnection, WSConnection, bytes, bytes]:
    client, server = WSConnection(ConnectionType.CLIENT), WSConnection(ConnectionType.SERVER)
    extensions: list[Any] = [PerMessageDeflate()] if deflate else []
    request = client.send(Request(host="h", target="/", extensions=extensions))
    server.receive_data(request)
    list(server.events())
    answer = server.send(AcceptConnection(extensions=[PerMessageDeflate()] if deflate else []))
    client.receive_data(answer)
    list(client.events())
    return client, server, request, answer


def frames_of(sender: WSConnection, sent: list[Any]) -> list[bytes]:
    frames: list[bytes] = []
    for events in sent:
        frames += [sender.send(one) for one in (events if isinstance(events, tuple) else (events,))]
        if isinstance(events, CloseConnection):
            break
    return frames


def told(pieces: list[tuple[Stream, bytes]], *, at_once: bool) -> list[Event]:
    """Return what a transcript tells of bytes that pass both sides."""
    recorder = Recorder(lambda: 0.0)
    journal = Journal(recorder=recorder, client=1, sides=frozenset(("client", "server")))
    transcript = Transcript(journal, 1)
    for stream, payload in pieces:
        if at_once:
            transcript.observe_both(stream, Data(payload))
        else:
            for side in SIDES[stream]:
                transcript.observe(stream, side, Data(payload))
    return recorder.events


def cut(frames: list[bytes], places: list[int]) -> list[bytes]:
    """Return the frames, each whole where its place is 0, else in two pieces."""
    pieces = []
    for frame, place in zip(frames, cycle(places), strict=False):
        at = place % len(frame)
        pieces += [frame[:at], frame[at:]] if at else [frame]
    return pieces


@given(
    deflate=st.booleans(),
    up=SENT,
    down=SENT,
    places=st.lists(st.just(0) | st.integers(1, 40), min_size=1, max_size=12),
    nonsense=st.booleans(),
)
@example(deflate=False, up=[PIECES] * 3, down=[], places=[0, 0, 0, 1], nonsense=False)
@example(deflate=False, up=[], down=[Ping(b"1"), Ping(b"2")], places=[0], nonsense=True)
def test_bytes_seen_at_both_sides_at_once_are_seen_as_one_after_the_other(
    deflate: bool, up: list[Any], down: list[Any], places: list[int], nonsense: bool
) -> None:
    client, server, request, answer = handshake(deflate)
    pieces: list[tuple[Stream, bytes]] = [("upstream", request), ("downstream", answer)]
    pieces += [("upstream", piece) for piece in cut(frames_of(client, up), places)]
    sent = frames_of(server, down) + [NONSENSE] * nonsense
    pieces += [("downstream", piece) for piece in cut(sent, places)]
    assert told(pieces, at_once=True) == told(pieces, at_once=False)
