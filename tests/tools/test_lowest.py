"""The lowest releases that the project allows: each dependency has a bound, and the unstable one an upper one."""

from __future__ import annotations

import re
import tomllib

import lowest


def test_every_dependency_has_a_lowest_release() -> None:
    names = [row.split("==")[0] for row in lowest.lowest(["all", "hunt", "dask", "test"])]
    assert {"trio", "wsproto", "hypercorn", "h11", "hypothesis", "distributed"} <= set(names)


def test_what_is_used_from_the_inside_has_an_upper_bound() -> None:
    project = tomllib.loads(lowest.PROJECT.read_text(encoding="utf-8"))["project"]
    server = project["optional-dependencies"]["server"]
    [hypercorn] = [row for row in server if row.startswith("hypercorn")]
    assert re.search(r",<\d", hypercorn)
