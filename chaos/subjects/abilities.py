"""Whether the subjects can do what a plan asks of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaos.errors import UsageError
from chaos.scenario.plan import Plan
from chaos.subject import Abilities, abilities_of
from chaos.trace import Side


def check_abilities(plan: Plan, server: Callable[..., Any], client: Callable[..., Any]) -> None:
    """Raise UsageError if a subject is asked for what it does not declare."""
    wrong: list[str] = []
    declared: dict[Side, Abilities] = {
        "server": abilities_of(server),
        "client": abilities_of(client),
    }
    wrong += [
        f"the {row.sender} does not declare that it sends the workload"
        for row in plan.scenario.workload
        if not declared[row.sender].sends
    ]
    for side, abilities in declared.items():
        wrong += [
            f"the {side} does not declare the action {word!r}"
            for word in plan.actions_of(side)
            if word not in abilities.actions
        ]
    if wrong:
        hint = "; see `chaos.subject` for how a subject declares what it can do"
        raise UsageError("; ".join(dict.fromkeys(wrong)) + hint)
