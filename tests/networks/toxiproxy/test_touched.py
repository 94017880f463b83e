"""What the links on both sides of a Toxiproxy can tell of a toxic inside it."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.networks.toxiproxy.touched import Touches
from chaos.scenario.model import Entry, Scenario
from chaos.trace import Event, Side, Stream
from chaos.vocabulary.toxics import TOXICS


def touches(word: str, stream: str = "downstream", **more: Any) -> Touches:
    """Return the watch of one toxic that is in force."""
    attributes = more.pop("attributes", {})
    row = {"kind": "toxic", "word": word, "at": "1s", "stream": stream, "parameters": attributes}
    entry = Entry.model_validate(row | more)
    watch = Touches(Scenario(version=1, name="t", duration="60s", timeline=[entry]))
    watch.begin(0, TOXICS[word].model_validate(attributes))
    return watch


def event(
    kind: str,
    side: Side,
    stream: Stream = "downstream",
    *,
    client: int = 1,
    connection: int = 1,
    **data: Any,
) -> Event:
    return Event(
        at_s=1.0,
        kind=kind,
        client=client,
        connection=connection,
        stream=stream,
        data={"side": side} | data,
    )


def told(watch: Touches, *events: Event) -> list[str]:
    return [how for row in events for _, how in watch.see(row)]


SENT = event("frame", "server", bytes=50)
ARRIVED = event("frame", "client", bytes=50)
FIN_SENT, FIN_ARRIVED = event("fin", "server"), event("fin", "client")
RST_SENT, RST_ARRIVED = event("rst", "server"), event("rst", "client")


@pytest.mark.parametrize("word", ["latency", "bandwidth", "timeout", "noop"])
def test_what_enters_the_stream_touches_it_and_what_leaves_does_not(word: str) -> None:
    assert told(touches(word), ARRIVED, event("frame", "client", "upstream", bytes=5)) == []
    assert told(touches(word), SENT) == ["a frame entered it"]


def test_each_window_is_told_once_per_connection() -> None:
    watch = touches("latency")
    other = event("frame", "server", connection=2, bytes=5)
    assert len(told(watch, SENT, SENT, other, other)) == 2
    watch.end(0)
    assert told(watch, SENT) == []
    watch.begin(0, TOXICS["latency"]())
    assert len(told(watch, SENT, SENT)) == 1


def test_only_the_clients_of_the_entry_and_its_stream_count() -> None:
    watch = touches("latency", "upstream", clients=(2,))
    mine = event("frame", "client", "upstream", client=2, bytes=5)
    assert told(watch, SENT, event("frame", "client", "upstream", bytes=5)) == []
    assert told(watch, mine) == ["a frame entered it"]


def test_slow_close_is_touched_by_an_end_only() -> None:
    assert told(touches("slow_close"), SENT, FIN_ARRIVED) == []
    assert told(touches("slow_close"), FIN_SENT) == ["an end of stream entered it"]


@pytest.mark.parametrize(
    ("attributes", "size", "is_told"),
    [
        ({"average_size": 40}, 50, True),
        ({"average_size": 60}, 50, False),
        ({"average_size": 40, "size_variation": 20}, 50, False),
        ({"average_size": 500, "delay": 10}, 50, True),
    ],
)
def test_a_slicer_is_touched_by_what_it_cuts_or_delays(
    attributes: dict[str, int], size: int, is_told: bool
) -> None:
    watch = touches("slicer", attributes=attributes)
    assert bool(told(watch, event("frame", "server", bytes=size))) is is_told


@pytest.mark.parametrize("word", ["limit_data", "reset_peer", "timeout"])
def test_an_end_that_no_peer_made_was_made_by_the_toxic(word: str) -> None:
    assert told(touches(word), FIN_ARRIVED) == ["it ended the connection"]
    assert told(touches(word), RST_ARRIVED) == ["it ended the connection"]


@pytest.mark.parametrize("word", ["limit_data", "timeout"])
@pytest.mark.parametrize("end", [FIN_SENT, RST_SENT, event("fin", "client", "upstream")])
def test_an_end_that_a_peer_made_was_not(word: str, end: Event) -> None:
    assert told(touches(word), end, FIN_ARRIVED) == []


def test_reset_peer_turns_a_fin_into_an_rst_but_leaves_a_peers_own_rst() -> None:
    assert told(touches("reset_peer"), FIN_SENT, FIN_ARRIVED) == []
    assert told(touches("reset_peer"), FIN_SENT, RST_ARRIVED) == ["it ended the connection"]
    assert told(touches("reset_peer"), RST_SENT, RST_ARRIVED) == []
