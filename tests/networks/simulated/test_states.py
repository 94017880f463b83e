"""TCP's table of states: every row is walked, alone and by the ends of connections; what is not in it is refused."""

from __future__ import annotations

import errno
from itertools import product

import pytest

from chaos.networks.simulated.endpoint import Endpoint, establish
from chaos.networks.simulated.fabric import Fabric
from chaos.networks.simulated.states import (
    TRANSITIONS,
    IllegalTransition,
    TcpEvent,
    TcpState,
    next_state,
)

ENDINGS = {TcpEvent.ABORT, TcpEvent.RST, TcpEvent.USER_TIMEOUT, TcpEvent.POWER_LOSS}
ENDED = {TcpState.CLOSED, TcpState.LISTEN}
# RFC 9293 figure 5, read from top to bottom: the ways from CLOSED to CLOSED without an error
WAYS = {
    "who closes first": "ACTIVE_OPEN SYN_ACK CLOSE ACK_OF_FIN FIN: "
    "SYN_SENT ESTABLISHED FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT",
    "who closes second": "PASSIVE_OPEN SYN ACK_OF_SYN FIN CLOSE ACK_OF_FIN: "
    "LISTEN SYN_RECEIVED ESTABLISHED CLOSE_WAIT LAST_ACK CLOSED",
    "both close at once": "ACTIVE_OPEN SYN_ACK CLOSE FIN ACK_OF_FIN: "
    "SYN_SENT ESTABLISHED FIN_WAIT_1 CLOSING TIME_WAIT",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_ways_through_the_table_are_those_of_the_rfc(way: str) -> None:
    events, states = (part.split() for part in way.split(": "))
    state = TcpState.CLOSED
    for event, expected in zip(events, states, strict=True):
        state = next_state(state, TcpEvent[event])
        assert state is TcpState[expected]


def test_the_ways_and_the_endings_are_the_whole_table() -> None:
    walked: set[tuple[TcpState, TcpEvent]] = set()
    for way in WAYS.values():
        state = TcpState.CLOSED
        for event in way.partition(": ")[0].split():
            walked.add((state, TcpEvent[event]))
            state = next_state(state, TcpEvent[event])
    walked |= set(product(set(TcpState) - ENDED, ENDINGS))
    assert walked == {(state, event) for state, row in TRANSITIONS.items() for event in row}


@pytest.mark.parametrize("state", TcpState, ids=lambda state: state.name)
def test_whatever_ends_a_connection_at_once_ends_it_in_each_state_that_has_one(
    state: TcpState,
) -> None:
    for event in ENDINGS:
        if state in ENDED:
            with pytest.raises(IllegalTransition):
                next_state(state, event)
        else:
            assert next_state(state, event) is TcpState.CLOSED


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in product(TcpState, TcpEvent) if pair[1] not in TRANSITIONS[pair[0]]],
    ids=lambda word: word.name,
)
def test_an_event_that_has_no_row_raises_and_changes_nothing(
    state: TcpState, event: TcpEvent
) -> None:
    fabric = Fabric()
    end = Endpoint(fabric, fabric.path("a", "b"))
    end.state = state
    with pytest.raises(IllegalTransition, match=rf"{event.name} in {state.name}"):
        end.terminate(event, errno.EPIPE)
    assert (end.state, end.error) == (state, 0)


def connected() -> tuple[Fabric, Endpoint, Endpoint]:
    fabric = Fabric()
    active, passive = (
        Endpoint(fabric, fabric.path("a", "b")),
        Endpoint(fabric, fabric.path("b", "a")),
    )
    active.open_actively()
    assert active.state is TcpState.SYN_SENT
    establish(active, passive)
    return fabric, active, passive


def states(fabric: Fabric, *ends: Endpoint) -> list[str]:
    """Let everything arrive that is under way, and return the states of ends."""
    fabric.advance(fabric.now + 1)
    return [end.state.name for end in ends]


def test_two_ends_that_close_in_turn_go_through_the_states_of_the_rfc() -> None:
    fabric, one, other = connected()
    assert states(fabric, one, other) == ["ESTABLISHED", "ESTABLISHED"]
    one.shutdown()
    assert (one.state, other.state) == (TcpState.FIN_WAIT_1, TcpState.ESTABLISHED)
    assert states(fabric, one, other) == ["FIN_WAIT_2", "CLOSE_WAIT"]
    other.shutdown()
    assert (one.state, other.state) == (TcpState.FIN_WAIT_2, TcpState.LAST_ACK)
    assert states(fabric, one, other) == ["TIME_WAIT", "CLOSED"]


def test_two_ends_that_close_at_once_meet_in_time_wait() -> None:
    fabric, one, other = connected()
    one.shutdown()
    other.shutdown()
    fabric.path("a", "b").up = fabric.path("b", "a").up = (
        False  # the acknowledgements of the FINs are lost
    )
    fabric.advance(fabric.now + 0.001)
    assert (one.state, other.state) == (TcpState.CLOSING, TcpState.CLOSING)
    fabric.path("a", "b").up = fabric.path("b", "a").up = True
    assert states(fabric, one, other) == ["TIME_WAIT", "TIME_WAIT"]


def test_a_connection_that_is_half_closed_may_still_send_the_other_way() -> None:
    fabric, one, other = connected()
    one.shutdown()
    assert states(fabric, one, other) == ["FIN_WAIT_2", "CLOSE_WAIT"]
    assert other.send(b"still here") == 10
    fabric.advance(fabric.now + 1)
    assert one.receive(100) == b"still here"
    assert not one.state.may_send
    assert not other.state.may_receive


@pytest.mark.parametrize("closed_first", [False, True])
def test_an_rst_ends_both_ends_and_shows_as_epipe_behind_a_fin(closed_first: bool) -> None:
    fabric, one, other = connected()
    if closed_first:
        one.shutdown()
        fabric.advance(fabric.now + 1)
    one.reset()
    assert states(fabric, one, other) == ["CLOSED", "CLOSED"]
    assert other.take_pending_error() == (errno.EPIPE if closed_first else errno.ECONNRESET)
    assert other.take_pending_error() == 0, "an error is reported once"


def test_a_peer_that_is_silent_for_too_long_closes_the_connection() -> None:
    fabric, one, other = connected()
    one.options.retries = 3
    fabric.path("a", "b").up = False
    one.send(b"anybody?")
    fabric.advance(fabric.now + 60)
    assert (one.state, one.error) == (TcpState.CLOSED, errno.ETIMEDOUT)
    assert other.state is TcpState.ESTABLISHED


def test_a_host_without_power_forgets_its_ends_and_answers_with_rst_once_it_is_up() -> None:
    fabric, one, other = connected()
    other.lose_power()
    assert states(fabric, one, other) == ["ESTABLISHED", "CLOSED"]
    one.send(b"anybody?")
    assert states(fabric, one, other) == ["CLOSED", "CLOSED"]
    assert one.error == errno.ECONNRESET
