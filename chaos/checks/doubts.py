"""Which failures the harness's own lateness explains: one stands only if it would also be one without it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chaos.checks.context import Context
from chaos.checks.paths import heartbeat_timeout_s

# the part of a time that lateness may take before a failure is doubted, where the check has no bound to widen
SHARE_MAX = 0.5
# below this nothing is said of it: a process that runs for a moment now and then is no news
SAID_FROM_S = 0.01

Width = Callable[[Context, Any], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How lateness can explain a failure of a check.

    `width`: how long what the check times may take, in seconds. `widens`: its bounds take lateness in (`Scope`), so
    that it can be judged anew with it; else it is doubted when lateness takes more than `SHARE_MAX` of the width.
    `spreads`: a subject that is late may do something else instead (give up, wait longer), and so a lag that is too
    long for the tightest bound puts everything in doubt.
    """

    width: Width
    widens: bool = False
    spreads: bool = True


def _whole(_context: Context, _settings: Any) -> float:
    return math.inf


# what is not here is no matter of time: lateness explains no failure of it
DOUBTS: Mapping[str, Doubt] = {
    "detects_dead_peer": Doubt(width=lambda _, s: s.within_s, widens=True, spreads=False),
    "reconnects": Doubt(width=lambda _, s: s.within_s + s.stable_for_s, widens=True),
    "backoff": Doubt(width=lambda _, s: s.max_s, widens=True, spreads=False),
    "availability": Doubt(width=_whole, widens=True),
    "single_connection": Doubt(width=lambda _, s: s.grace_s, widens=True),
    "herd": Doubt(width=lambda _, s: max(1.0, s.spread_s or 0.0), widens=True),
    "no_false_alarm": Doubt(width=lambda context, _: heartbeat_timeout_s(context)),
    "delivers": Doubt(width=lambda context, _: context.scenario.settle_s),
    "no_leaks": Doubt(width=_whole),  # what grows over cycles is not explained by one late moment
    "close_code": Doubt(width=lambda context, s: context.subject(s.by).close_timeout_s),
    "handshake": Doubt(width=lambda _context, _settings: 1.0, widens=True, spreads=False),
}
