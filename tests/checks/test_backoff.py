"""`backoff`: right schedules never fail, whatever their seed; hammering ones always do."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.figures import figures, numbers

from chaos.checks.backoff import _complain, readings
from chaos.checks.context import Context
from chaos.checks.schedule import Delay, Rule, read_delays
from chaos.vocabulary.base import Seconds
from chaos.vocabulary.checks import Backoff
from chaos.vocabulary.policies import Policy, Reaction

JITTERS = ("none", "full", "equal", "decorrelated")


def draw(random: Random, plan: Backoff, first: str, count: int) -> list[float]:
    """Return a series of delays as a right client draws them: first delay by its own rule, then the schedule."""
    delays: list[float] = []
    for step in range(count):
        cap = min(plan.max_s, plan.initial_s * plan.factor**step)
        if plan.jitter == "equal":
            delay = random.uniform(cap / 2, cap)
        elif plan.jitter == "full" or (step == 0 and first == "random"):
            delay = random.uniform(0, cap)
        elif plan.jitter == "decorrelated":
            before = max([plan.initial_s, *delays[-1:]])
            delay = min(plan.max_s, random.uniform(plan.initial_s, 3 * before))
        else:
            delay = cap
        delays.append(delay)
    return delays


def as_delays(series: list[float], client: int = 1, overhead_s: float = 0.0) -> list[Delay]:
    return [
        Delay(
            client=client,
            step=step,
            start_s=0.0,
            next_s=delay,
            long_s=delay + overhead_s,
            short_s=delay,
            rule=Rule.SCHEDULE,
            after_long=False,
            cold=False,
            lasted_s=0.0,
        )
        for step, delay in enumerate(series)
    ]


def plan_of(
    jitter: str, initial: float = 1.0, factor: float = 2.0, longest: float = 8.0
) -> Backoff:
    return Backoff(
        initial_s=Seconds(initial),
        factor=factor,
        max_s=Seconds(longest),
        jitter=jitter,  # type: ignore[arg-type]
    )


def complaints(plan: Backoff, delays: list[Delay], first: str = "random") -> list[object]:
    return [_complain(law, delays) for law in readings(plan, first, (0.0, 0.0))]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    jitter=st.sampled_from(JITTERS),
    first=st.sampled_from(["random", "none"]),
    initial=st.floats(0.05, 5),
    factor=st.floats(1, 3),
    count=st.integers(1, 40),
    clients=st.integers(1, 8),
)
def test_a_right_client_never_fails(seed, jitter, first, initial, factor, count, clients):
    random, plan = Random(seed), plan_of(jitter, initial, factor, initial * 8)
    delays = [
        delay
        for client in range(1, clients + 1)
        for delay in as_delays(draw(random, plan, first, count), client, random.uniform(0, 0.1))
    ]
    assert None in complaints(plan, delays, first)


@settings(max_examples=500, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    jitter=st.sampled_from(JITTERS),
    count=st.integers(4, 40),
    pause=st.floats(0, 0.01),
)
def test_a_hammering_client_always_fails(seed, jitter, count, pause):
    random, plan = Random(seed), plan_of(jitter)
    delays = as_delays([random.uniform(0, pause) for _ in range(count)])
    assert None not in complaints(plan, delays)


@pytest.mark.slow
def test_a_thousand_seeds_of_one_schedule_never_fail():
    plan = plan_of("full")
    for seed in range(1000):
        assert complaints(plan, as_delays(draw(Random(seed), plan, "random", 25)))[0] is None


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), extra=st.floats(0.2, 10), at=st.integers(0, 9))
def test_a_delay_above_its_cap_always_fails(seed, extra, at):
    plan = plan_of("full")
    series = draw(Random(seed), plan, "random", 10)
    series[at] = min(8.0, 2.0**at) + extra
    assert None not in complaints(plan, as_delays(series))


@pytest.mark.parametrize(
    ("series", "text"),
    [
        ([1, 2, 4, 8, 8, 8, 8], "does not jitter"),
        ([0.5, 1, 2, 4, 4, 4, 4, 4], "does not jitter"),
        ([0.9] * 20, "hammers"),
    ],
)
def test_a_schedule_without_jitter_fails_where_full_jitter_is_stated(series, text):
    found = complaints(plan_of("full"), as_delays(series))
    assert None not in found
    assert text in str(found[0])


def test_forty_delays_at_either_end_of_their_range_are_not_uniform():
    series = [min(1.0, 2.0**step) * (0.03 if step % 2 else 0.96) for step in range(40)]
    plan = plan_of("full", factor=1.0)
    assert "uniformly" in str(complaints(plan, as_delays(series))[0])
    assert None in complaints(plan, as_delays(series[:19]))


def test_clients_that_draw_the_same_numbers_fail_together():
    series = draw(Random(1), plan_of("full"), "random", 3)
    delays = [delay for client in range(1, 11) for delay in as_delays(series, client)]
    assert None not in complaints(plan_of("full"), delays)


def test_a_first_delay_before_the_schedule_is_right_too():
    series = [0.3, 1, 2, 4, 8, 8]
    assert None in complaints(plan_of("none"), as_delays(series))
    assert None not in complaints(plan_of("none"), as_delays([0.3, 1, 1, 1, 1]))


@pytest.fixture
def outage(story, entry, expect):
    """The server is away from 20 s; the client tries at the given delays after each refusal."""

    def make(delays, *, client=None, refuse=None, **parameters):
        stated = {"initial": "1s", "factor": 2.0, "max": "8s", **parameters}
        made = story(
            duration="200s",
            timeline=[entry("refuse", at="20s", name="away")],
            expect=[expect("backoff", **stated)],
            client=client or {"use": "reference"},
        )
        made.connect(1).steady().apply(20).felt(20).end(20, "rst", 1, "client", by="server")
        made.add(20, "closed", client=1, connection=1)
        at_s = 20.0
        for number, delay in enumerate(delays, start=2):
            at_s += delay
            made = refuse(made, at_s, number) if refuse else made.refused(at_s, number)
        return made

    return make


def test_a_schedule_read_from_a_trace_passes(outage):
    finding = outage([0.5, 1.1, 3.0, 2.5], after="away").finding("backoff")
    assert figures(finding)[:3] == ("PASS", 4, 4)
    measured = dict(finding.measured)
    assert 0 < measured.pop("least_mean_shown") < 0.05
    assert measured == {
        "delays": 4, "delays_of_one_client": 4, "shortest_s": 0.5, "longest_s": 3.0,
    }  # fmt: skip


def test_a_delay_beyond_its_cap_fails_with_the_series(outage):
    finding = outage([0.5, 1.1, 9.0]).finding("backoff")
    assert figures(finding) == ("FAIL", 1, 9, 3, 4)
    assert numbers(finding.evidence[0]) == (20, 20.5, 0.5, 0, 1)


def test_hammering_fails_from_three_delays_on(outage):
    assert outage([0.001, 0.001, 0.001]).result("backoff")[:4] == ("FAIL", 1, 3, 0.1)


def test_too_few_delays_cannot_be_judged(outage):
    assert outage([0.5, 1.0]).result("backoff") == ("INCONCLUSIVE", 2, 3)


def test_attempts_that_no_link_saw_count_as_well(outage):
    def unseen(made, at_s, number):
        return made.add(at_s, "attempt", client=1, port=None).add(
            at_s, "refused", client=1, how="[Errno 111] Connection refused"
        )

    assert outage([0.5, 1.1, 3.0], refuse=unseen).finding("backoff").measured["delays"] == 3


def test_attempts_that_nobody_could_see_make_no_delay_too_long(story, entry, expect):
    outcomes = []
    for client in ({"command": ["x"]}, {"use": "reference"}):
        made = story(
            timeline=[entry("down", at="20s", **{"for": "30s"})],
            expect=[expect("backoff", initial="1s", max="8s")],
            client=client,
        )
        made.connect(1).steady().apply(20).felt(20).apply(50, change="off")
        made.end(20, "fin", 1, "client", by="server").connect(51, 2)
        outcomes.append(made.result("backoff")[0])
    assert outcomes == ["INCONCLUSIVE", "FAIL"]


def test_the_series_goes_on_through_connections_that_did_not_last(outage):
    def brief(made, at_s, number):
        made.connect(at_s, number)
        return made.end(at_s + 0.0, "fin", number, "client", by="server")

    # a client that starts over at each open never waits longer than the initial cap: full jitter allows it,
    # but without jitter the schedule must grow
    stated = {"use": "reference", "backoff": {"initial": "1s", "max": "8s", "jitter": "none"}}
    assert (
        outage([0.5, 1, 1, 1], client=stated, jitter="none", refuse=brief).result("backoff")[0]
        == "FAIL"
    )
    assert (
        outage([0.5, 2, 4, 8], client=stated, jitter="none", refuse=brief).result("backoff")[0]
        == "PASS"
    )


def test_a_connection_that_lasted_starts_the_series_over(story, expect):
    made = story(expect=[expect("backoff", initial="1s", max="8s", attempts_min=2)]).steady()
    made.connect(1)
    for number, at_s in enumerate([10, 20, 30], start=1):
        made.end(at_s, "rst", number, "client", by="server").connect(
            at_s + 0.2 * number, number + 1
        )
    delays = read_delays(Context.of(made.trace()), 1)
    assert [delay.step for delay in delays] == [0, 0, 0]


def test_a_silent_connection_may_have_been_stable_or_not_so_its_steps_are_doubtful(story, expect):
    made = story(expect=[expect("backoff", initial="1s", max="8s")]).steady()
    made.connect(1).frame(9).end(30, "rst", 1, "client").refused(30.5, 2).refused(31, 3)
    assert [row.step for row in read_delays(Context.of(made.trace()), 1)] == [0, 1]
    made.connect(32, 4).end(45, "rst", 4, "client").refused(46, 5).refused(47, 6)
    delays = read_delays(Context.of(made.trace()), 1)
    assert [row.start_s for row in delays if not row.doubtful] == [30, 30.5, 31]
    assert [row.start_s for row in delays if row.doubtful] == [45, 46]
    assert made.result("backoff")[0] == "PASS"
    assert (
        made.refused(60, 7).result("backoff")[0] == "FAIL"
    )  # above every cap, whichever step it is


def test_who_makes_before_it_breaks_has_nothing_to_wait_for(story, expect):
    made = story(
        expect=[expect("backoff", initial="500ms", max="2s", attempts_min=2)],
        client={"use": "reference", "backoff": {"initial": "500ms", "max": "2s"}},
    )
    for number in range(1, 6):
        made.connect(3.0 * number, number).end(3.0 * number + 3.2, "fin", number, "client")
    assert made.steady(4).result("backoff")[0] == "INCONCLUSIVE"  # there is no delay
    # one loss of both, and one series from then on
    made.end(18.1, "rst", 5, "client", by="server")
    for number, at_s in ((6, 18.5), (7, 19.4), (8, 21.0), (9, 22.8)):
        made.refused(at_s, number)
    assert made.result("backoff")[0] == "PASS"


def test_a_race_of_two_attempts_is_one(story, expect):
    made = story(expect=[expect("backoff", initial="500ms", max="2s", attempts_min=2)])
    for turn, at_s in enumerate((1.0, 6.3, 11.5)):
        made.add(at_s, "attempt", client=1, connection=2 * turn + 1, port=1)
        made.connect(at_s + 0.01, 2 * turn + 2).end(at_s + 0.02, "fin", 2 * turn + 1, "client")
        made.end(at_s + 5, "rst", 2 * turn + 2, "client", by="server")
    assert made.steady().result("backoff")[0] != "FAIL"


@pytest.mark.parametrize(
    ("delays", "outcome"),
    [([0.5, 21, 21, 21], "PASS"), ([0.5, 21, 5, 21], "FAIL"), ([0.5, 21, 60, 21], "FAIL")],
)
def test_delays_that_retry_after_set_are_judged_by_it(outage, delays, outcome):
    def told(made, at_s, number):
        return made.rejected(at_s, number, 503, retry_after_s=20)

    finding = outage(delays, refuse=told).finding("backoff")
    assert (finding.outcome.value, finding.measured["delays"]) == (outcome, 4)


@pytest.mark.parametrize(
    ("delays", "outcome"),
    [
        ([0.5, 8, 8, 8], "PASS"),  # the maximum itself
        ([0.5, 4.1, 7, 5], "PASS"),  # at least half of it
        ([0.5, 1.1, 3.0, 2.5], "PASS"),  # the ordinary schedule, from its first step
        ([0.5, 8, 8, 9], "FAIL"),
        ([0.5, *[0.7] * 60], "FAIL"),  # what a client does that knows no long wait
    ],
)
def test_a_long_reaction_may_be_read_in_three_ways(outage, delays, outcome):
    def overloaded(made, at_s, number):
        return made.rejected(at_s, number, 429)

    assert outage(delays, refuse=overloaded).result("backoff")[0] == outcome


@pytest.mark.parametrize(
    ("status", "delays", "wrong"),
    [
        (401, [0.5, 0.5], False),  # once, with new credentials
        (401, [0.5, 0.5, 1.5], True),
        (404, [0.5, 6, 7, 5], False),  # a status that may pass, met three times
        (404, [0.5, 6, 7, 5, 6], True),
        (405, [0.5], False),
        (405, [0.5, 20.0], True),  # never
        (302, [0.5, 0.0, 0.0], False),  # a redirect that is followed
    ],
)
def test_a_refusal_with_a_reaction_of_its_own_is_judged_by_that(outage, status, delays, wrong):
    def refused(made, at_s, number):
        return made.rejected(at_s, number, status)

    result = outage(delays, refuse=refused, attempts_min=2).result("backoff")[0]
    assert (result == "FAIL") is wrong


def test_now_is_allowed_once_between_two_stable_connections(story, expect):
    def made(*delays):
        built = story(
            duration="200s",
            client={"use": "reference", "policy": "pusher", "stable_after": "5s"},
            expect=[expect("backoff", initial="2s", max="8s", jitter="none", attempts_min=2)],
        )
        at_s = 20.0
        built.connect(1).steady()
        for number, delay_s in enumerate(delays, start=1):
            built.close(at_s, number, code=4200).end(at_s, "fin", number, "client", by="server")
            built.end(at_s, "fin", number, "client")
            at_s += delay_s
            built.connect(at_s, number + 1)
            at_s += 0.5
        return built.result("backoff")[0]

    assert made(0.0, 1.0, 4.0) == "PASS"
    assert made(0.0, 0.0, 0.0, 0.0) == "FAIL"


def test_delays_may_count_from_the_start_of_the_attempt(outage):
    """gRPC's rule: what the attempt itself took is no part of the wait."""

    def slow(made, at_s, number):
        made.add(at_s, "attempt", client=1, connection=number, port=1)
        made.add(at_s, "dialed", client=1, connection=number)
        return made.end(at_s + 0.9, "fin", number, "client")

    stated = {"use": "reference", "backoff": {"initial": "1s", "max": "8s", "jitter": "none"}}
    right = outage([0.5, 1.0, 2.0, 4.0, 8.0], client=stated, jitter="none", refuse=slow)
    assert right.result("backoff")[0] == "PASS"
    wrong = outage([0.5, 0.9, 0.9, 0.9, 0.9], client=stated, jitter="none", refuse=slow)
    assert wrong.result("backoff")[0] == "FAIL"


def test_attempts_that_hang_side_by_side_are_delays_as_well(outage):
    def hangs(made, at_s, number):
        made.add(at_s, "attempt", client=1, connection=number, port=1)
        made.add(at_s, "dialed", client=1, connection=number)
        return made.end(at_s + 10, "fin", number, "client")

    assert outage([0.5, *[0.05] * 30], refuse=hangs).result("backoff")[0] == "FAIL"


def test_a_spare_connection_has_a_series_of_its_own(story, expect):
    made = story(
        duration="200s",
        client={"use": "reference", "backoff": {"initial": "1s", "max": "8s", "jitter": "none"}},
        expect=[expect("backoff", initial="1s", max="8s", jitter="none")],
    )
    made.connect(1, 1).connect(1.1, 2).steady()
    made.end(20, "rst", 1, "client", by="server").end(20.1, "rst", 2, "client", by="server")
    for number, at_s in ((3, 20.5), (5, 22.5), (7, 26.5)):
        made.refused(at_s, number)
    for number, at_s in ((4, 20.8), (6, 22.8), (8, 26.8)):
        made.refused(at_s, number)
    assert made.result("backoff")[0] == "PASS"


def test_the_scenarios_own_codes_extend_rfc():
    policy = Policy.parse({"4100": "never"})
    assert policy.on_close(4100) is Reaction.NEVER
    assert policy.on_close(1013) is Reaction.LONG
    assert Policy.parse("pusher").on_close(4200) is Reaction.NOW


def test_a_wait_may_be_counted_from_the_close_frame_or_from_the_end_of_the_socket(story, expect):
    made = story(expect=[expect("backoff", initial="1s", max="8s")]).steady()
    made.connect(1).close(20, code=1012).end(20.5, "fin", 1, "client", by="server")
    made.end(21, "fin", 1, "client").end(21.5, "fin", 1, "server", by="client").connect(21.9, 2)
    (delay,) = read_delays(Context.of(made.trace()), 1)
    assert (delay.long_s, delay.short_s) == pytest.approx((1.9, 0.9))


@pytest.mark.parametrize(("at_s", "outcome"), [(34.75, "PASS"), (25.0, "FAIL")])
def test_a_loop_that_was_late_excuses_only_the_wait_that_it_lengthened(outage, at_s, outcome):
    # the last wait ends at 34.7 s, 0.3 s beyond its cap
    delays = [0.5, 1.9, 4.0, 8.3]
    assert outage(delays).result("backoff")[0] == "FAIL"
    assert outage(delays).add(at_s, "lag", lag_s=0.25).result("backoff")[0] == outcome


def test_a_teardown_beyond_the_close_timeout_is_no_excuse(story, expect):
    made = story(
        client={"use": "reference", "close_timeout": "1s"},
        expect=[expect("backoff", initial="1s", max="8s")],
    )
    made.steady().connect(1).close(20, code=1012).end(29, "fin", 1, "client").connect(29.5, 2)
    assert made.result("backoff") == ("FAIL", 1, 9.5, 1, 1)


def test_who_waits_out_the_close_timeout_cuts_the_socket_just_after_it(story, expect):
    made = story(
        client={"use": "reference", "close_timeout": "2s"},
        expect=[expect("backoff", initial="1s", max="8s")],
    )
    made.steady().connect(1).close(20, code=1012).end(22.0001, "fin", 1, "client").connect(23, 2)
    (delay,) = read_delays(Context.of(made.trace()), 1)
    assert delay.short_s == pytest.approx(0.9999)


def test_a_policy_with_words_that_are_no_codes_or_reactions_is_refused():
    for policy in ({"4100": "sometimes"}, {"later": "never"}, "rcf"):
        with pytest.raises(ValueError, match=r"sometimes|later|rcf"):
            Policy.parse(policy)
