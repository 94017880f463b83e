"""The judge and its guards: what may be judged, what holds a failure back, what a check of one's own may say."""

from __future__ import annotations

import pytest
from support.figures import figures

from chaos.checks.judge import JUDGES, judge
from chaos.checks.verdict import Finding, Outcome, Verdict, failed, passed
from chaos.trace import Trace, dump_trace, parse_trace
from chaos.vocabulary.checks import CHECKS


@pytest.fixture
def run(story, entry, expect):
    """A run in which all is well: a reset at 20 s, and the client is back a second later."""

    def make(*, expects=None, timeline=None, **more):
        made = story(
            duration="60s",
            timeline=[entry("reset", at="20s", name="cut")] if timeline is None else timeline,
            expect=expects or [expect("reconnects", after="cut", within="10s")],
            **more,
        )
        made.connect(1)
        if made.scenario.timeline:
            made.apply(20, change="instant").felt(20)
            made.end(20, "rst", 1, "client", by="server").end(20, "rst", 1, "server", by="client")
            made.add(20, "closed", client=1, connection=1).connect(21, 2)
        return made

    return make


def guard(verdict: Verdict, name: str) -> Finding:
    return next(f for f in verdict.findings if f.guard and f.check == name)


def test_every_check_of_the_vocabulary_is_judged():
    assert set(JUDGES) == set(CHECKS)


def test_a_good_run_passes_with_all_guards_passed(run):
    verdict = run().steady().verdict()
    assert verdict.outcome is Outcome.PASS
    assert [f.check for f in verdict.findings if f.guard] == [
        "complete", "connected", "steady_state", "felt", "subject_alive", "loop_lag",
    ]  # fmt: skip
    assert verdict.scenario == "story"
    assert verdict.duration_s == 60.0


def test_a_verdict_goes_to_json_and_back(run):
    verdict = run().steady().verdict()
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_trace_read_from_its_file_gives_the_same_verdict(run):
    trace = run().steady().trace()
    again = parse_trace(dump_trace(trace).splitlines(keepends=True))
    assert judge(again) == judge(trace)


def test_a_subject_that_never_connects_is_inconclusive_whatever_else_failed(run):
    made = run()
    made.events = [e for e in made.events if e.kind in ("start", "apply", "felt")]
    verdict = made.refused(3, 1).verdict()
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert guard(verdict, "connected").outcome is Outcome.INCONCLUSIVE
    assert guard(verdict, "connected").evidence == (
        "3.000 s: attempt of client 1: dial_failed refused",
    )


def test_without_a_steady_state_a_failure_is_held_back(run):
    made = run()
    made.events = [e for e in made.events if e.at_s < 21]
    verdict = made.verdict()
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert guard(verdict, "steady_state").outcome is Outcome.INCONCLUSIVE
    assert verdict.findings[-1].outcome is Outcome.INCONCLUSIVE
    assert made.steady().verdict().outcome is Outcome.FAIL


def test_a_steady_state_after_the_first_fault_is_too_late(run):
    finding = guard(run().steady(30).verdict(), "steady_state")
    assert figures(finding) == ("INCONCLUSIVE", 30, 20)


def test_scenarios_about_the_handshake_need_an_attempt_that_met_the_fault(run):
    made = run(steady_state="none")
    assert guard(made.verdict(), "steady_state").outcome is Outcome.PASS
    made.events = [e for e in made.events if e.kind != "felt"]
    assert guard(made.verdict(), "steady_state").outcome is Outcome.INCONCLUSIVE


def test_an_entry_that_touched_nothing_is_inconclusive_unless_allowed(run, entry):
    made = run().steady()
    made.events = [e for e in made.events if e.kind != "felt"]
    verdict = made.verdict()
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "`reset` (cut)" in guard(verdict, "felt").reason
    made = run(timeline=[entry("reset", at="20s", name="cut", allow_unfelt=True)]).steady()
    made.events = [e for e in made.events if e.kind != "felt"]
    assert made.verdict().outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("word", "by", "show"),
    [
        ("close", "server", lambda s: s.close(20, code=4000)),
        ("crash", "server", lambda s: s.end(20, "rst", 1, "server")),
        ("restart", "server", lambda s: s.add(25, "subject_start", subject="server")),
        ("reject", "server", lambda s: s.rejected(25, 9, 403)),
        ("reject", "server", lambda s: s.close(25, code=1008)),
        ("drain", "server", lambda s: s.close(25, code=1001)),
        ("send", "client", lambda s: s.frame(20.1, by="client")),
        ("offline", "client", lambda s: s),
    ],
)
def test_an_action_is_felt_by_what_it_leaves_in_the_trace(story, entry, word, by, show):
    parameters = {"code": 4000} if word == "close" else {}
    made = story(timeline=[entry(word, "action", at="20s", by=by, parameters=parameters)])
    made.connect(1).steady().frame(5, by="client").apply(20, change="action").frame(22)
    felt_before = guard(made.verdict(), "felt").outcome
    assert guard(show(made).verdict(), "felt").outcome is Outcome.PASS
    assert (felt_before is Outcome.PASS) == (word == "offline")


@pytest.mark.parametrize(("code", "outcome"), [(4000, Outcome.INCONCLUSIVE), (4001, Outcome.PASS)])
def test_another_close_code_does_not_show_that_the_action_happened(story, entry, code, outcome):
    made = story(
        timeline=[entry("reject", "action", at="20s", by="server", parameters={"code": 4001})]
    )
    made.connect(1).steady().apply(20, change="action").connect(25, 2).close(25, 2, code=code)
    assert guard(made.verdict(), "felt").outcome is outcome


def test_refused_attempts_show_that_nobody_listened(story, entry):
    made = (
        story(timeline=[entry("refuse", at="20s", **{"for": "10s"})]).connect(1).steady().apply(20)
    )
    made.apply(30, change="off")
    assert guard(made.verdict(), "felt").outcome is Outcome.INCONCLUSIVE
    made.add(25, "attempt", client=1).add(25, "refused", client=1, how="connection refused")
    assert guard(made.verdict(), "felt").outcome is Outcome.PASS


@pytest.mark.parametrize(("at_s", "outcome"), [(10.0, Outcome.INCONCLUSIVE), (30.0, Outcome.FAIL)])
def test_a_subject_that_ends_fails_only_after_the_first_felt_fault(run, at_s, outcome):
    made = (
        run().steady().add(at_s, "subject_exit", client=1, subject="client", error="ValueError: x")
    )
    verdict = made.verdict()
    assert figures(guard(verdict, "subject_alive")) == (outcome.value, 1, at_s)
    assert verdict.outcome is outcome


def test_a_client_may_end_after_a_refusal_that_the_scenario_calls_final(story, entry, expect):
    made = story(
        timeline=[entry("close", "action", at="20s", by="server", parameters={"code": 4000})],
        expect=[expect("never_reconnects")],
    )
    made.connect(1).steady().apply(20, change="action").close(20, code=4000)
    made.add(20.1, "subject_exit", client=1, subject="client", error=None)
    assert made.verdict().outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("at_s", "lag_s", "outcome"),
    [
        (20.5, 0.2, Outcome.PASS),
        (20.5, 0.4, Outcome.INCONCLUSIVE),
        (19.5, 0.4, Outcome.INCONCLUSIVE),
        # before the first entry, and once connections are at rest, only heartbeats are timed
        (5, 1.4, Outcome.PASS),
        (5, 1.6, Outcome.INCONCLUSIVE),
        (30, 1.4, Outcome.PASS),
        (30, 1.6, Outcome.INCONCLUSIVE),
    ],
)
def test_loop_lag_above_its_share_of_the_tightest_bound_is_inconclusive(run, at_s, lag_s, outcome):
    # the tightest bound is the pong timeout of 3 s
    verdict = run().steady().add(at_s, "lag", lag_s=lag_s).verdict()
    assert guard(verdict, "loop_lag").outcome is outcome
    assert verdict.outcome is outcome


def test_lag_after_the_end_does_not_count(run):
    assert run().steady().add(61, "lag", lag_s=9.0).verdict().outcome is Outcome.PASS


def test_an_interrupted_run_is_inconclusive(run):
    made = run().steady().add(40, "interrupted")
    trace = made.trace(ended=False)
    verdict = judge(Trace(trace.header, tuple(e for e in trace.events if e.at_s <= 40)))
    assert "40.000 s" in guard(verdict, "complete").reason
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_network_that_broke_says_nothing_about_the_subjects(run):
    verdict = run().steady().add(30, "network_failed", error="no answer").verdict()
    assert guard(verdict, "complete").reason.endswith(": no answer")
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_trace_that_breaks_off_is_inconclusive(run):
    assert judge(run().steady().trace(ended=False)).outcome is Outcome.INCONCLUSIVE


def test_warnings_are_shown_and_not_judged(run):
    verdict = run().steady().add(30, "warning", text="a socket was not closed").verdict()
    assert verdict.warnings == ("a socket was not closed",)
    assert verdict.outcome is Outcome.PASS


def test_what_happens_after_the_end_is_not_judged(run):
    made = run().steady()
    made.events = [e for e in made.events if e.at_s < 21]
    assert made.connect(60.5, 2).verdict().outcome is Outcome.FAIL


def own(answer):
    def check(trace, **parameters):
        assert isinstance(trace, Trace)
        assert parameters == {"most": 3}
        if isinstance(answer, Exception):
            raise answer
        return answer

    return check


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (passed("well"), Outcome.PASS, "well"),
        (Finding(check="x", outcome=Outcome.FAIL, reason="r", guard=True), Outcome.FAIL, "r"),
        (ValueError("boom"), Outcome.INCONCLUSIVE, "the check crashed: ValueError: boom"),
    ],
)
def test_what_a_check_of_ones_own_may_answer(run, answer, outcome, reason):
    rows = [{"check": "use", "use": "mine:check", "parameters": {"most": 3}}]
    finding = run(expects=rows).steady().verdict(check_loader=lambda name: own(answer)).findings[-1]
    assert (finding.outcome, finding.reason, finding.guard) == (outcome, reason, False)
    assert finding.check == "mine:check"
    if isinstance(answer, ValueError):
        assert any("raise answer" in line for line in finding.evidence)


@pytest.mark.parametrize(
    "answer",
    [
        *(None, True, False, 1, "PASS", {"outcome": "PASS"}, Outcome.PASS),
        Finding(check="x", outcome="PASS", reason="r"),
        Finding(check="x", outcome=Outcome.PASS, reason=None),
        Finding(check="x", outcome=Outcome.PASS, reason="r", evidence=(1,)),
        Finding(check="x", outcome=Outcome.PASS, reason="r", measured=[]),
    ],
)
def test_what_is_no_finding_is_no_judgement(run, answer):
    rows = [{"check": "use", "use": "mine:check", "parameters": {"most": 3}}]
    verdict = run(expects=rows).steady().verdict(check_loader=lambda name: own(answer))
    assert verdict.findings[-1].outcome is verdict.outcome is Outcome.INCONCLUSIVE


def test_a_check_of_ones_own_is_resolved_and_reported_by_its_name(run):
    names = []

    def load(name):
        names.append(name)
        return lambda trace: failed("wrong")

    finding = (
        run(expects=[{"check": "use", "use": "mine:check"}]).steady().verdict(check_loader=load)
    )
    assert names == ["mine:check"]
    assert finding.findings[-1].check == "mine:check"


def test_without_a_loader_a_check_of_ones_own_is_inconclusive(run):
    rows = [{"check": "use", "use": "mine:check"}]
    finding = run(expects=rows).steady().verdict().findings[-1]
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert not finding.evidence


def test_an_expectation_that_could_mean_two_entries_is_inconclusive(run, entry, expect):
    two = [
        entry("reset", at="20s", name="cut"),
        entry("reset", at="30s", name="again", allow_unfelt=True),
    ]
    finding = (
        run(timeline=two, expects=[expect("reconnects", within="5s")])
        .steady()
        .verdict()
        .findings[-1]
    )
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "`cut`, `again`" in finding.reason


@pytest.mark.parametrize(
    ("code", "error", "outcome"),
    [
        (4000, None, Outcome.PASS),  # the policy says never
        (4401, None, Outcome.PASS),  # new credentials, and it has none
        (1012, None, Outcome.FAIL),  # come back
        (4000, "KeyError: 'reason'", Outcome.FAIL),
    ],
)
def test_a_client_may_leave_after_what_its_policy_calls_final(run, code, error, outcome):
    made = run(expects=[{"check": "never_sends_before_open"}]).steady()
    made.close(50, 2, code=code).end(50.1, "fin", 2, "client")
    made.add(50.2, "subject_exit", subject="client", client=1, error=error)
    found = guard(made.verdict(), "subject_alive")
    assert (found.outcome, found.culprit) == (
        outcome,
        "client" if outcome is Outcome.FAIL else "",
    )


def test_a_crash_excuses_the_end_that_it_caused_and_no_later_one(story, entry, expect):
    row = entry("restart", "action", at="20s", by="client", parameters={}, **{"for": "1s"})
    made = story(timeline=[row], expect=[expect("never_sends_before_open")]).connect(1).steady()
    made.apply(20).apply(21, change="off").end(20, "rst", 1, "client")
    made.add(20, "subject_exit", subject="client", client=1)
    assert guard(made.verdict(), "subject_alive").outcome is Outcome.PASS
    made.add(50, "subject_exit", subject="client", client=1, error="KeyError: x")
    assert guard(made.verdict(), "subject_alive").outcome is Outcome.FAIL


def test_frames_that_could_not_be_decoded_put_checks_of_frames_in_doubt(run):
    rows = [
        {"check": "single_connection"},
        {"check": "single_handler"},
        {"check": "availability", "parameters": {"at_least": 0.1}},
    ]
    made = run(expects=rows).steady()
    outcomes = [finding.outcome for finding in made.verdict().findings[-3:]]
    made.add(
        30,
        "undecoded",
        client=1,
        connection=2,
        stream="upstream",
        side="client",
        why="x",
        at_byte=9,
        byte=1,
    )
    doubted = [finding.outcome for finding in made.verdict().findings[-3:]]
    assert (outcomes[0], outcomes[2]) == (Outcome.PASS, Outcome.PASS)
    assert (doubted[0], doubted[2]) == (Outcome.PASS, Outcome.INCONCLUSIVE)


def test_where_no_check_applies_the_scenario_is_skipped_unless_strict(run):
    made = run(expects=[{"check": "cost", "parameters": {"bytes_per_hour_max": 1}}]).steady()
    assert made.verdict().outcome is Outcome.SKIPPED
    strict = judge(made.trace(), strict=True)
    assert strict.outcome is Outcome.INCONCLUSIVE


def test_a_storm_fails_whatever_else_cannot_be_judged(run):
    made = run().add(10, "storm", client=1, attempts=201, in_s=0.5)
    verdict = made.verdict()
    found = guard(verdict, "storm")
    assert (found.outcome, found.culprit, verdict.outcome) == (
        Outcome.FAIL,
        "client",
        Outcome.FAIL,
    )
    assert figures(found)[:4] == ("FAIL", 1, 201, 0.5)
