"""The kinds of entries that a hunt draws from: the draws of every word, from weak to strong.

The order is what shrinking goes by: an entry of an earlier kind, or with an earlier row of parameters, says more
about a bug than a later one that does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.scenario.model import Entry
from chaos.vocabulary.actions import Action
from chaos.vocabulary.base import Seconds
from chaos.vocabulary.word import Draw, Word
from chaos.vocabulary.words import WORDS

# Shares of connections, the surest first: with less than 1, luck decides which of them meet the fault.
SHARES = (1.0, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which hunts draw one word."""

    word: type[Word]
    draw: Draw

    @property
    def needs_ability(self) -> bool:
        """Whether only a subject that declares it can do it."""
        return issubclass(self.word, Action) and not self.word.by_runner

    def entry(self, parameters: Mapping[str, Any], **rest: Any) -> Entry:
        """Return an entry of this kind; see `make_entry`."""
        word, by = self.word, self.draw.by
        return make_entry(word.kind, word.word, parameters, by=by, **rest)

    def strength(self, entry: Entry) -> int:
        """Return the place of an entry's parameters among those of its kind; beyond the last if it has others."""
        rows = [dict(row) for row in self.draw.strengths]
        return rows.index(dict(entry.parameters)) if dict(entry.parameters) in rows else len(rows)


def all_kinds() -> list[Kind]:
    """Return every kind that a hunt may draw, the weakest first."""
    words = [word for table in WORDS.values() for word in table.values()]
    kinds = [Kind(word, draw) for word in words for draw in word.draws]
    return sorted(kinds, key=lambda kind: kind.draw.rank)


def kind_of(entry: Entry) -> Kind:
    """Return the kind of an entry that a hunt drew. Raises KeyError for others."""
    word = WORDS[entry.kind][entry.word]
    for draw in word.draws:
        if draw.by == entry.by:
            return Kind(word, draw)
    raise KeyError(entry.word)


def make_entry(kind: str, word: str, parameters: Mapping[str, Any], **rest: Any) -> Entry:
    """Return an entry; `at_s`, `then_s` and `for_s` among the rest are in seconds."""
    given = {name: value for name, value in rest.items() if value is not None}
    for name in ("at_s", "then_s", "for_s"):
        if name in given:
            given[name] = Seconds(given[name])
    row = {"kind": kind, "word": word, "parameters": dict(parameters), **given}
    return Entry.model_validate(row)


def added_s(entry: Entry) -> float:
    """Return for how long an entry may hold something back, beyond its window too: delays, waits, Retry-After."""
    return entry.settings().added_s(entry.for_s or 0.0)
