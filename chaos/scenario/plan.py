"""Turns a scenario into a plan: the steps of its timeline, in the order in which they are due.

Repetition is written out, windows become an `on` and an `off` step. Nothing is drawn here: every random choice
is made where it applies, by a generator that `generator` derives from the seed and the name of the choice, so
that appending a fault to the timeline does not disturb the draws of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from random import Random
from typing import Literal

from chaos.faults.pipe import Stage
from chaos.scenario.model import Entry, Scenario, Trigger
from chaos.trace import STREAM_FROM, Side, Stream
from chaos.vocabulary.actions import Action
from chaos.vocabulary.faults import Fault
from chaos.vocabulary.toxics import Toxic
from chaos.wire.messages import Reader, Readers, parse_reader

Change = Literal["on", "off", "instant", "action"]
Words = Toxic | Fault | Action
STREAMS: tuple[Stream, Stream] = ("upstream", "downstream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change: what, and when.

    An action with a window has two steps, both of change `action`, the second with `ends`.
    """

    at_s: float
    change: Change
    entry: int
    occurrence: int
    ends: bool = False

    @property
    def order(self) -> tuple[float, bool, int, int]:
        """Where it stands among all steps: by time, ends before starts, then in file order."""
        return self.at_s, not self.ends, self.entry, self.occurrence


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """Steps that wait for an event: their times count from the event plus `then_s`."""

    trigger: Trigger
    then_s: float
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a run applies. `settings` has the parsed parameters of each timeline entry."""

    scenario: Scenario
    seed: int
    steps: tuple[Step, ...]
    triggered: tuple[Triggered, ...]
    settings: tuple[Words, ...]

    def stages(self, entry: int) -> dict[Stream, Stage]:
        """Return the pipe stages by which an entry acts on each stream it names."""
        words = self.settings[entry]
        assert isinstance(words, (Toxic, Fault)), f"{words.word} has no stages"
        row = self.scenario.timeline[entry]
        stage = Stage(key=entry, settings=words, toxicity=row.toxicity)
        return {stream: stage for stream in STREAMS if row.stream in (stream, "both")}

    def readers(self) -> dict[Stream, Readers]:
        """Return where the numbers of a stream's messages are, for the streams of which a scenario says that."""
        found: dict[Stream, list[Reader | None]] = {}
        for row in self.scenario.workload:
            reader = None if row.id_at is None else parse_reader(row.id_at)
            rows = found.setdefault(STREAM_FROM[row.sender], [])
            if reader not in rows:
                rows.append(reader)
        return {stream: tuple(rows) for stream, rows in found.items() if rows != [None]}

    def actions_of(self, side: Side) -> tuple[str, ...]:
        """Return the actions that a peer is told to carry out by itself, each once."""
        words = [
            words.word
            for entry, words in zip(self.scenario.timeline, self.settings, strict=True)
            if isinstance(words, Action)
            and not words.by_runner
            and side == (entry.by or words.peers[0])
        ]
        return tuple(dict.fromkeys(words))


def make_plan(scenario: Scenario, seed: int) -> Plan:
    """Return the plan of a scenario. The scenario must be valid (its parameters are parsed here)."""
    steps: list[Step] = []
    triggered: list[Triggered] = []
    settings = tuple(entry.settings() for entry in scenario.timeline)
    for number, (entry, words) in enumerate(zip(scenario.timeline, settings, strict=True)):
        own = _entry_steps(number, entry, words)
        if entry.on is None:
            steps += own
        else:
            triggered.append(Triggered(trigger=entry.on, then_s=entry.then_s, steps=tuple(own)))
    return Plan(
        scenario=scenario,
        seed=seed,
        steps=tuple(sorted(steps, key=attrgetter("order"))),
        triggered=tuple(triggered),
        settings=settings,
    )


def _entry_steps(number: int, entry: Entry, words: Words) -> list[Step]:
    is_action = isinstance(words, Action)
    begin: Change = "action" if is_action else "on" if entry.has_window else "instant"
    end: Change = "action" if is_action else "off"
    steps = []
    for occurrence, at_s in enumerate(entry.starts_s(), start=1):
        step = Step(at_s=at_s, change=begin, entry=number, occurrence=occurrence)
        steps.append(step)
        if entry.has_window and entry.for_s is not None:
            steps.append(replace(step, at_s=at_s + entry.for_s, change=end, ends=True))
    return steps


def generator(seed: int, *names: object) -> Random:
    """Return the generator for one random choice, named by its place: the same names, the same draws."""
    return Random("/".join(str(name) for name in (seed, *names)))
