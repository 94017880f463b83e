"""Checks of one's own: a function over the trace, named by `use:` in a scenario."""

from __future__ import annotations

from chaos.checks.verdict import Judgement, failed, passed, undecided
from chaos.trace import Event, Trace


def speaks_after_each_open(trace: Trace, *, within_s: float) -> Judgement:
    """Judge that after each opening the client sends a message within this time.

    A connection that did not live that long is not judged.
    """
    opened = trace.select("open")
    for event in opened:
        due_s = event.at_s + within_s
        if due_s < min(_end_s(trace, event), trace.end_s()) and not _spoke(trace, event, due_s):
            return failed(
                f"connection {event.connection} of client {event.client}, open since "
                f"{event.at_s:.3f} s, carried no message of the client's until {due_s:.3f} s"
            )
    return passed("passed") if opened else undecided("no connection was ever open")


def _end_s(trace: Trace, opened: Event) -> float:
    ends = trace.select("fin", "rst", "closed", client=opened.client)
    return min((e.at_s for e in ends if e.connection == opened.connection), default=float("inf"))


def _spoke(trace: Trace, opened: Event, due_s: float) -> bool:
    frames = trace.select("frame", client=opened.client, side="client", opcode="text")
    return any(
        e.connection == opened.connection and e.stream == "upstream" and e.at_s <= due_s
        for e in frames
    )
