"""Everything that checks read about one run, computed once from its trace.

An `Occurrence` is one time that a timeline entry was in force, as it was recorded: bounds count from the `apply`
event, never from the planned time. A `Context` is the whole run, a `Scope` what one expectation is about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from chaos.checks.connections import ConnectionRecord, assign_slots, read_connections
from chaos.checks.lateness import Lateness
from chaos.checks.spans import Count, Spans
from chaos.scenario.model import Entry, Expectation, Scenario, Subject
from chaos.scenario.rules import WHOLE_RUN_CHECKS, speaks_of
from chaos.trace import Event, Side, Trace
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.word import Word

# times in a trace file are rounded to microseconds, so a difference of two may be off by one
EPSILON_S = 2e-6
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time that an entry was in force, in seconds from time zero.

    For an instant `end_s` equals `start_s`. `ended` is false for a window that was still open at the end of the run.
    """

    index: int
    number: int
    start_s: float
    end_s: float
    ended: bool


def label(entry: Entry) -> str:
    """Return how reasons speak of an entry: `stall` (outage)."""
    return f"`{entry.word}` ({entry.name})" if entry.name else f"`{entry.word}`"


def occurrences_of(trace: Trace, index: int, entry: Entry, end_s: float) -> tuple[Occurrence, ...]:
    """Return each time the entry was in force before `end_s`, as recorded, in order."""
    found: list[Occurrence] = []
    windowed = entry.has_window
    for event in trace.select("apply", entry=index):
        if event.at_s > end_s:
            continue
        if _ends_window(event, found, windowed):
            _close(found, event)
            continue
        begun = Occurrence(
            index=index,
            number=int(event.get("occurrence", len(found) + 1)),
            start_s=event.at_s,
            end_s=end_s if windowed else event.at_s,
            ended=not windowed,
        )
        found.append(begun)
    return tuple(found)


def _ends_window(event: Event, found: list[Occurrence], windowed: bool) -> bool:
    """Tell whether an `apply` ends a window; an action's second step may say so or just repeat its occurrence."""
    if event.get("change") == "off" or event.get("ends"):
        return True
    number = event.get("occurrence")
    return windowed and number is not None and any(row.number == number for row in found)


def _close(found: list[Occurrence], event: Event) -> None:
    """End the occurrence that this `off` belongs to: its number if recorded, else the first one still open."""
    number = event.get("occurrence")
    for position, row in enumerate(found):
        if not row.ended and number in (None, row.number):
            found[position] = replace(row, end_s=event.at_s, ended=True)
            return


def concerns(entry: Entry, client: int) -> bool:
    """Tell whether the entry applies to this client."""
    return entry.clients is None or client in entry.clients


def covering(rows: Iterable[Occurrence], at_s: float, *, grace_s: float = 0.0) -> bool:
    """Tell whether one of these occurrences was in force at that time, or within `grace_s` before it."""
    return any(row.start_s <= at_s <= row.end_s + grace_s for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one expectation is about: each time its entry was in force, and the clients to which it applies.

    Without an entry (`index` is None) that is the whole run, as one occurrence, and all clients. There is one
    occurrence at least. `tolerance_s` is added to each bound; in it is `late_s`, by how much the harness may have
    made things late, and `early_s` is by how much it may have made two moments seem closer together.
    """

    index: int | None
    rows: tuple[Occurrence, ...]
    clients: Sequence[int]
    tolerance_s: float
    late_s: float = 0.0
    early_s: float = 0.0

    @property
    def since_s(self) -> float:
        """When it begins."""
        return self.rows[0].start_s


@dataclass(frozen=True)
class Context:
    """A trace with what follows from it. `end_s` is the end of what is judged.

    `forgiving`: what the harness may have made late is taken off what the subjects took.
    """

    trace: Trace
    scenario: Scenario
    end_s: float
    forgiving: bool = False

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
    def connections(self) -> dict[int, list[ConnectionRecord]]:
        """The connections of each client, in order."""
        return read_connections(self.trace)

    def of_client(self, client: int) -> list[ConnectionRecord]:
        """Return the connections of one client, in order."""
        return self.connections.get(client, [])

    @cached_property
    def _slots(self) -> dict[int, list[list[ConnectionRecord]]]:
        return {client: assign_slots(own) for client, own in self.connections.items()}

    def slots_of(self, client: int) -> list[list[ConnectionRecord]]:
        """Return the connections of one client by slot (`assign_slots`)."""
        return self._slots.get(client, [])

    def touched(self, index: int, connection: ConnectionRecord) -> float | None:
        """Return when an entry first touched this very connection; a fault of a path touches all of its client's."""
        first = self._first_felt.get(index, {})
        client, number = connection.client, connection.number
        keys = ((client, number), (client, None), (None, number), (None, None))
        return min((first[key].at_s for key in keys if key in first), default=None)

    @cached_property
    def _first_felt(self) -> dict[int, dict[tuple[int | None, int | None], Event]]:
        """With which event each entry first touched each connection, by client and number; None stands for all."""
        found: dict[int, dict[tuple[int | None, int | None], Event]] = {}
        for event in self.trace.select("felt"):
            rows, key = found.setdefault(event["entry"], {}), (event.client, event.connection)
            if key not in rows or event.at_s < rows[key].at_s:
                rows[key] = event
        return found

    def felt_on(self, index: int) -> Mapping[tuple[int | None, int | None], Event]:
        """Return with which event an entry first touched each connection, by client and number."""
        return self._first_felt.get(index, {})

    @cached_property
    def _felt_connections(self) -> dict[tuple[int, int | None], set[int | None]]:
        found: dict[tuple[int, int | None], set[int | None]] = {}
        for index, rows in self._first_felt.items():
            for client, number in rows:
                found.setdefault((index, client), set()).add(number)
        return found

    def felt_by(self, index: int, client: int) -> set[int | None]:
        """Return the numbers of a client's connections that an entry touched; None for one of its path."""
        return self._felt_connections.get((index, client), set())

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what `make` makes, which several parts of a check ask for: it is made at the first call."""
        if what not in self._made:
            self._made[what] = make()
        made: T = self._made[what]
        return made

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    def attempts_of(self, client: int) -> list[float]:
        """Return when a client's connection attempts reached the link, in order."""
        return self._attempts.get(client, [])

    @cached_property
    def _attempts(self) -> dict[int | None, list[float]]:
        found: dict[int | None, list[float]] = defaultdict(list)
        for event in self.trace.select("attempt"):
            found[event.client].append(event.at_s)
        return {client: sorted(times) for client, times in found.items()}

    def starts_of(self, client: int) -> list[float]:
        """Return when a client was started, in order."""
        return self._starts[client]

    @cached_property
    def _starts(self) -> _PerClient[list[float]]:
        return _PerClient(
            lambda client: sorted(
                event.at_s
                for event in self.trace.select("subject_start", subject="client", client=client)
            )
        )

    def going_on(self, client: int) -> Spans[ConnectionRecord]:
        """Return the connections and attempts of a client, each until it was over."""
        return self._going_on[client]

    @cached_property
    def _going_on(self) -> _PerClient[Spans[ConnectionRecord]]:
        return _PerClient(
            lambda client: Spans((c.attempt_s, c.over_s(), c) for c in self.of_client(client))
        )

    def opened(self, client: int) -> Spans[ConnectionRecord]:
        """Return the connections of a client that opened, each until the first sign of its ending."""
        return self._opened[client]

    @cached_property
    def _opened(self) -> _PerClient[Spans[ConnectionRecord]]:
        return _PerClient(
            lambda client: Spans(
                (c.open_s, c.lost_s(), c) for c in self.of_client(client) if c.open_s is not None
            )
        )

    def alive(self, client: int, *, opened: bool) -> Count:
        """Return how many attempts and connections of a client go on at a time, or have opened by then."""
        return (self._open_counts if opened else self._counts)[client]

    @cached_property
    def _counts(self) -> _PerClient[Count]:
        return _PerClient(
            lambda client: Count((c.attempt_s, c.over_s()) for c in self.of_client(client))
        )

    @cached_property
    def _open_counts(self) -> _PerClient[Count]:
        return _PerClient(
            lambda client: Count(
                (max(c.open_s, c.attempt_s), c.over_s())
                for c in self.of_client(client)
                if c.open_s is not None
            )
        )

    def in_force(self, index: int, *, late: float = 0.0) -> Spans[Occurrence]:
        """Return each time that an entry was in force; with `late`, longer by its own length and this much."""
        if (index, late) not in self._in_force:
            rows = self.occurrences[index]
            ends = [row.end_s + (row.end_s - row.start_s + late if late else 0.0) for row in rows]
            self._in_force[index, late] = Spans(
                (row.start_s, end_s, row) for row, end_s in zip(rows, ends, strict=True)
            )
        return self._in_force[index, late]

    @cached_property
    def _in_force(self) -> dict[tuple[int, float], Spans[Occurrence]]:
        return {}

    @cached_property
    def lateness(self) -> Lateness:
        """How late the harness may have been."""
        return Lateness(self.trace)

    @cached_property
    def steady_s(self) -> float | None:
        """When the steady state was reached, if it was."""
        return next((event.at_s for event in self.trace.select("steady")), None)

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
        return self.trace.select("felt", entry=index)

    def tolerance_s(self, expectation: Expectation) -> float:
        """Return what is added to each bound: the tolerance on real clocks, rounding only on virtual time."""
        if self.virtual:
            return EPSILON_S
        stated = expectation.tolerance_s
        return EPSILON_S + (self.scenario.tolerance_s if stated is None else stated)

    def scope_of(
        self, expectation: Expectation, *, late_s: float = 0.0, early_s: float = 0.0
    ) -> Scope:
        """Return what an expectation is about, judged with this much lateness of the harness.

        Raises LookupError when the entry that it names is not there, or never took effect.
        """
        index = speaks_of(self.scenario, expectation)
        whole = Occurrence(index=-1, number=1, start_s=0.0, end_s=self.end_s, ended=True)
        rows = (whole,) if index is None else self.occurrences[index]
        if index is not None and not rows:
            name = label(self.entry(index))
            if expectation.check in WHOLE_RUN_CHECKS:
                key = CHECKS[expectation.check].entries[0]
                name = f"entry {expectation.parameters.get(key)!r}"
            raise LookupError(f"{name} never took effect")
        return Scope(
            index=index,
            rows=rows,
            clients=self.clients if index is None else self.concerned(self.entry(index)),
            tolerance_s=self.tolerance_s(expectation) + late_s,
            late_s=late_s,
            early_s=early_s,
        )

    @property
    def pong_waits_s(self) -> list[float]:
        """How long each peer with a heartbeat waits for a pong."""
        beats = (self.scenario.client.heartbeat, self.scenario.server.heartbeat)
        return [beat.timeout_s for beat in beats if beat is not None]

    def subject(self, side: Side) -> Subject:
        """Return the settings of a peer."""
        return self.scenario.client if side == "client" else self.scenario.server

    def states(self, side: Side, client: int) -> list[Event]:
        """Return the states that a subject reported; a server's must name the client, unless there is only one."""
        return self._states.get((side, client), [])

    @cached_property
    def _states(self) -> dict[tuple[str, int], list[Event]]:
        found: dict[tuple[str, int], list[Event]] = defaultdict(list)
        only = self.clients[0] if len(self.clients) == 1 else None
        for event in self.trace.select("state"):
            client = only if event.client is None else event.client
            if client is not None:
                found[str(event.get("subject")), client].append(event)
        return found


class _PerClient(dict[int, T]):
    """Makes what it is asked for of a client, once."""

    def __init__(self, make: Callable[[int], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, client: int) -> T:
        self[client] = self._make(client)
        return self[client]


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
