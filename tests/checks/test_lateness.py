"""How late the harness may have been, and which failures that explains."""

from __future__ import annotations

import pytest

from chaos.checks.doubts import DOUBTS
from chaos.checks.lateness import Lateness
from chaos.checks.verdict import LATE, Outcome
from chaos.trace import Event, Header, Trace
from chaos.vocabulary.checks import CHECKS


def load(at_s: float, busy_s: float, over_s: float = 0.2, waited: float = 0.5) -> Event:
    data = {"over_s": over_s, "ran_s": busy_s * (1 - waited), "waited_s": busy_s * waited}
    return Event(at_s=at_s, kind="load", data=data)


def lateness(*events: Event) -> Lateness:
    return Lateness(Trace(Header(scenario={}, network="embedded", seed=1), tuple(events)))


def test_a_run_without_samples_was_never_late():
    assert lateness().within(10.0) == lateness().longest_s == lateness().between(0, 9) == 0.0


def test_lateness_adds_up_over_the_worst_window_and_never_exceeds_it():
    found = lateness(*(load(1 + 0.2 * n, 0.1) for n in range(1, 6)))  # half of 1.0 to 2.0
    assert found.within(1.0) == pytest.approx(0.5)
    assert found.within(0.4) == pytest.approx(0.25)  # five steps: it may begin inside one
    assert found.within(100) == pytest.approx(0.5)
    full = lateness(*(load(0.2 * n, 0.3) for n in range(1, 50)))  # more waiting than time
    assert full.within(0.35) == pytest.approx(0.35)


def test_what_lies_between_two_times_counts_for_as_long_as_it_lasts():
    found = lateness(*(load(1 + 0.2 * n, 0.2) for n in range(1, 6)))
    assert found.between(0.0, 1.0) == pytest.approx(0.0)
    assert found.between(1.2, 1.65) == pytest.approx(0.45)
    assert found.between(1.5, 90.0) == pytest.approx(0.5)


def test_a_lag_is_late_from_when_it_began_and_is_not_counted_beside_the_load_of_the_same_time():
    found = lateness(Event(at_s=3.0, kind="lag", data={"lag_s": 1.0}), load(3.0, 0.2))
    assert found.longest_s == 1.0
    assert found.between(2.0, 3.0) == pytest.approx(1.0)
    assert found.between(0.0, 2.0) == 0.0


def test_every_doubt_is_about_a_check():
    assert set(DOUBTS) <= set(CHECKS)


def busy(made, start_s, end_s, share):
    """Add samples of a process that ran or waited for this share of the time."""
    at_s = start_s
    while at_s < end_s:
        at_s += 0.2
        made.add(at_s, "load", over_s=0.2, ran_s=share * 0.1, waited_s=share * 0.1)
    return made


@pytest.fixture
def back_after(story, entry, expect):
    """A reset at 20 s after which the client is back so many seconds later; it has 4 s, and then a second."""

    def make(took_s):
        made = story(
            network="embedded",
            duration="60s",
            timeline=[entry("reset", at="20s", name="cut")],
            expect=[expect("reconnects", after="cut", within="4s")],
        )
        made.connect(1).steady().apply(20, change="instant").felt(20)
        made.end(20, "rst", 1, "client", by="server").end(20, "rst", 1, "server", by="client")
        return made.add(20, "closed", client=1, connection=1).connect(20 + took_s, 2)

    return make


@pytest.mark.parametrize(
    ("took_s", "share", "outcome"),
    [
        (3.0, 1.0, Outcome.PASS),
        (6.0, 0.0, Outcome.FAIL),
        (6.0, 0.2, Outcome.FAIL),  # a second of lateness does not explain it
        (6.0, 0.4, Outcome.INCONCLUSIVE),
        (30.0, 1.0, Outcome.FAIL),
    ],
)
def test_a_failure_stands_if_the_lateness_does_not_explain_it(back_after, took_s, share, outcome):
    verdict = busy(back_after(took_s), 15, 30, share).verdict()
    assert verdict.outcome is outcome
    assert verdict.was_late is (outcome is Outcome.INCONCLUSIVE)


def test_a_hammering_client_is_named_however_busy_it_keeps_the_machine(story, entry, expect):
    made = story(
        network="embedded",
        duration="40s",
        timeline=[entry("down", "fault", at="20s", **{"for": "10s"}, name="away")],
        expect=[expect("backoff", after="away", initial="1s", max="8s")],
    )
    made.connect(1).steady().apply(20, change="on").felt(20)
    made.end(20, "rst", 1, "client", by="server").add(20, "closed", client=1, connection=1)
    for number in range(2, 60):
        made.refused(20 + number * 0.1, number)
    busy(made, 15, 35, 1.0).add(25, "lag", lag_s=0.05)
    assert made.result("backoff")[0] == "FAIL"


def test_a_busy_second_may_be_why_something_else_could_not_be_judged(run_unsteady):
    assert not run_unsteady().verdict().was_late
    assert busy(run_unsteady(), 1, 3, 0.9).verdict().was_late


@pytest.fixture
def run_unsteady(story, expect):
    def make():
        return story(network="embedded", duration="20s", expect=[expect("no_leaks")]).connect(1)

    return make


def test_lateness_is_a_figure_of_what_was_not_judged(back_after):
    verdict = busy(back_after(6.0), 15, 30, 0.4).verdict()
    (finding,) = [row for row in verdict.findings if row.check == "reconnects"]
    assert 1.5 < finding.measured[LATE] < 3.0


def test_a_client_that_ends_while_the_loop_is_late_may_have_waited_for_it(back_after):
    def ended(lag_s):
        made = back_after(1.0).add(
            30, "subject_exit", client=1, subject="client", error="TooSlowError: "
        )
        return made.add(21, "lag", lag_s=lag_s).verdict()

    assert ended(0.01).outcome is Outcome.FAIL
    assert ended(1.9).outcome is Outcome.INCONCLUSIVE
