"""The whole table of endings, row by row, and what holds for every state that can be reached."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.units import Cut, Fin, Rst
from chaos.link.endings import (
    OTHER,
    PASSED,
    POLICIES,
    READ,
    SIDES,
    TABLE,
    Effect,
    Ending,
    Endings,
    EndPolicy,
    IllegalEnding,
    StreamState,
    Tell,
    UnderWay,
)
from chaos.trace import Side, Stream

# policy, ending, states: next state, what enters the pipe, what the target and the source are told, and what becomes
# of the bytes in the other stream; a dash is "nothing", or "the state stays"
ROWS = """
faithful  FIN_READ           OPEN               ENDING  Fin  -      -      PASS
faithful  RST_READ           OPEN               ENDING  Rst  -      -      PASS
faithful  CLOSE_READ         OPEN,ENDING,ENDED  -       -    -      -      PASS
faithful  FIN_PASSED         ENDING             ENDED   -    FIN    -      PASS
faithful  RST_PASSED         OPEN,ENDING,ENDED  OVER    -    RST    -      DISCARD
faithful  CUT                OPEN,ENDING,ENDED  OVER    -    CLOSE  CLOSE  DISCARD
faithful  TARGET_LOST        OPEN,ENDING,ENDED  -       -    -      -      PASS
faithful  TARGET_LOST_ENDED  OPEN,ENDING,ENDED  -       -    -      -      PASS_AND_RST
toxiproxy FIN_READ           OPEN               ENDING  Fin  -      -      PASS
toxiproxy RST_READ           OPEN               ENDING  Fin  -      -      PASS
toxiproxy CLOSE_READ         OPEN               ENDING  Fin  -      -      PASS
toxiproxy FIN_READ           ENDED              -       Fin  -      -      PASS
toxiproxy RST_READ           ENDED              -       Fin  -      -      PASS
toxiproxy CLOSE_READ         ENDED              -       Fin  -      -      PASS
toxiproxy FIN_PASSED         ENDING,ENDED       ENDED   -    CLOSE  -      PASS
toxiproxy CUT                OPEN,ENDING,ENDED  ENDED   -    CLOSE  -      PASS_AND_END
toxiproxy TARGET_LOST        OPEN,ENDING,ENDED  ENDED   -    CLOSE  -      PASS
toxiproxy TARGET_LOST_ENDED  OPEN,ENDING,ENDED  ENDED   -    CLOSE  -      PASS
both      CUT_RST            OPEN,ENDING,ENDED  OVER    -    RST    RST    DISCARD
both      CUT_SOURCE         OPEN,ENDING,ENDED  -       -    -      CLOSE  PASS
both      CUT_SOURCE_RST     OPEN,ENDING,ENDED  -       -    -      RST    PASS
both      CLOSED             OPEN,ENDING,ENDED  OVER    -    CLOSE  CLOSE  DISCARD
"""
UNITS: dict[str, Fin | Rst | None] = {"-": None, "Fin": Fin(), "Rst": Rst()}


def tell(word: str) -> Tell:
    return Tell.NOTHING if word == "-" else Tell[word]


def expected() -> dict[tuple[str, Ending, StreamState], Effect]:
    found: dict[tuple[str, Ending, StreamState], Effect] = {}
    for line in ROWS.strip().splitlines():
        policy, ending, states, then, enters, target, source, other = line.split()
        outcome = Effect(
            then=None if then == "-" else StreamState[then],
            enters=UNITS[enters],
            target=tell(target),
            source=tell(source),
            other=UnderWay[other],
        )
        for each, state in product(POLICIES if policy == "both" else (policy,), states.split(",")):
            found[each, Ending[ending], StreamState[state]] = outcome
    for each, ending_ in product(POLICIES, Ending):
        found[each, ending_, StreamState.OVER] = Effect()
    return found


@pytest.mark.parametrize(
    ("policy", "ending", "state"), list(product(POLICIES, Ending, StreamState)), ids=str
)
def test_every_row_of_the_table(policy: EndPolicy, ending: Ending, state: StreamState) -> None:
    assert TABLE.get((policy, ending, state)) == expected().get((policy, ending, state))


def test_the_table_covers_all_that_can_be_read_and_all_that_can_leave_a_pipe() -> None:
    cuts = [Cut(rst=rst, whom=whom) for rst in (False, True) for whom in ("both", "source")]  # type: ignore[arg-type]
    assert READ.keys() == {Fin(), Rst(), None}
    assert PASSED.keys() == {Fin(), Rst(), *cuts}
    outside = {Ending.CLOSED, Ending.TARGET_LOST, Ending.TARGET_LOST_ENDED}
    assert {*READ.values(), *PASSED.values(), *outside} == set(Ending)
    # each ending can happen while a connection lives
    assert {ending for _, ending, state in TABLE if state is not StreamState.OVER} == set(Ending)


MOVES = st.lists(st.tuples(st.sampled_from(list(SIDES)), st.sampled_from(Ending)), max_size=12)


def facts(endings: Endings) -> Any:
    ended: list[Side] = sorted(endings._ended_sides)
    return dict(endings.states), ended, [endings.is_cut_off(stream) for stream in SIDES]


@given(policy=st.sampled_from(POLICIES), moves=MOVES)
def test_a_move_is_the_tables_or_raises_and_changes_nothing(
    policy: EndPolicy, moves: list[tuple[Stream, Ending]]
) -> None:
    endings = Endings(policy)
    for stream, ending in moves:
        before, state = facts(endings), endings.states[stream]
        try:
            outcome = endings.move(stream, ending)
        except IllegalEnding:
            assert (policy, ending, state) not in TABLE
            assert facts(endings) == before
            continue
        assert outcome in [
            TABLE.get((policy, which, state)) for which in (ending, Ending.TARGET_LOST_ENDED)
        ]
        if outcome.other is UnderWay.DISCARD:
            assert endings.over
        elif outcome.then is not None:
            assert endings.states[stream] is outcome.then
        assert endings.over or endings.states[OTHER[stream]] is before[0][OTHER[stream]]


@given(policy=st.sampled_from(POLICIES), moves=MOVES)
def test_what_is_over_stays_over_and_tells_nobody(
    policy: EndPolicy, moves: list[tuple[Stream, Ending]]
) -> None:
    endings = Endings(policy)
    endings.move("upstream", Ending.CLOSED)
    for stream, ending in moves:
        assert endings.move(stream, ending) == Effect()
        assert endings.over


def over(endings: Endings, *, empty: str = "", dead: str = "", forgotten: str = "") -> bool:
    return endings.check_over(
        empty=lambda one: one in empty,
        dead=lambda one: one in dead,
        forgotten=lambda one: one in forgotten,
    )


def test_two_half_closes_end_a_connection() -> None:
    endings = Endings("faithful")
    for stream in SIDES:
        assert not over(endings, empty="upstream downstream")
        endings.move(stream, Ending.FIN_READ)
        endings.move(stream, Ending.FIN_PASSED)
    assert over(endings)


def test_a_lost_target_is_known_to_have_ended_or_not() -> None:
    endings = Endings("faithful")
    assert endings.move("upstream", Ending.TARGET_LOST).other is UnderWay.PASS
    endings.move("downstream", Ending.FIN_READ)
    assert endings.move("upstream", Ending.TARGET_LOST).other is UnderWay.PASS_AND_RST


def test_a_stream_that_is_cut_off_ends_the_connection_once_it_is_empty() -> None:
    endings = Endings("toxiproxy")
    endings.move("upstream", Ending.CUT)
    assert not over(endings, empty="downstream"), "its source has not ended yet"
    endings.move("downstream", Ending.CLOSE_READ)
    assert not over(endings)
    assert over(endings, empty="downstream")


def test_a_path_that_swallows_everything_is_over_once_both_sides_have_ended() -> None:
    endings = Endings("faithful", silent=["server"])
    assert not over(endings, dead="upstream downstream")
    endings.move("upstream", Ending.FIN_READ)
    assert not over(endings, dead="upstream")
    assert over(endings, dead="upstream downstream")


def test_what_is_forgotten_ends_with_its_client_where_a_half_close_is_none() -> None:
    endings = Endings("toxiproxy")
    endings.move("downstream", Ending.FIN_READ)
    assert not over(endings, dead="upstream downstream", forgotten="upstream downstream")
    endings = Endings("toxiproxy")
    endings.move("upstream", Ending.FIN_READ)
    assert not over(endings, dead="upstream downstream")
    assert not over(endings, dead="upstream downstream", forgotten="downstream")
    assert over(endings, dead="upstream", forgotten="upstream")


def test_what_is_forgotten_ends_a_half_close_only_with_both_streams() -> None:
    endings = Endings("faithful")
    endings.move("upstream", Ending.FIN_READ)
    assert not over(endings, dead="upstream", forgotten="upstream")
    assert over(endings, dead="upstream", forgotten="upstream downstream")


def test_a_client_that_is_there_still_waits_for_a_server_that_was_never_reached() -> None:
    endings = Endings("toxiproxy", silent=["server"])
    assert not over(endings, dead="upstream downstream", forgotten="upstream downstream")
