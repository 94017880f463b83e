"""Traces go to a file and come back, and a file that was cut off is read as far as it goes."""

from __future__ import annotations

import pytest

from chaos.recorder import Recorder, Reporter, current_reporter, report
from chaos.running.result import digest_of
from chaos.trace import EVENTS, Event, Header, Trace, dump_trace, parse_trace

HEADER = Header(scenario={"name": "x"}, network="embedded", seed=7, environment={"python": "3"})
TRACE = Trace(
    HEADER,
    (
        Event(at_s=0.0, kind="start"),
        Event(at_s=0.25, kind="open", client=1, connection=2),
        Event(
            at_s=1.5,
            kind="frame",
            client=1,
            connection=2,
            stream="upstream",
            data={"side": "client", "opcode": "ping"},
        ),
        Event(at_s=2.0, kind="end"),
        Event(
            at_s=3.0,
            kind="fin",
            client=1,
            connection=2,
            stream="downstream",
            data={"side": "client"},
        ),
    ),
)


def test_a_trace_survives_its_file() -> None:
    assert parse_trace(dump_trace(TRACE).splitlines(keepends=True)) == TRACE


def test_events_are_selected_by_kind_client_and_data() -> None:
    assert TRACE.select("open", "fin", client=1) == [TRACE.events[1], TRACE.events[4]]
    assert TRACE.select("frame", opcode="ping") == [TRACE.events[2]]
    assert TRACE.select("frame", opcode="pong") == []
    assert TRACE.select("open", client=2) == []


def test_what_is_judged_ends_with_the_end_event() -> None:
    assert TRACE.end_s() == 2.0
    assert Trace(HEADER, TRACE.events[:3]).end_s() == 1.5
    assert Trace(HEADER, ()).end_s() == 0.0


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    text = dump_trace(TRACE)[:-30]
    assert parse_trace(text.splitlines(keepends=True)) == Trace(HEADER, TRACE.events[:4])


def test_a_broken_line_in_the_middle_is_named() -> None:
    lines = dump_trace(TRACE).splitlines(keepends=True)
    lines[2] = "{}\n"
    with pytest.raises(ValueError, match="line 3"):
        parse_trace(lines)


@pytest.mark.parametrize("text", ["", "hello\n", '{"trace": 99}\n', "[]\n", "[" * 99_999 + "\n"])
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|empty"):
        parse_trace(text.splitlines(keepends=True))


def test_the_recorder_counts_from_time_zero_in_microseconds() -> None:
    now = [100.0]
    seen: list[Event] = []
    recorder = Recorder(lambda: now[0], sink=seen.append)
    recorder.start()
    now[0] = 101.23456789
    event = recorder.record("open", client=1, connection=1)
    assert event.at_s == 1.234568
    assert seen == recorder.events == [event]


def test_report_says_who_speaks_and_does_nothing_outside_a_run() -> None:
    report("message", id=1)
    recorder = Recorder(lambda: 0.0)
    token = current_reporter.set(Reporter(recorder, "client", 3))
    try:
        report("message", id=17, sender="server")
        report("state", state="open")
    finally:
        current_reporter.reset(token)
    assert [(e.kind, e.client, dict(e.data)) for e in recorder.events] == [
        ("message", 3, {"subject": "client", "id": 17, "sender": "server"}),
        ("state", 3, {"subject": "client", "state": "open"}),
    ]


def test_what_a_subject_says_is_kept_as_json_and_can_be_written() -> None:
    recorder = Recorder(lambda: 0.0)
    token = current_reporter.set(Reporter(recorder, "client", 1))
    try:
        report(
            "note", text="half a pair: \ud800, and a whole one: 😀", more=({"é": (1, None)}, True)
        )
        for wrong in (object(), {1, 2}, b"x"):
            with pytest.raises(TypeError, match="JSON"):
                report("note", text=[wrong])
    finally:
        current_reporter.reset(token)
    [event] = recorder.events
    assert event["text"] == "half a pair: \\ud800, and a whole one: 😀"
    assert event["more"] == [{"é": [1, None]}, True]
    trace = Trace(Header(scenario={}, network="simulated", seed=1), (event,))
    assert digest_of(trace)
    assert parse_trace(dump_trace(trace).encode().decode().splitlines(keepends=True)) == trace


@pytest.mark.parametrize(
    ("event", "data", "says"),
    [
        ("mesage", {}, "unknown event 'mesage'"),
        ("state", {"state": "opened"}, "unknown state 'opened'"),
    ],
)
def test_a_misspelt_report_is_refused(event: str, data: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        report(event, **data)


def test_every_kind_that_the_code_records_is_in_the_table() -> None:
    assert {event.kind for event in TRACE.events} <= EVENTS.keys()
