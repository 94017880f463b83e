"""Sorted times and spans of time, asked often: an answer costs a search by halves, not a walk through all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Spans(Generic[T]):
    """Things that last from one time to another, each end included."""

    def __init__(self, rows: Iterable[tuple[float, float, T]]) -> None:
        """Take (start, end, thing) of each; those of one start stay in their order."""
        ordered = sorted(rows, key=lambda row: row[0])
        self._starts = [start for start, _, _ in ordered]
        self._ends = [end for _, end, _ in ordered]
        # the latest end so far never falls: all before the first that reaches a time are over by then
        self._latest = list(accumulate(self._ends, max))
        self._things = [thing for _, _, thing in ordered]

    def meeting(self, from_s: float, until_s: float) -> Iterator[T]:
        """Yield what lasts at some time between these, by its start; what only touches one of them too."""
        first = bisect_left(self._latest, from_s)
        for place in range(first, bisect_right(self._starts, until_s)):
            if self._ends[place] >= from_s:
                yield self._things[place]

    def meets(self, from_s: float, until_s: float) -> bool:
        """Tell whether something lasts at some time between these."""
        return any(True for _ in self.meeting(from_s, until_s))


class Count:
    """How many of some spans are under way at a time; a span does not include its end."""

    def __init__(self, rows: Iterable[tuple[float, float]]) -> None:
        """Take (start, end) of each; those that end before they start are left out."""
        kept = [(start, end) for start, end in rows if start < end]
        self._starts = sorted(start for start, _ in kept)
        self._ends = sorted(end for _, end in kept)

    def at(self, at_s: float) -> int:
        """Return how many have started by then and have not ended."""
        return bisect_right(self._starts, at_s) - bisect_right(self._ends, at_s)


def count_within(times: Sequence[float], spans: Iterable[tuple[float, float]]) -> int:
    """Return how many of these sorted times lie in one of the spans, ends included."""
    found = reached = 0
    for start, end in sorted(spans):
        first, last = max(reached, bisect_left(times, start)), bisect_right(times, end)
        found += max(0, last - first)
        reached = max(reached, last)
    return found


def between(times: Sequence[float], from_s: float, until_s: float) -> Sequence[float]:
    """Return those of these sorted times that lie between two, both included."""
    return times[bisect_left(times, from_s) : bisect_right(times, until_s)]


def first_after(times: Sequence[float], at_s: float) -> float | None:
    """Return the first of these sorted times that is later than this one."""
    place = bisect_right(times, at_s)
    return times[place] if place < len(times) else None
