"""Virtual time and a deterministic scheduler. The only file that touches trio's private scheduler switches.

trio shuffles the tasks that are ready together with a generator of its own, and breaks ties of equal deadlines by
memory address. `_ALLOW_DETERMINISTIC_SCHEDULING` sorts a batch first, and the seeded generator then shuffles it the
same way each time (trio 0.35, `trio/_core/_run.py`; the switch is what Hypothesis' own plugin for trio sets).
"""

from __future__ import annotations

import random
from typing import Any

import trio
from trio.testing import MockClock


def virtual_clock() -> trio.abc.Clock:
    """Return a clock that jumps to the next deadline whenever every task waits."""
    return MockClock(autojump_threshold=0)


def seed_scheduler(seed: int) -> None:
    """Make trio's scheduling, and `random`, depend on the seed alone; call it before `trio.run`.

    Raises:
        RuntimeError: this release of trio has no such switches; simulated runs would not be reproducible.
    """
    run: Any = trio._core._run
    if not hasattr(run, "_ALLOW_DETERMINISTIC_SCHEDULING") or not hasattr(run, "_r"):
        raise RuntimeError(
            f"trio {trio.__version__} has changed its scheduler: expected _ALLOW_DETERMINISTIC_SCHEDULING "
            "and _r in trio._core._run; simulated runs would not be reproducible"
        )
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    random.seed(seed)
