"""The connection states: every pair of states, by literal expectation."""

from __future__ import annotations

from itertools import product

import pytest

from chaos.reference.states import IllegalTransition, State, StateMachine

ALLOWED = {
    ("closed", "connecting"),
    ("connecting", "open"),
    ("connecting", "closed"),
    ("open", "closing"),
    ("open", "closed"),
    ("closing", "closed"),
}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_only_the_transitions_of_the_table_are_possible(before: State, after: State) -> None:
    heard: list[State] = []
    machine = StateMachine(changed=heard.append, state=before)
    if (before.value, after.value) in ALLOWED:
        machine.move(after)
        assert (machine.state, heard) == (after, [after])
    else:
        with pytest.raises(IllegalTransition, match=f"{before.value}.*{after.value}"):
            machine.move(after)
        assert (machine.state, heard) == (before, [])


def test_a_machine_starts_closed() -> None:
    assert StateMachine(changed=print).state is State.CLOSED
