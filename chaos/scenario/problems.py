"""All rules between values, run over one scenario."""

from __future__ import annotations

from chaos.scenario.model import Scenario
from chaos.scenario.path_rules import PATH_RULES
from chaos.scenario.peer_rules import PEER_RULES
from chaos.scenario.rules import Draft, Problem, Rule, expectation_problems
from chaos.scenario.timeline_rules import TIMELINE_RULES

# Each rule with the sections that it leans on: where one of them has a mistake of its own, the rule is left out.
RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    *PEER_RULES,
    *TIMELINE_RULES,
    *PATH_RULES,
    (expectation_problems, frozenset()),
)


def find_problems(
    scenario: Scenario,
    *,
    wrong: frozenset[str] = frozenset(),
    broken_names: frozenset[str] = frozenset(),
) -> list[Problem]:
    """Return every mistake between the values of a scenario.

    `wrong` are the sections of which something is missing here because it was a mistake by itself (`top`,
    `server`, `client`, `workload`, `timeline`). `broken_names` are the names of timeline entries left out.
    """
    draft = Draft(scenario=scenario, wrong=wrong, broken_names=broken_names)
    return [problem for rule, needs in RULES if not needs & wrong for problem in rule(draft)]
