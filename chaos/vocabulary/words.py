"""Every word of the timeline by its kind; a word that is added to its table is known everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import Kind, Word

WORDS: Mapping[Kind, Mapping[str, type[Word]]] = {
    "toxic": TOXICS,
    "fault": FAULTS,
    "action": ACTIONS,
}
KINDS: tuple[Kind, ...] = tuple(WORDS)


def exclusive_words() -> list[str]:
    """Return the words of which two windows on the same connections cannot both hold, sorted."""
    return sorted(word for table in WORDS.values() for word, row in table.items() if row.exclusive)
