"""Prints the lowest releases that `pyproject.toml` allows, one a line, as pip takes them: `trio==0.27`.

    python tools/lowest.py [EXTRA …]

`.ci/lowest` installs them and runs the shipped scenarios, so that a bound is one that works.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_EXTRAS = re.compile(r"trio-chaos\[(?P<names>[a-z,]+)\]")
_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<lowest>[0-9.]+)(?:,<[0-9.]+)?")


def lowest(extras: Sequence[str] = ()) -> Iterator[str]:
    """Yield a requirement for each direct dependency, and for those of some extras.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    waiting, rows = [*extras], dict.fromkeys(project["dependencies"])
    while waiting:
        for row in project["optional-dependencies"][waiting.pop(0)]:
            own = _EXTRAS.fullmatch(row)
            if own is None:
                rows[row] = None
            else:  # an extra that is made of others
                waiting += own["names"].split(",")
    for row in rows:
        match = _BOUND.fullmatch(row)
        if match is None:
            raise ValueError(f"{row}: expected name>=lowest, with an upper bound or without")
        yield f"{match['name']}=={match['lowest']}"


if __name__ == "__main__":
    print("\n".join(lowest(sys.argv[1:])))
