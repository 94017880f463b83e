"""trio-chaos: network faults against long-lived connections, with verdicts.

Subjects need `report` and `subject` only. Programs that run scenarios themselves use `load`, `run` and `judge`; tests
of a trio program use `simulate`, which runs it on a virtual network, and `Link`, which stands in front of a server.
What is slow to import is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chaos.recorder import report
from chaos.subject import subject

if TYPE_CHECKING:
    from chaos.api import judge, load, run
    from chaos.networks.alone import Link
    from chaos.running.simulate import simulate

__all__ = ["Link", "judge", "load", "report", "run", "simulate", "subject"]
__version__ = "0.1.0"

_WHERE = {
    "Link": "chaos.networks.alone",
    "judge": "chaos.api",
    "load": "chaos.api",
    "run": "chaos.api",
    "simulate": "chaos.running.simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
