"""What a trace is told of a connection does not depend on how it was found out."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import generate_accept_token

from chaos.faults.units import Data
from chaos.link.endings import SIDES
from chaos.link.transcript import Journal, Transcript
from chaos.recorder import Recorder
from chaos.trace import Event, Side, Stream

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


REQUEST = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ANSWER = (
    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + generate_accept_token(KEY)
    + b"\r\n\r\n"
)
Seen = tuple[Stream, Side, bytes]


def seen(*pieces: Seen, handshake: bytes = ANSWER) -> list[Event]:
    """Return what is told of bytes that are seen at one side each, behind a handshake at both sides."""
    recorder = Recorder(lambda: 0.0)
    journal = Journal(recorder=recorder, client=1, sides=frozenset(("client", "server")))
    transcript = Transcript(journal, 1)
    transcript.observe_both("upstream", Data(REQUEST + KEY + b"\r\n\r\n"))
    transcript.observe_both("downstream", Data(handshake))
    for stream, side, payload in pieces:
        transcript.observe(stream, side, Data(payload))
    return recorder.events


def beat(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    mask = b"\x00" * 4 if masked else b""
    return bytes((0x80 | opcode, 0x80 * masked | len(payload))) + mask + payload


def pongs(*pieces: Seen) -> list[bool]:
    return [
        event.get("unsolicited", False)
        for event in seen(*pieces)
        if event.kind == "frame" and event["opcode"] == "pong"
    ]


PING_1, PING_2 = (beat(9, payload, masked=True) for payload in (b"1", b"2"))
PONG_1, PONG_2, EMPTY = (beat(10, payload, masked=False) for payload in (b"1", b"2", b""))


def test_a_pong_answers_any_ping_that_came_before_it_at_that_side() -> None:
    up, down, client, server = "upstream", "downstream", "client", "server"
    assert pongs((up, client, PING_1), (down, client, PONG_1)) == [False]
    assert pongs((up, client, PING_1), (down, client, EMPTY)) == [True]
    assert pongs((down, client, PONG_1), (up, client, PING_1)) == [True]
    assert pongs((up, client, PING_1), (down, server, PONG_1)) == [True]
    # the newest may be answered alone, and an older one late
    both = ((up, client, PING_1), (up, client, PING_2))
    assert pongs(*both, (down, client, PONG_2), (down, client, PONG_1)) == [False, False]
    assert pongs(*both, (down, client, PONG_2), (down, client, PONG_2)) == [False, False]


def test_a_pong_is_not_called_unsolicited_where_pings_could_not_be_read() -> None:
    wrong = ("upstream", "client", NONSENSE)
    assert pongs(wrong, ("downstream", "client", EMPTY)) == [False]
    assert pongs(wrong, ("downstream", "server", EMPTY)) == [True]


def test_of_many_pings_the_last_are_known() -> None:
    pings = [beat(9, bytes([n]), masked=True) for n in range(100)]
    rows: list[Seen] = [("upstream", "client", ping) for ping in pings]
    assert pongs(*rows, ("downstream", "client", beat(10, b"\x63", masked=False))) == [False]
    assert pongs(*rows, ("downstream", "client", beat(10, b"\x01", masked=False))) == [True]


def test_what_cannot_be_decoded_is_told_once_for_each_stream_and_side() -> None:
    rows: list[Seen] = [
        ("downstream", "client", b"\x89\x00" + NONSENSE),
        ("downstream", "client", EMPTY),
    ]
    events = [event for event in seen(*rows) if event.kind in ("frame", "undecoded")]
    assert [(event.kind, event["side"], event.stream) for event in events] == [
        ("frame", "client", "downstream"),
        ("undecoded", "client", "downstream"),
    ]
    assert (events[1]["at_byte"], events[1]["byte"]) == (len(ANSWER) + 2, 0xFF)
    assert "RFC 6455 §5.2" in events[1]["why"]


def test_nothing_is_open_behind_an_answer_that_a_client_must_refuse() -> None:
    kinds = [event.kind for event in seen()]
    assert kinds.count("open") == 1
    wrong = ANSWER.replace(b"Accept: ", b"Accept: x")
    rows: list[Seen] = [("upstream", "client", PING_1)]
    events = seen(*rows, handshake=wrong)
    assert [event.kind for event in events].count("open") == 0
    assert all("RFC 6455 §4.1" in e["wrong"] for e in events if e.kind == "response")
    assert [event["opcode"] for event in events if event.kind == "frame"] == ["ping"]


def test_a_second_request_on_a_refused_connection_is_not_read() -> None:
    refusal = b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n"
    events = seen(("upstream", "client", REQUEST + KEY + b"\r\n\r\n"), handshake=refusal)
    assert [(e["side"], e["byte"]) for e in events if e.kind == "undecoded"] == [
        ("client", ord("G"))
    ]
