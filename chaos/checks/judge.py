"""From a trace to its verdict: the guards, each expectation's check, and what they add up to.

A check of the user's own is a function `check(trace, **parameters)` that returns a `Finding`, or a `Judgement` such
as `passed("…")`; with anything else it has not judged. It is resolved by the loader that the caller passes: importing
is not pure, and a trace may come from anywhere, so that the caller decides whose code is run.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chaos.checks.alarms import accuses, no_false_alarm
from chaos.checks.availability import availability, cost
from chaos.checks.backoff import backoff
from chaos.checks.conduct import (
    close_code,
    handshake,
    never_sends_before_open,
    single_connection,
)
from chaos.checks.context import Context, Scope, label, seconds
from chaos.checks.delivery import delivers, single_handler
from chaos.checks.detection import detects_dead_peer
from chaos.checks.doubts import DOUBTS, SAID_FROM_S, SHARE_MAX, Doubt
from chaos.checks.guards import LOOP_LAG, VETOES, felt_at_s, run_guards
from chaos.checks.herd import herd
from chaos.checks.leaks import no_leaks
from chaos.checks.recovery import never_reconnects, reconnects
from chaos.checks.verdict import (
    LATE,
    UNDECODED_AT,
    Finding,
    Judgement,
    Outcome,
    Verdict,
    combine,
    undecided,
)
from chaos.scenario.model import Expectation, Scenario
from chaos.scenario.rules import speaks_of
from chaos.trace import Trace
from chaos.vocabulary.checks import CHECKS, CheckSettings

Check = Callable[[Context, Any, Scope], Judgement]
# Returns the function that a name stands for, or None where the caller does not run it.
CheckLoader = Callable[[str], Callable[..., Any] | None]
# nothing is known of what a check of the user's own reads
_OWN = Doubt(width=lambda _context, _settings: 0.0)

JUDGES: Mapping[str, Check] = {
    "detects_dead_peer": detects_dead_peer,
    "no_false_alarm": no_false_alarm,
    "reconnects": reconnects,
    "never_reconnects": never_reconnects,
    "backoff": backoff,
    "delivers": delivers,
    "no_leaks": no_leaks,
    "single_connection": single_connection,
    "single_handler": single_handler,
    "close_code": close_code,
    "handshake": handshake,
    "never_sends_before_open": never_sends_before_open,
    "herd": herd,
    "availability": availability,
    "cost": cost,
}


def judge(
    trace: Trace,
    *,
    check_loader: CheckLoader | None = None,
    scenario: Scenario | None = None,
    strict: bool = False,
) -> Verdict:
    """Return the verdict on a run.

    Args:
        trace: the run; its header holds the whole scenario.
        check_loader: resolves `my.module:check` of a `use:` expectation to a function; without one, and where it
            gives None, such an expectation is INCONCLUSIVE.
        scenario: that of the header, where the caller has it; it is read from the header otherwise.
        strict: whether a check that is not applicable is INCONCLUSIVE; else it is left out.

    Raises:
        pydantic.ValidationError: the header's scenario is not one (the trace is of another version).
    """
    context = Context.of(trace, scenario)
    guards, loader = run_guards(context), check_loader or _no_loader
    findings = [
        _hold_back(context, row, _judge_late(context, row, loader), guards)
        for row in context.scenario.expect
    ]
    if strict:
        findings = [_as_undecided(finding) for finding in findings]
    everything = (*guards, *findings)
    return Verdict(
        scenario=context.scenario.title,
        path=context.scenario.path,
        network=trace.header.network,
        seed=trace.header.seed,
        outcome=combine(everything),
        findings=everything,
        duration_s=context.end_s,
        # after the end as well; looked for by hand, since an index is for many questions
        warnings=tuple(str(e.get("text", "")) for e in trace.events if e.kind == "warning"),
    )


def _as_undecided(finding: Finding) -> Finding:
    if finding.outcome is not Outcome.SKIPPED:
        return finding
    reason = f"not applicable: {finding.reason}"
    return replace(finding, outcome=Outcome.INCONCLUSIVE, reason=reason)


def _no_loader(_name: str) -> None:
    """Run nothing of what a trace names."""


def _judge_late(context: Context, expectation: Expectation, loader: CheckLoader) -> Finding:
    """Judge one expectation; a failure that the harness's own lateness explains is INCONCLUSIVE."""
    finding = _judge_one(context, expectation, loader)
    doubt = DOUBTS.get(expectation.check) if expectation.use is None else None
    if finding.outcome is not Outcome.FAIL or doubt is None:
        return finding
    width_s = doubt.width(context, CHECKS[expectation.check].model_validate(expectation.parameters))
    width_s = min(width_s, context.end_s)
    late_s = context.lateness.within(width_s)
    if late_s < SAID_FROM_S:
        return finding
    if doubt.widens:
        kinder = replace(context, forgiving=True)
        early_s = context.lateness.longest_s
        again = _judge_one(kinder, expectation, loader, late_s=late_s, early_s=early_s)
        explained = again.outcome is not Outcome.FAIL
    else:
        explained = late_s > SHARE_MAX * width_s
    if not explained:
        return finding
    within = f"in {width_s:g} s" if width_s < context.end_s else "in the whole run"
    reason = f"not judged, since the machine may have made it late by {seconds(late_s)} {within}"
    return replace(
        finding,
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{reason}; {finding.reason}",
        measured={**finding.measured, LATE: round(late_s, 6)},
    )


def _judge_one(
    context: Context,
    expectation: Expectation,
    loader: CheckLoader,
    *,
    late_s: float = 0.0,
    early_s: float = 0.0,
) -> Finding:
    """Judge one expectation; a check that crashes is INCONCLUSIVE, with the traceback as evidence."""
    try:
        if expectation.use is not None:
            answer: Judgement | Finding = _judge_own(context, expectation, loader)
        else:
            answer = _judge_built_in(context, expectation, late_s, early_s)
    except Exception as error:
        answer = undecided(
            f"the check crashed: {type(error).__name__}: {error}",
            evidence=tuple(traceback.format_exc().splitlines()),
        )
    return Finding(
        check=expectation.use or expectation.check,
        outcome=answer.outcome,
        reason=answer.reason,
        evidence=tuple(answer.evidence),
        measured=dict(answer.measured),
        line=expectation.line,
        culprit=answer.culprit,
    )


def _judge_built_in(
    context: Context, expectation: Expectation, late_s: float, early_s: float
) -> Judgement:
    settings = CHECKS[expectation.check].model_validate(expectation.parameters)
    try:
        scope = context.scope_of(expectation, late_s=late_s, early_s=early_s)
    except LookupError as error:
        return undecided(str(error))
    answer = JUDGES[expectation.check](context, settings, scope)
    return _doubted(context, scope, settings, answer) if settings.frames else answer


def _doubted(
    context: Context, scope: Scope, settings: CheckSettings, answer: Judgement
) -> Judgement:
    """Return INCONCLUSIVE in place of an answer that rests on frames which the link could not decode."""
    if answer.outcome is Outcome.INCONCLUSIVE or UNDECODED_AT in answer.measured:
        return answer
    named = answer.measured.get("client") if answer.outcome is Outcome.FAIL else None
    for client in scope.clients if named is None else (int(named),):
        for connection in context.of_client(client):
            event = connection.undecoded(settings.streams())
            if event is not None and not accuses(connection, event):
                where = f"connection {connection.number} of client {client}, {event.stream}"
                what = f"byte {event.get('at_byte')} of {where}: {event.get('why')}"
                evidence = (f"{seconds(event.at_s)}: {what}", answer.reason)
                return undecided(f"frames could not be decoded from {what}", evidence=evidence)
    return answer


def _judge_own(
    context: Context, expectation: Expectation, loader: CheckLoader
) -> Judgement | Finding:
    """Ask a check of the user's own. Its answer is its own: neither a guard's nor another check's."""
    check = loader(expectation.use or "")
    if check is None:
        return undecided(
            "not judged: no code that a trace names is run; `recheck --use FILE` gives a check of one's own"
        )
    answer = check(context.trace, **expectation.parameters)
    if isinstance(answer, Finding | Judgement) and _is_sound(answer):
        return answer
    got = (
        repr(answer) if answer is None or isinstance(answer, bool | int) else type(answer).__name__
    )
    return undecided(f"the check did not judge: it returned {got}; expected a Finding")


def _is_sound(answer: Finding | Judgement) -> bool:
    """Tell whether what a check of the user's own returned has the types that reports rely on."""
    return (
        isinstance(answer.outcome, Outcome)
        and isinstance(answer.reason, str)
        and isinstance(answer.evidence, tuple | list)
        and all(isinstance(line, str) for line in answer.evidence)
        and isinstance(answer.measured, Mapping)
        and answer.culprit in ("", "client", "server")
    )


def _hold_back(
    context: Context, expectation: Expectation, finding: Finding, guards: list[Finding]
) -> Finding:
    """Turn a failure that a guard forbids into INCONCLUSIVE."""
    if finding.outcome is not Outcome.FAIL:
        return finding
    doubt = DOUBTS.get(expectation.check) if expectation.use is None else _OWN
    untouched = () if doubt is not None and doubt.spreads else (LOOP_LAG,)
    vetoes = (guard for guard in guards if guard.check in VETOES and guard.check not in untouched)
    reasons = [guard.reason for guard in vetoes if guard.outcome is Outcome.INCONCLUSIVE]
    index = speaks_of(context.scenario, expectation) if expectation.use is None else None
    if index is not None and felt_at_s(context, index) is None:
        reasons.append(f"{label(context.entry(index))} touched nothing")
    if not reasons:
        return finding
    reason = f"not judged, since {reasons[0]}; {finding.reason}"
    return replace(finding, outcome=Outcome.INCONCLUSIVE, reason=reason)
