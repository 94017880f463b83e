"""From a scenario to a plan: the steps of its timeline, in the order in which they are due.

Repetition is written out, windows become an `on` and an `off` step. Nothing is drawn here: every random choice
is made where it applies, by a generator that `generator` derives from the seed and the name of the choice, so
that adding one fault does not disturb the draws of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from chaos.faults.pipe import Stage
from chaos.scenario.model import Entry, Scenario, Trigger
from chaos.trace import Side, Stream
from chaos.vocabulary.actions import Action
from chaos.vocabulary.faults import Fault
from chaos.vocabulary.toxics import Toxic

Change = Literal["on", "off", "instant", "action"]
Words = Toxic | Fault | Action
STREAMS: tuple[Stream, Stream] = ("upstream", "downstream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change: what, and when. `order` breaks ties: offs before ons, then file order.

    An action with a window has two steps, both of change `action`, the second with `ends`.
    """

    at_s: float
    order: tuple[int, int, int]
    change: Change
    entry: int
    occurrence: int
    ends: bool = False


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

    def actions_of(self, side: Side) -> tuple[str, ...]:
        """Return the actions that a peer is told to carry out by itself, each once."""
        rows = zip(self.scenario.timeline, self.settings, strict=True)
        words = [
            words.word
            for entry, words in rows
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
    steps.sort(key=lambda step: (step.at_s, step.order))
    return Plan(
        scenario=scenario,
        seed=seed,
        steps=tuple(steps),
        triggered=tuple(triggered),
        settings=settings,
    )


def _entry_steps(number: int, entry: Entry, words: Words) -> list[Step]:
    start_s = entry.at_s or 0.0
    steps = []
    for occurrence in range(entry.times):
        at_s = start_s + occurrence * (entry.every_s or 0.0)
        steps += _occurrence_steps(number, occurrence + 1, entry, words, at_s)
    return steps


def _occurrence_steps(
    number: int, occurrence: int, entry: Entry, words: Words, at_s: float
) -> list[Step]:
    def step(change: Change, at_s: float, *, ends: bool = False) -> Step:
        return Step(
            at_s=at_s,
            order=(0 if ends else 1, number, occurrence),
            change=change,
            entry=number,
            occurrence=occurrence,
            ends=ends,
        )

    action = isinstance(words, Action)
    if not entry.has_window:
        return [step("action" if action else "instant", at_s)]
    steps = [step("action" if action else "on", at_s)]
    if entry.for_s is not None:
        steps.append(step("action" if action else "off", at_s + entry.for_s, ends=True))
    return steps


def generator(seed: int, *names: object) -> Random:
    """Return the generator for one random choice, named by its place: the same names, the same draws."""
    return Random("/".join(str(name) for name in (seed, *names)))
