"""Everything that checks read about one run, computed once from its trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chaos.checks.connections import Connection, read_connections
from chaos.checks.entries import Occurrence, concerns, events_of, label, occurrences_of
from chaos.checks.verdict import Finding, Measure, Outcome
from chaos.scenario.model import Entry, Expectation, Scenario
from chaos.trace import Event, Side, Trace
from chaos.vocabulary.word import Word

# times in a trace file are rounded to microseconds, so a difference of two may be off by one
EPSILON_S = 2e-6


@dataclass(frozen=True)
class Context:
    """A trace with what follows from it. `end_s` is the end of what is judged."""

    trace: Trace
    scenario: Scenario
    end_s: float

    @classmethod
    def of(cls, trace: Trace, scenario: Scenario | None = None) -> Context:
        """Return the context of a trace, whose scenario this is; without one it is read from the header."""
        read = scenario or Scenario.from_json(trace.header.scenario)
        return cls(trace.judged, read, trace.end_s())

    @property
    def virtual(self) -> bool:
        """Whether the run had a virtual clock."""
        return self.trace.header.network == "simulated"

    @property
    def clients(self) -> range:
        """The clients' numbers."""
        return range(1, self.scenario.client.count + 1)

    @cached_property
    def connections(self) -> dict[int, list[Connection]]:
        """The connections of each client, in order."""
        return read_connections(self.trace)

    def of_client(self, client: int) -> list[Connection]:
        """Return the connections of one client, in order."""
        return self.connections.get(client, [])

    @cached_property
    def attempts(self) -> dict[int, list[float]]:
        """When each client's connection attempts reached the link."""
        found: dict[int, list[float]] = {}
        for event in self.trace.select("attempt"):
            if event.client is not None:
                found.setdefault(event.client, []).append(event.at_s)
        return found

    @cached_property
    def lags(self) -> list[tuple[float, float]]:
        """When the event loop was late, and by how much."""
        return [(event.at_s, float(event["lag_s"])) for event in self.trace.select("lag")]

    @cached_property
    def steady_s(self) -> float | None:
        """When the steady state was reached, if it was."""
        events = self.trace.select("steady")
        return events[0].at_s if events else None

    @cached_property
    def occurrences(self) -> tuple[tuple[Occurrence, ...], ...]:
        """Each time that each entry was in force, by the entry's index."""
        return tuple(
            occurrences_of(self.trace, index, entry, self.end_s)
            for index, entry in enumerate(self.scenario.timeline)
        )

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The word of each entry with its parameters."""
        return tuple(entry.settings() for entry in self.scenario.timeline)

    def entry(self, index: int) -> Entry:
        """Return an entry of the timeline."""
        return self.scenario.timeline[index]

    def concerned(self, entry: Entry) -> list[int]:
        """Return the clients to which an entry applies."""
        return [client for client in self.clients if concerns(entry, client)]

    def felt(self, index: int) -> list[Event]:
        """Return the events in which an entry touched something."""
        return events_of(self.trace, "felt", index)

    def tolerance_s(self, expectation: Expectation) -> float:
        """Return what is added to each bound: the tolerance on real clocks, rounding only on virtual time."""
        if self.virtual:
            return EPSILON_S
        stated = expectation.tolerance_s
        return EPSILON_S + (self.scenario.tolerance_s if stated is None else stated)

    def states(self, side: Side, client: int) -> list[Event]:
        """Return the states that a subject reported; a server's must name the client, unless there is only one."""
        return [
            event
            for event in self.trace.select("state")
            if event.get("subject") == side
            and (event.client == client or (event.client is None and len(self.clients) == 1))
        ]


def seconds(value: float) -> str:
    """Return a time or a length as reports print it, to the millisecond."""
    return f"{value:.3f} s"


def window_line(context: Context, row: Occurrence) -> str:
    """Return one line of evidence: when this entry was in force."""
    entry = context.entry(row.index)
    if not entry.has_window:
        return f"{seconds(row.start_s)}: {label(entry)}"
    until = seconds(row.end_s) if row.ended else "the end of the run"
    return f"{seconds(row.start_s)}: {label(entry)} began; it lasted until {until}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One part of a check (one client, one occurrence): its outcome, and how bad it is among equals."""

    outcome: Outcome
    reason: str
    badness: float = 0.0
    evidence: tuple[str, ...] = ()
    measured: tuple[tuple[str, Measure], ...] = ()


def worst(check: str, parts: Sequence[Judgement], *, nothing: str, **more: Any) -> Finding:
    """Return the finding of a check that judged these parts: the worst is reported.

    INCONCLUSIVE parts matter only where nothing failed; with no parts at all the finding is INCONCLUSIVE and says
    `nothing`.
    """
    if not parts:
        return Finding(check=check, outcome=Outcome.INCONCLUSIVE, reason=nothing)
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS):
        group = [part for part in parts if part.outcome is outcome]
        if group:
            break
    part = max(group, key=lambda row: row.badness)
    return Finding(
        check=check,
        outcome=part.outcome,
        reason=part.reason,
        evidence=part.evidence,
        measured={**dict(part.measured), **more},
    )


def inconclusive(check: str, reason: str, *evidence: str) -> Finding:
    """Return the finding of a check that lacks what it needs."""
    return Finding(
        check=check, outcome=Outcome.INCONCLUSIVE, reason=reason, evidence=tuple(evidence)
    )
