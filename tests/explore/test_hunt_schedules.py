"""Schedules: what is expected of a client under them is what every correct client can keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from chaos.explore.draw import schedules, search
from chaos.explore.promises import back_again_s, compose, times_of
from chaos.explore.schedules import (
    EVENTS,
    SHARES,
    Schedule,
    SearchSpace,
    admitted,
    all_kinds,
    end_s,
    kind_of,
    make_entry,
)
from chaos.explore.shrink import shrink
from chaos.scenario.load import load_text
from chaos.scenario.model import Trigger
from chaos.subject import Abilities
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.policies import Policy

ALL = Abilities(sends=True, actions=frozenset({"close", "drain", "reject", "send", "offline"}))
TEXT = """\
version: 1
name: base
duration: 20s
server: {heartbeat: {interval: 1s, timeout: 2s}}
client: {heartbeat: {interval: 1s, timeout: 2s}, backoff: {initial: 500ms, max: 2s}, connect_timeout: 3s}
workload: [{from: server, every: 500ms}]
expect: [{backoff: {initial: 500ms, max: 2s}}]
"""


def make_space(text=TEXT, **abilities):
    (scenario,) = load_text(text, "base.yaml")
    known = {"client": ALL, "server": ALL, **abilities}
    return SearchSpace(scenario=scenario, policy=Policy.parse(scenario.client.policy), **known)


space = make_space()


def blackhole(at_s=5.0, for_s=4.0):
    return make_entry("fault", "blackhole", {}, at_s=at_s, for_s=for_s)


def checks(*entries, space=space, final=None):
    scenario = compose(space, Schedule(entries=entries, final=final))
    return {row.check: row.parameters for row in scenario.expect}


def test_once_all_is_healed_every_client_must_be_back():
    scenario = compose(space, Schedule(entries=(blackhole(),)))
    (row,) = [row for row in scenario.expect if row.check == "reconnects"]
    # attempt 3, heartbeat 1 + 2, closing 2, two delays of 2, one frame 0.5, margin 2; rounded up
    assert back_again_s(space, scenario.timeline) == 15
    assert row.parameters == {"after": "blackhole", "within": "15s"}
    assert scenario.duration_s >= 5 + 4 + 15 + scenario.settle_s


def test_without_a_heartbeat_nothing_happens_that_only_a_heartbeat_could_notice():
    silent = make_space(
        TEXT.replace("client: {heartbeat: {interval: 1s, timeout: 2s}, ", "client: {")
    )
    words = {kind.word.word for kind in silent.kinds()}
    assert not words & {"blackhole", "drop_frames"}
    rows = [row for kind in silent.kinds() for row in silent.strengths(kind)]
    assert not [row for row in rows if str(row.get("action")).startswith("drop")]
    assert {"side": "server"} not in rows
    assert {"side": "server"} in [row for kind in space.kinds() for row in space.strengths(kind)]


def test_a_client_that_may_give_up_need_not_come_back():
    limited = make_space(TEXT.replace("max: 2s}, c", "max: 2s, attempts_max: 3}, c"))
    assert "reconnects" in checks(blackhole())
    assert "reconnects" not in checks(blackhole(), space=limited)
    assert "reconnects" not in checks(make_entry("fault", "strip_upgrade", {}, at_s=5, for_s=2.0))


def test_what_is_told_that_it_is_online_may_try_at_once():
    assert "backoff" in checks(blackhole())
    offline = make_entry("action", "offline", {}, at_s=5, for_s=2.0, by="client")
    assert "backoff" not in checks(blackhole(), offline)


def test_a_path_as_slow_as_a_heartbeats_timeout_may_be_given_up():
    def slow(ms):
        return make_entry("toxic", "latency", {"latency": ms}, at_s=5, for_s=2.0)

    assert "no_false_alarm" in checks(slow(100))
    assert "no_false_alarm" not in checks(slow(1000))
    assert "no_false_alarm" not in checks(*[slow(200 + at) for at in range(4)])


def test_a_silence_longer_than_the_bound_is_noticed_if_it_is_alone():
    bound = {"by": "server", "during": "blackhole", "within": "6s"}
    assert "detects_dead_peer" not in checks(blackhole(for_s=6.0))
    assert checks(blackhole(for_s=7.0))["detects_dead_peer"] == bound
    near = make_entry("fault", "reset", {}, at_s=6.0)
    assert "detects_dead_peer" not in checks(blackhole(for_s=7.0), near)


def test_the_last_word_comes_when_everything_has_healed_and_time_is_left_to_judge_it():
    final = space.finals()[0]
    scenario = compose(space, Schedule(entries=(blackhole(),), final=final))
    last = scenario.timeline[-1]
    assert last.at_s > 9 + back_again_s(space, scenario.timeline[:1])
    assert scenario.duration_s >= last.at_s + 2 * scenario.client.backoff.max_s
    assert checks(final=final)["never_reconnects"] == {"after": "last-word"}


def test_what_a_policy_takes_for_final_is_no_passing_trouble():
    strict = make_space(TEXT.replace("connect_timeout", "policy: graphql-ws, connect_timeout"))
    (close,) = [
        kind for kind in strict.kinds() if (kind.word.word, kind.draw.by) == ("close", "server")
    ]
    codes = {row["code"] for row in strict.strengths(close)}
    assert 1011 not in codes
    assert 1001 in codes


def test_peers_are_only_asked_for_what_they_declare():
    poor = make_space(client=Abilities(), server=Abilities())
    actions = {kind.word.word for kind in poor.kinds() if kind.word.kind == "action"}
    assert actions == {"restart"}
    assert poor.finals() == ()


def test_delivery_without_loss_is_asked_of_those_who_resume_only():
    assert "lost" not in checks(blackhole())["delivers"]
    resuming = make_space(TEXT.replace("every: 500ms", "every: 500ms, delivery: resume"))
    assert checks(blackhole(), space=resuming)["delivers"]["lost"] == 0
    restart = make_entry("action", "restart", {}, at_s=6, for_s=1.0, by="server")
    assert "lost" not in checks(blackhole(), restart, space=resuming)["delivers"]


def test_of_two_that_cannot_stand_together_the_earlier_stays():
    first, second = blackhole(5, 4), blackhole(8, 4)
    assert admitted([second, first]) == (first,)
    later = blackhole(10, 4)
    assert admitted([later, first]) == (first, later)


@settings(max_examples=200, deadline=None)
@given(schedules(space))
def test_every_drawn_schedule_stays_in_its_space(schedule):
    for entry in schedule.entries:
        assert kind_of(entry) in space.kinds()
        if entry.on is not None:
            assert entry.at_s is None
            assert entry.on in space.triggers()
            continue
        assert entry.at_s >= space.start_s
        assert end_s(entry) <= space.start_s + space.span_s + space.window_s
    assert admitted(schedule.entries) == schedule.entries


class Enough(BaseException):
    pass


def first_drawn(seed, count=40):
    drawn = []

    def note(schedule):
        drawn.append(schedule)
        if len(drawn) == count:
            raise Enough
        return False

    with pytest.raises(Enough):
        search(space, note, seed)
    return drawn


@pytest.mark.slow
def test_every_kind_is_drawn_before_long():
    drawn = {(row.word, row.by) for schedule in first_drawn(1, 800) for row in schedule.entries}
    assert drawn == {(kind.word.word, kind.draw.by) for kind in all_kinds()}


def test_the_same_seed_draws_the_same_schedules():
    assert first_drawn(7) == first_drawn(7)
    assert first_drawn(7) != first_drawn(8)


def long_blackhole(schedule):
    return any(row.word == "blackhole" and row.for_s >= 3.25 for row in schedule.entries)


def test_what_is_found_is_made_as_small_as_it_goes():
    found = search(space, long_blackhole, 3)
    small = shrink(space, found, long_blackhole)
    assert small == Schedule(entries=(blackhole(at_s=space.start_s, for_s=4.0),))


def test_the_pass_of_our_own_gets_there_by_itself():
    noise = [make_entry("fault", "reset", {}, at_s=at_s) for at_s in (5.0, 6.25)]
    big = Schedule(entries=(*noise, blackhole(9.75, 7.75)), final=space.finals()[0])
    tried = []

    def fails(schedule):
        tried.append(schedule)
        return long_blackhole(schedule)

    small = shrink(space, big, fails)
    assert small == Schedule(entries=(blackhole(at_s=space.start_s, for_s=4.0),))
    assert len(set(map(repr, tried))) < 50


def test_distances_that_matter_are_kept():
    def fails(schedule):
        times = [row.at_s for row in schedule.entries if row.word == "reset"]
        return len(times) == 2 and abs(times[0] - times[1]) == 1.25

    rows = tuple(make_entry("fault", "reset", {}, at_s=at_s) for at_s in (9.5, 10.75))
    small = shrink(space, Schedule(entries=rows), fails)
    assert [row.at_s for row in small.entries] == [space.start_s, space.start_s + 1.25]


def test_a_simpler_kind_is_preferred():
    rows = (make_entry("toxic", "reset_peer", {"timeout": 1000}, at_s=8.0, for_s=3.0),)
    small = shrink(space, Schedule(entries=rows), lambda schedule: bool(schedule.entries))
    assert [row.word for row in small.entries] == ["reset"]


def test_costs_rank_by_count_before_length():
    one = Schedule(entries=(blackhole(for_s=60.0),))
    two = Schedule(entries=(blackhole(for_s=1.0), blackhole(at_s=9.0, for_s=1.0)))
    assert one.cost() < two.cost()
    assert replace(one, final=space.finals()[0]).cost() > one.cost()


def waiting(event, number, then_s=0.0, word="reset", **rest):
    trigger = Trigger.model_validate({"event": event, "number": number})
    return make_entry("fault", word, {}, on=trigger, then_s=then_s, **rest)


def reset(at_s=5.0):
    return make_entry("fault", "reset", {}, at_s=at_s)


def test_no_event_that_is_waited_for_comes_before_the_steady_state():
    first = {}
    for trigger in space.triggers():
        first.setdefault(trigger.event, trigger.number)
    assert list(first) == list(EVENTS)
    # one client: its first attempt and open are the start; two messages and two pings a second, faults from 4 s on
    assert first == {"open": 2, "attempt": 2, "message": 10, "ping": 10}
    assert [t.number for t in make_space(TEXT + "\n").triggers() if t.event == "ping"] == [
        10,
        20,
        30,
    ]
    idle = make_space(
        "version: 1\nname: idle\nduration: 20s\nclient: {count: 3, start_spread: 2s}\n"
    )
    assert {t.event for t in idle.triggers()} == {"open", "attempt"}
    assert min(t.number for t in idle.triggers()) == 4


def test_each_entry_that_waits_adds_a_whole_recovery():
    alone = times_of(space, (reset(),))
    rows = (reset(), waiting("open", 2, then_s=1.0, word="stall", for_s=2.0))
    both = times_of(space, rows)
    again_s = back_again_s(space, rows)
    assert again_s == back_again_s(space, (reset(),))
    assert both.healed_s == alone.healed_s + again_s + 1 + 2
    # from its own end on, all the timed entries and its own recovery may still come
    assert both.after_wait_s == both.healed_s - space.start_s
    assert both.judged_s >= both.healed_s - again_s + both.after_wait_s
    scenario = compose(space, Schedule(entries=rows, final=space.finals()[0]))
    within = {
        row.parameters["after"]: row.parameters["within"]
        for row in scenario.expect
        if row.check == "reconnects"
    }
    assert within == {"reset": f"{both.healed_s - 5:g}s", "stall": f"{both.after_wait_s:g}s"}
    assert scenario.timeline[-1].at_s > both.judged_s


def test_what_waits_for_messages_may_cut_at_any_time():
    rows = (reset(), waiting("message", 20))
    scenario = compose(space, Schedule(entries=rows, final=space.finals()[0]))
    assert [row.parameters["after"] for row in scenario.expect if row.check == "reconnects"] == [
        "reset-2"
    ]
    assert len(scenario.timeline) == 2, "the last word might come before it"


def test_few_entries_wait_and_none_meets_another_that_it_cannot_stand_beside():
    opens = [waiting("open", number) for number in (2, 3, 4)]
    assert admitted(opens) == tuple(opens[:2])
    clocked = [waiting("message", 10), waiting("ping", 10)]
    assert admitted([*clocked, reset()]) == (reset(), clocked[0])
    late = waiting("open", 2, word="blackhole", for_s=1.0)
    assert admitted([blackhole(40.0), late]) == (blackhole(40.0),)


def test_a_peer_whose_host_is_down_is_not_restarted_meanwhile():
    crash = make_entry("fault", "host_crash", {"host": "client"}, at_s=5.0, for_s=5.0)

    def restart(by):
        return make_entry("action", "restart", {}, at_s=6.0, for_s=1.0, by=by)

    assert admitted([crash, restart("client")]) == (crash,)
    assert len(admitted([crash, restart("server")])) == 2


def test_nothing_is_judged_by_detection_beside_an_entry_that_waits():
    assert "detects_dead_peer" in checks(blackhole(for_s=7.0))
    assert "detects_dead_peer" not in checks(blackhole(for_s=7.0), waiting("open", 2))


def test_what_tcp_sends_again_may_come_as_late_as_it_was_lost_for():
    lost = make_entry("fault", "partition", {}, at_s=5.0, for_s=6.0)
    assert back_again_s(space, (lost,)) == back_again_s(space, (blackhole(for_s=6.0),)) + 7
    assert "no_false_alarm" not in checks(lost)


def test_a_host_that_is_gone_is_noticed_by_the_other_and_forgets_everything():
    text = TEXT.replace("every: 500ms", "every: 500ms, delivery: resume")
    resuming = make_space(text)

    def crash(host):
        row = make_entry("fault", "host_crash", {"host": host}, at_s=5.0, for_s=7.0)
        return checks(row, space=resuming)

    assert crash("server")["detects_dead_peer"]["by"] == "client"
    assert "backoff" in crash("server")
    assert "backoff" not in crash("client")
    assert "detects_dead_peer" not in crash("client")
    assert "lost" not in crash("server")["delivers"]
    freeze = make_entry("fault", "host_freeze", {"host": "server"}, at_s=5.0, for_s=7.0)
    assert checks(freeze, space=resuming)["delivers"]["lost"] == 0


def test_events_shares_and_path_faults_are_drawn_before_long():
    rows = [row for schedule in first_drawn(1, 300) for row in schedule.entries]
    assert {row.on.event for row in rows if row.on} == set(EVENTS)
    assert {row.toxicity for row in rows} == set(SHARES)
    assert all(kind_of(row).draw.shared for row in rows if row.toxicity < 1)
    paths = {word for word, kind in FAULTS.items() if kind.on_path}
    assert paths <= {row.word for row in rows}


@pytest.mark.slow
def test_what_only_new_connections_meet_mostly_comes_with_a_cut():
    met = cut = 0
    for schedule in first_drawn(1, 400):
        for row in schedule.entries:
            if row.on is None and kind_of(row).draw.greets:
                met += 1
                inside = [
                    r for r in schedule.entries if r.at_s and row.at_s <= r.at_s <= end_s(row)
                ]
                cut += any(r.word == "reset" for r in inside)
    assert 0.35 < cut / met < 0.95


def test_a_time_is_preferred_to_an_event_and_all_connections_to_some():
    row = waiting("attempt", 3, then_s=1.0, word="stall", for_s=3.0, toxicity=0.25)

    def stalls(schedule):
        return any(entry.word == "stall" for entry in schedule.entries)

    small = shrink(space, Schedule(entries=(row,)), stalls)
    assert small.entries == (make_entry("fault", "stall", {}, at_s=space.start_s, for_s=1.0),)

    def waits(schedule):
        return any(entry.on for entry in schedule.entries) and stalls(schedule)

    (least,) = shrink(space, Schedule(entries=(row,)), waits).entries
    assert (least.on.event, least.on.number, least.then_s) == ("open", 2, 0.0)
    assert (least.for_s, least.toxicity) == (1.0, 1.0)


def test_an_event_that_matters_is_kept_with_what_brings_it_about():
    def fails(schedule):
        return any(row.on for row in schedule.entries) and any(
            row.word == "reset" and row.on is None for row in schedule.entries
        )

    rows = (reset(9.25), blackhole(12.0), waiting("attempt", 2), waiting("open", 3))
    small = shrink(space, Schedule(entries=rows), fails)
    assert small.entries == (reset(space.start_s), waiting("open", 2))
