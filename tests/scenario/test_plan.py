"""Plans: repetition written out, windows as on and off, ties in a stated order, choices independent of each other."""

from __future__ import annotations

from typing import Any

from chaos.scenario.model import Scenario
from chaos.scenario.plan import generator, make_plan
from chaos.wire.messages import parse_reader


def plan_of(*entries: dict[str, Any]) -> Any:
    rows = [{"kind": "fault"} | entry for entry in entries]
    return make_plan(
        Scenario.model_validate({"version": 1, "name": "x", "duration": "60s", "timeline": rows}), 1
    )


def steps_of(*entries: dict[str, Any]) -> list[tuple[float, str, int, int]]:
    return [(s.at_s, s.change, s.entry, s.occurrence) for s in plan_of(*entries).steps]


def test_a_window_is_on_and_off_and_one_without_length_stays_on() -> None:
    assert steps_of({"word": "stall", "at": "5s", "for": "2s"}) == [
        (5.0, "on", 0, 1),
        (7.0, "off", 0, 1),
    ]
    assert steps_of({"word": "stall", "at": "5s"}) == [(5.0, "on", 0, 1)]


def test_a_peer_knows_which_actions_it_will_be_told() -> None:
    rows = [
        {"kind": "action", "word": "close", "at": "1s"},
        {"kind": "action", "word": "close", "by": "server", "at": "2s"},
        {"kind": "action", "word": "send", "by": "server", "on": {"event": "open"}},
        {"kind": "action", "word": "send", "by": "server", "at": "3s"},
        {"kind": "action", "word": "restart", "by": "server", "at": "4s"},
    ]
    plan = plan_of(*rows)
    assert plan.actions_of("client") == ("close",)
    assert plan.actions_of("server") == ("close", "send")


def test_repetition_is_written_out() -> None:
    assert steps_of({"word": "reset", "at": "5s", "every": "10s", "times": 3}) == [
        (5.0, "instant", 0, 1),
        (15.0, "instant", 0, 2),
        (25.0, "instant", 0, 3),
    ]


def test_of_equal_times_what_ends_comes_first_then_the_order_of_the_file() -> None:
    assert [
        (s[1], s[2])
        for s in steps_of(
            {"word": "reset", "at": "7s"},
            {"word": "stall", "at": "5s", "for": "2s"},
            {"word": "refuse", "at": "7s", "for": "1s"},
        )
    ] == [("on", 1), ("off", 1), ("instant", 0), ("on", 2), ("off", 2)]


def test_a_window_of_an_action_has_a_beginning_and_an_end() -> None:
    plan = plan_of({"kind": "action", "word": "restart", "by": "server", "at": "5s", "for": "2s"})
    assert [(s.at_s, s.change, s.ends) for s in plan.steps] == [
        (5.0, "action", False),
        (7.0, "action", True),
    ]


def test_what_waits_for_an_event_is_kept_apart_with_times_from_that_event() -> None:
    entry = {"word": "stall", "on": {"event": "open", "number": 2}, "then": "200ms", "for": "3s"}
    plan = plan_of(entry)
    assert plan.steps == ()
    (row,) = plan.triggered
    assert (row.trigger.event, row.trigger.number, row.then_s) == ("open", 2, 0.2)
    assert [(s.at_s, s.change) for s in row.steps] == [(0.0, "on"), (3.0, "off")]


def test_an_entry_acts_on_the_streams_that_it_names() -> None:
    plan = plan_of(
        {"word": "stall", "at": "1s"},
        {
            "kind": "toxic",
            "word": "latency",
            "at": "1s",
            "stream": "downstream",
            "parameters": {"latency": 5},
        },
    )
    assert set(plan.stages(0)) == {"upstream", "downstream"}
    assert set(plan.stages(1)) == {"downstream"}
    assert plan.stages(1)["downstream"].settings.latency == 5


def test_one_choice_does_not_disturb_another() -> None:
    first = generator(1, "link", 1, 1, "upstream", "0")
    assert generator(1, "link", 1, 1, "upstream", "0").random() == first.random()
    others = {
        generator(*names).random()
        for names in [
            (1, "link", 1, 1, "upstream", "1"),
            (1, "link", 1, 2, "upstream", "0"),
            (2, "link", 1, 1, "upstream", "0"),
        ]
    }
    assert len(others) == 3
    assert generator(1, "link", 1, 1, "upstream", "0").random() not in others


def test_a_line_of_the_workload_says_where_the_numbers_of_its_sender_are() -> None:
    rows = [
        {"from": "server", "every": "1s", "id": "/data/id"},
        {"from": "server", "every": "1s"},
        {"from": "server", "every": "2s", "id": "/data/id"},
        {"from": "client", "every": "1s"},
    ]
    scenario = Scenario.model_validate(
        {"version": 1, "name": "ids", "duration": "10s", "workload": rows}
    )
    readers = make_plan(scenario, 1).readers()
    assert readers == {"downstream": (parse_reader("/data/id"), None)}
