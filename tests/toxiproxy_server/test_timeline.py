"""`/timeline`: a scenario's timeline on a proxy that is in use, and what a proxy cannot play."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.slow

YAML = """\
version: 1
name: slow-then-down
duration: 2s
timeline:
  - {at: 0s, for: 400ms, every: 800ms, times: 2, toxic: latency, stream: upstream, name: slow,
     toxicity: 0.5, attributes: {latency: 10}}
  - {at: 500ms, for: 200ms, fault: down}
  - {at: 1800ms, fault: reset}
"""


def wait_until(said: Any, for_s: float = 3.0) -> None:
    deadline = time.monotonic() + for_s
    while not said():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def names(ours: Any) -> list[str]:
    return [toxic["name"] for toxic in ours.get("/proxies/p/toxics")]


def test_entries_come_and_go_at_their_times_and_the_users_own_toxics_stay(
    ours: Any, peers: Any, wire: Any
) -> None:
    port = ours.create(peers.address)
    ours.toxic("noop", name="mine")
    client, _ = peers.warm_pair(port)
    start = time.monotonic()
    status = ours.do("POST", "/timeline", {"proxy": "p", "scenario": YAML})
    assert (status["playing"], status["proxy"], status["of"]) == (True, "p", 2.0)
    wait_until(lambda: len(names(ours)) == 2)
    [slow] = [row for row in ours.get("/proxies/p/toxics") if row["name"] != "mine"]
    assert slow["name"] == "timeline:1:slow"
    assert (slow["stream"], slow["toxicity"]) == ("upstream", 0.5)
    assert slow["attributes"] == {"latency": 10, "jitter": 0}
    assert wire.end_of(client) == "fin"
    assert 0.45 < time.monotonic() - start < 0.65
    assert not ours.get("/proxies/p")["enabled"]
    status = ours.get("/timeline")
    assert status["in_force"] == ["fault down"]
    assert status["next"] == {"at_s": 0.7, "entry": 2, "name": "fault down", "change": "off"}
    wait_until(lambda: ours.get("/proxies/p")["enabled"])
    again, _ = peers.warm_pair(port)
    assert wire.end_of(again) == "rst"
    assert 1.75 < time.monotonic() - start < 1.95
    wait_until(lambda: not ours.get("/timeline")["playing"])
    assert names(ours) == ["mine"]
    assert ours.get("/timeline") == {"playing": False}


def test_deleting_it_removes_what_it_added_at_once(ours: Any) -> None:
    ours.create()
    ours.toxic("noop", name="mine")
    rows = [
        {"at": "0s", "toxic": "latency", "attributes": {"latency": 5}},
        {"at": "0s", "fault": "stall"},
        {"at": "0s", "fault": "down"},
    ]
    ours.do("POST", "/timeline", {"proxy": "p", "timeline": rows, "duration": "60s"})
    wait_until(lambda: not ours.get("/proxies/p")["enabled"])
    assert len(names(ours)) == 3
    second = ours.ask("POST", "/timeline", {"proxy": "p", "timeline": rows, "duration": "60s"})
    assert (second.status, second.error) == (409, "a timeline is already playing")
    ours.do("DELETE", "/timeline")
    assert names(ours) == ["mine"]
    assert ours.get("/proxies/p")["enabled"]
    assert ours.ask("DELETE", "/timeline").status == 404


def test_in_a_loop_it_starts_again_until_it_is_stopped(ours: Any) -> None:
    ours.create()
    rows = [{"at": "100ms", "for": "50ms", "toxic": "noop"}]
    body = {"proxy": "p", "timeline": rows, "duration": "200ms", "loop": True}
    status = ours.do("POST", "/timeline", body)
    assert (status["loop"], status["round"]) == (True, 1)
    wait_until(lambda: ours.get("/timeline")["round"] == 3)
    wait_until(lambda: len(names(ours)) == 1)
    ours.do("DELETE", "/timeline")
    assert (names(ours), ours.get("/timeline")) == ([], {"playing": False})
    once = ours.do("POST", "/timeline", body | {"loop": None})
    assert not once["loop"]
    wait_until(lambda: not ours.get("/timeline")["playing"])


def test_an_entry_may_wait_for_the_nth_client_to_connect(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    rows = [
        {"on": {"event": "attempt", "number": 2}, "for": "200ms", "fault": "stall", "name": "held"},
        {"on": {"event": "attempt", "number": 3}, "then": "50ms", "fault": "reset"},
    ]
    status = ours.do("POST", "/timeline", {"proxy": "p", "timeline": rows, "duration": "60s"})
    assert (status["waiting"], status["in_force"]) == (["held", "fault reset"], [])
    client, server = peers.warm_pair(port)
    assert ours.get("/timeline")["waiting"] == ["held", "fault reset"]
    second, other = peers.pair(port)
    status = ours.get("/timeline")
    assert (status["waiting"], status["in_force"]) == (["fault reset"], ["held"])
    second.sendall(b"from the first byte on")
    assert wire.silent(other, 0.1)
    assert wire.read_all(other, 22)
    start = time.monotonic()
    third, _ = peers.pair(port)
    for each in (client, second, third):
        assert wire.end_of(each) == "rst"
    assert 0.04 < time.monotonic() - start < 1
    assert ours.get("/timeline")["waiting"] == []
    ours.do("DELETE", "/timeline")


def test_a_proxy_may_go_down_when_a_client_connects(ours: Any, peers: Any, wire: Any) -> None:
    port = ours.create(peers.address)
    rows = [{"on": {"event": "attempt"}, "for": "200ms", "fault": "down"}]
    body = {"proxy": "p", "timeline": rows, "duration": "60s"}
    ours.do("POST", "/timeline", body)
    assert wire.end_of(peers.connect(port)) in ("fin", "rst")
    wait_until(lambda: not ours.get("/proxies/p")["enabled"])
    wait_until(lambda: ours.get("/proxies/p")["enabled"])
    peers.connect(port)
    assert ours.get("/proxies/p")["enabled"]
    ours.do("DELETE", "/timeline")


def test_it_ends_with_its_proxy_which_does_not_come_back(ours: Any, wire: Any) -> None:
    port = ours.create()
    rows = [{"at": "0s", "fault": "down"}]
    ours.do("POST", "/timeline", {"proxy": "p", "timeline": rows, "duration": "60s"})
    wait_until(lambda: not ours.get("/proxies/p")["enabled"])
    ours.do("DELETE", "/proxies/p")
    assert ours.get("/timeline") == {"playing": False}
    assert ours.get("/proxies") == {}
    assert wire.refused(port)


def test_toxics_that_the_user_removes_meanwhile_disturb_nothing(ours: Any) -> None:
    ours.create()
    rows = [{"at": "0s", "for": "200ms", "toxic": "noop"}, {"at": "400ms", "toxic": "noop"}]
    ours.do("POST", "/timeline", {"proxy": "p", "timeline": rows, "duration": "3s"})
    wait_until(lambda: names(ours) == ["timeline:1:noop"])
    ours.do("POST", "/reset")
    wait_until(lambda: names(ours) == ["timeline:2:noop"])
    ours.do("DELETE", "/timeline")


REFUSED = """\
version: 1
name: cannot
duration: 60s
variables: {what: partition}
timeline:
  - {at: 1s, action: drain, by: server}
  - on: {event: open, number: 2}
    fault: reset
  - {at: 2s, for: 1s, fault: stall, clients: [1]}
  - {at: 3s, for: 1s, fault: loss, rate: 0.5}
"""


def test_all_that_a_proxy_cannot_play_is_told_at_once_with_its_place(ours: Any) -> None:
    ours.create()
    answer = ours.ask("POST", "/timeline", {"proxy": "p", "scenario": REFUSED})
    assert answer.status == 400
    told = answer.error.splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "scenario:6:14",
        "scenario:7:17",
        "scenario:9:37",
        "scenario:10:30",
    ]
    for line, why in zip(told, ("an action", "wait for `open`", "clients", "`loss`"), strict=True):
        assert why in line
    assert ours.get("/timeline") == {"playing": False}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "missing required field: proxy"),
        ([], "expected an object"),
        ({"proxy": "p"}, "expected scenario or timeline"),
        ({"proxy": "p", "scenario": 5}, "expected scenario to be a text"),
        ({"proxy": "p", "scenario": "a: ["}, "scenario:1:"),
        ({"proxy": "p", "scenario": YAML, "cell": "a=1"}, "has no matrix"),
        ({"proxy": "p", "scenario": YAML, "seed": 1}, "unknown field seed"),
        ({"proxy": "p", "timeline": {}, "duration": "1s"}, "expected timeline to be a list"),
        ({"proxy": "p", "timeline": []}, "expected duration"),
        ({"proxy": "p", "timeline": [], "duration": "soon"}, "`duration` needs a number"),
        (
            {"proxy": "p", "timeline": [{"at": "0s", "toxic": "noop"}, 5], "duration": "1s"},
            "timeline[1]: ",
        ),
        (
            {"proxy": "p", "timeline": [{"at": "0s", "action": "freeze"}], "duration": "1s"},
            "timeline[0]: a proxy cannot play an action",
        ),
        (
            {"proxy": "p", "timeline": [], "duration": "1s", "loop": 1},
            "expected loop to be true or",
        ),
        (
            {"proxy": "p", "timeline": [], "duration": "99ms", "loop": True},
            "expected a duration of at least 100ms with loop",
        ),
        (
            {"proxy": "p", "timeline": [], "duration": "1s", "cell": "a"},
            "expected cell only beside",
        ),
        ({"proxy": "p", "scenario": YAML, "duration": "1s"}, "expected no duration beside"),
    ],
)
def test_what_cannot_be_read_is_400_and_says_why(ours: Any, body: Any, told: str) -> None:
    ours.create()
    answer = ours.ask("POST", "/timeline", body)
    assert answer.status == 400
    assert told in answer.error


def test_a_text_with_paths_or_variables_is_judged_before_any_file_is_read(ours: Any) -> None:
    ours.create()
    text = "version: 1\nname: a\nduration: 9s\npaths: {client: {bandwidth: {trace: /dev/zero}}}\n"
    answer = ours.ask("POST", "/timeline", {"proxy": "p", "scenario": text})
    assert answer.status == 400
    assert answer.error.startswith("scenario:4:1: a proxy cannot play `paths`")
    text = (
        "version: 1\nname: a\nduration: 9s\nvariables: {what: partition}\nnetworks: [simulated]\n"
        'timeline:\n  - {at: 1s, for: 1s, fault: "${what}"}\n'
    )
    answer = ours.ask("POST", "/timeline", {"proxy": "p", "scenario": text})
    assert answer.status == 400
    assert answer.error.startswith("scenario:7:30: a proxy cannot play `partition`")


def test_a_matrix_needs_a_cell(ours: Any) -> None:
    ours.create()
    text = (
        "version: 1\nname: a\nduration: 9s\nmatrix: {wait: [1s, 2s]}\n"
        'timeline:\n  - {at: "${wait}", for: 1s, fault: stall}\n'
    )
    answer = ours.ask("POST", "/timeline", {"proxy": "p", "scenario": text})
    assert answer.status == 400
    assert "expected `cell` to be one of its cells (wait=1s, wait=2s), got none" in answer.error
    status = ours.do("POST", "/timeline", {"proxy": "p", "scenario": text, "cell": "wait=2s"})
    assert status["next"]["at_s"] == 2.0
    ours.do("DELETE", "/timeline")


def test_a_proxy_that_is_not_there_is_404(ours: Any) -> None:
    answer = ours.ask("POST", "/timeline", {"proxy": "q", "scenario": YAML})
    assert (answer.status, answer.error) == (404, "proxy not found")
