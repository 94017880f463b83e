"""Replaces attributes of modules and classes for a while: how a run reaches what has no other way in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


@contextmanager
def replaced(*replacements: tuple[Any, str, Any]) -> Iterator[None]:
    """Replace attributes of modules and classes while inside, each given as owner, name and what stands in for it.

    `unittest.mock.patch.object` does the same, but makes a dozen objects for each attribute, and every count of what
    is alive would have to look at them. An attribute that its owner inherits is taken away again in the end.
    """
    originals = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in replacements]
    try:
        for owner, name, stand_in in replacements:
            setattr(owner, name, stand_in)
        yield
    finally:
        for owner, name, original in originals:
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
