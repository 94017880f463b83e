"""Renders the vocabulary as tables, for `trio-chaos list` and for the reference pages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from pydantic import BaseModel

from chaos.scenario.describe import describe, keys_of, required_of
from chaos.scenario.rules import WHOLE_RUN_CHECKS
from chaos.scenario.schema import what_of
from chaos.vocabulary.actions import ACTIONS, Action
from chaos.vocabulary.base import format_duration
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.policies import POLICIES, Policy, Reaction
from chaos.vocabulary.presets import PRESETS
from chaos.vocabulary.sometimes import STATES
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import NETWORKS, Word

_NEEDS = {
    0: "nothing: seen at the link",
    1: "reports of the subject",
    2: "a subject in this process",
}
_CUTS = {
    "fin": "FIN",
    "rst": "RST",
    "drop": "silence",
    "drop_then_rst": "silence, then RST to the next sender",
}


class Table(NamedTuple):
    """Headers and rows of text; the rows are as wide as the headers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def parameters_of(model: type[BaseModel], *, leave_out: frozenset[str] = frozenset()) -> Table:
    """Return the keys of a model: what each may hold, its default and its meaning."""
    required = required_of(model)
    rows = tuple(
        (
            key,
            describe(schema),
            "required" if key in required else default_of(schema),
            str(schema.get("description", "")),
        )
        for key, schema in keys_of(model).items()
        if key not in leave_out
    )
    return Table(headers=("key", "value", "default", "meaning"), rows=rows)


def default_of(schema: dict[str, Any]) -> str:
    """Return a default as scenarios write it; `–` where a key is simply not set."""
    default = schema.get("default")
    if default is None or default in ("", [], {}):
        return "–"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, int | float) and "duration" in describe(schema):
        return format_duration(default)
    if isinstance(default, list):
        return ", ".join(str(item) for item in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def table_faults() -> Table:
    """Return toxics and faults: parameters, and how well each network applies them."""
    rows = tuple(
        (
            f"{model.kind}: {word}",
            what_of(model),
            "instant" if model.instant else "window",
            _short(model),
            *(_support(model, network) for network in NETWORKS),
        )
        for word, model in (*TOXICS.items(), *FAULTS.items())
    )
    return Table(headers=("fault", "what it does", "when", "parameters", *NETWORKS), rows=rows)


def _support(model: type[Word], network: str) -> str:
    how, reason = model.support[network]
    return f"{how}: {reason}" if reason else how


def _short(model: type[BaseModel]) -> str:
    """Return the parameters of a word in one cell: key, meaning and unit, values, default."""
    said = {"–": "", "required": ", required"}
    return "; ".join(
        f"{key} ({value}{said.get(default, f', default {default}')}): {meaning}"
        for key, value, default, meaning in parameters_of(model).rows
    )


def table_actions() -> Table:
    """Return the actions: who may do them, which subjects can, and their parameters."""
    rows = tuple(
        (
            f"action: {word}",
            what_of(model),
            "instant" if model.instant else "window",
            " or ".join(model.peers),
            _who_can(model),
            _short(model),
        )
        for word, model in ACTIONS.items()
    )
    return Table(
        headers=("action", "what it does", "when", "by", "subjects", "parameters"), rows=rows
    )


def _who_can(action: type[Action]) -> str:
    if action.needs_process:
        return "child processes"
    if action.by_runner:
        return "any that the run starts"
    return "reference peers, and callables that declare it"


def table_checks() -> Table:
    """Return the checks: what they judge, what they need of a subject, their parameters."""
    return Table(
        headers=("check", "what it judges", "needs", "speaks of", "parameters"),
        rows=tuple(
            (word, what_of(model), _NEEDS[model.needs], _entry_of(word), _short(model))
            for word, model in CHECKS.items()
        ),
    )


def _entry_of(word: str) -> str:
    entries = CHECKS[word].entries
    if not entries:
        return "the whole run"
    unset = "the whole run" if word in WHOLE_RUN_CHECKS else "the only entry there is"
    return f"`{entries[0]}`; unset: {unset}"


def table_presets() -> Table:
    """Return the middlebox presets with their sources."""
    rows = tuple(
        (
            name,
            f"fault: {row.fault}",
            format_duration(row.after_s),
            _CUTS[row.action],
            row.what,
            row.source,
        )
        for name, row in PRESETS.items()
    )
    return Table(headers=("preset", "for", "after", "then", "what it is", "source"), rows=rows)


def table_policies() -> Table:
    """Return the close-code policies: what a client does after each code or status."""
    rows = tuple(
        (
            name,
            policy.what,
            *(_codes(policy, reaction) for reaction in Reaction),
        )
        for name, policy in POLICIES.items()
    )
    return Table(
        headers=("policy", "what it is", *(reaction.value for reaction in Reaction)), rows=rows
    )


def table_statuses() -> Table:
    """Return what a client does after a handshake was answered with each HTTP status, by the policy `rfc`."""
    policy = POLICIES["rfc"]
    rows = [
        (reaction.value, _runs([n for n in range(100, 600) if policy.on_status(n) is reaction]))
        for reaction in Reaction
    ]
    rows += [
        ("never", f"{status}, once met {times} times in a row")
        for status, times in policy.limits.items()
    ]
    return Table(headers=("reaction", "HTTP status"), rows=tuple(row for row in rows if row[1]))


def _codes(policy: Policy, reaction: Reaction) -> str:
    """Return the close codes that get this reaction, runs of them as ranges."""
    return _runs([code for code in range(1000, 5000) if policy.on_close(code) is reaction])


def _runs(codes: Sequence[int]) -> str:
    """Return numbers with runs of them as ranges."""
    runs = []
    # consecutive codes are all as far from their positions in the list
    for _, members in groupby(enumerate(codes), key=lambda row: row[1] - row[0]):
        run = [code for _, code in members]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}")
    return ", ".join(runs)


def table_states() -> Table:
    """Return the states that a sweep counts, and that `sometimes:` may name."""
    return Table(
        headers=("state", "what it is"),
        rows=tuple((word, state.what) for word, state in STATES.items()),
    )


TABLES = {
    "faults": table_faults,
    "actions": table_actions,
    "checks": table_checks,
    "presets": table_presets,
    "policies": table_policies,
    "states": table_states,
}
