"""Interesting states: each is reached by a trace that shows it, and not by one that does not."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from chaos.scenario.model import StateWord
from chaos.trace import Event, Header, Trace
from chaos.vocabulary.sometimes import STATES, states_reached

SCENARIO = {"client": {"backoff": {"max": "2s"}}}


def trace(*rows: tuple[float, str, dict[str, Any]], connection: int = 1) -> Trace:
    events = []
    for at_s, kind, data in rows:
        rest = dict(data)
        number = rest.pop("connection", connection)
        stream = rest.pop("stream", None)
        events.append(
            Event(at_s=at_s, kind=kind, client=1, connection=number, stream=stream, data=rest)
        )
    return Trace(Header(scenario=SCENARIO, network="simulated", seed=1), tuple(events))


def window(at_s: float, change: str, entry: int = 0, what: str = "fault stall") -> Any:
    return at_s, "apply", {"entry": entry, "what": what, "change": change}


def close(at_s: float, stream: str, side: str) -> Any:
    return at_s, "frame", {"opcode": "close", "stream": stream, "side": side}


REACHED = {
    "reconnected": trace((1, "open", {}), (5, "open", {"connection": 2})),
    "detected_by_client": trace(
        window(1, "on"), (2, "rst", {"stream": "upstream", "side": "client"}), window(3, "off")
    ),
    "detected_by_server": trace(
        window(1, "on"), (2, "fin", {"stream": "downstream", "side": "server"}), window(3, "off")
    ),
    "attempt_during_outage": trace(window(1, "on"), (2, "attempt", {}), window(3, "off")),
    "reconnected_during_drain": trace(
        window(1, "on", what="action drain"), (2, "open", {}), window(3, "off", what="action drain")
    ),
    "two_faults_at_once": trace(
        window(1, "on"), window(2, "on", 1), window(3, "off"), window(4, "off", 1)
    ),
    "reset_in_handshake": trace(
        (1, "attempt", {}), (2, "rst", {"stream": "upstream", "side": "client"})
    ),
    "refused": trace((1, "refused", {"how": "x"})),
    "died_before_first_message": trace((1, "open", {}), (2, "closed", {})),
    "message_replayed": trace(
        *(
            (at, "frame", {"opcode": "text", "id": 4, "sender": "server", "side": "client",
                           "stream": "downstream", "connection": at})
            for at in (1, 2)
        )
    ),
    "backoff_at_cap": trace((1, "closed", {}), (2.9, "attempt", {})),
    "closed_while_closing": trace(
        close(1, "upstream", "client"),
        close(1.1, "downstream", "server"),
        close(1.2, "upstream", "server"),
    ),
}  # fmt: skip
NOT_REACHED = {
    "reconnected": trace((1, "open", {})),
    "detected_by_client": trace((2, "rst", {"stream": "upstream", "side": "client"})),
    "detected_by_server": trace(
        window(1, "on"), (2, "rst", {"stream": "upstream", "side": "client"}), window(3, "off")
    ),
    "attempt_during_outage": trace(window(1, "on"), window(3, "off"), (4, "attempt", {})),
    "reconnected_during_drain": trace(window(1, "on"), (2, "open", {}), window(3, "off")),
    "two_faults_at_once": trace(
        window(1, "on"), window(2, "off"), window(3, "on", 1), window(4, "off", 1)
    ),
    "reset_in_handshake": trace(
        (1, "attempt", {}), (2, "open", {}), (3, "rst", {"stream": "upstream", "side": "client"})
    ),
    "refused": trace((1, "attempt", {})),
    "died_before_first_message": trace(
        (1, "open", {}), (1.5, "frame", {"opcode": "text"}), (2, "closed", {})
    ),
    "message_replayed": trace(
        (1, "frame", {"opcode": "text", "id": 4, "sender": "server", "side": "server"}),
        (2, "frame", {"opcode": "text", "id": 4, "sender": "server", "side": "client"}),
    ),
    "backoff_at_cap": trace((1, "closed", {}), (2, "attempt", {})),
    "closed_while_closing": trace(
        close(1, "upstream", "client"),
        close(1.1, "upstream", "server"),
        close(1.2, "downstream", "server"),
    ),
}


@pytest.mark.parametrize("word", STATES)
def test_a_state_is_reached_by_what_shows_it_and_by_nothing_else(word: str) -> None:
    assert word in states_reached(REACHED[word])
    assert word not in states_reached(NOT_REACHED[word])


def test_what_the_end_of_the_run_does_to_a_connection_is_no_state() -> None:
    assert not states_reached(trace((1, "open", {}), (2, "end", {}), (3, "closed", {})))


def test_the_language_knows_the_states_of_the_table() -> None:
    assert get_args(StateWord) == tuple(STATES)
