"""What is valid and cannot work: each rule warns of one file, and not of the nearest one that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.scenario.load import load_text, load_with_warnings
from chaos.scenario.warnings import WARNINGS, find_warnings

ROOT = Path(__file__).parents[2]
HEAD = "version: 1\nname: warned\nduration: 40s\n"
QUICK = "client: {backoff: {initial: 1s, max: 4s}}\n"
BEATS = "client: {heartbeat: {interval: 2s, timeout: 1s}, misses: 2}\n"
SENDS = "workload: [{from: server, every: 1s}]\n"
CLOSE = "timeline: [{at: 33s, action: close, by: server, code: 4000, name: x}]\n"
# by rule: where it warns, the file that it warns of, and what to replace in it for one that it does not warn of
CASES: dict[str, list[tuple[str, str, tuple[str, str]]]] = {
    "fault_before_steady": [
        (
            "timeline 0 at",
            "timeline: [{at: 900ms, fault: reset}]\nexpect: [single_connection]",
            ("900ms", "1s"),
        ),
        (
            "timeline 0 at",
            (
                "timeline: [{at: 2500ms, fault: reset}]\nclient: {count: 4, start_spread: 2400ms}\n"
                "expect: [single_connection]"
            ),
            ("2500ms", "2800ms"),
        ),
        (
            "timeline 0 at",
            (
                "timeline: [{at: 2s, fault: reset}]\nnetworks: [simulated]\npaths: {client: {delay: 300ms}}\n"
                "expect: [single_connection]"
            ),
            ("300ms", "200ms"),
        ),
        (
            "timeline 0 on",
            "timeline: [{on: {event: open}, then: 500ms, fault: reset}]\nexpect: [single_connection]",
            ("500ms", "1s"),
        ),
        (
            "timeline 0 at",
            "timeline: [{at: 0s, fault: refuse}]\nexpect: [single_connection]\n",
            ("expect", "steady_state: none\nexpect"),
        ),
    ],
    "limit_never_reached": [
        (
            "timeline 0 after",
            "timeline: [{at: 5s, for: 9s, fault: idle_timeout, after: 20s}]\nexpect: [single_connection]",
            ("20s", "10s"),
        ),
        (
            "timeline 0 after",
            (
                "timeline: [{at: 5s, fault: max_lifetime, preset: aws-apigw-lifetime}]\n"
                "expect: [single_connection]"
            ),
            ("aws-apigw-lifetime", "gcp-https-lb"),
        ),
    ],
    "nobody_touched": [
        (
            "timeline 0 toxicity",
            (
                "timeline: [{at: 5s, for: 9s, toxic: latency, attributes: {latency: 5}, toxicity: 0}]\n"
                "expect: [single_connection]"
            ),
            ("toxicity: 0", "toxicity: 0.5"),
        ),
        (
            "timeline 0 for",
            "timeline: [{at: 5s, for: 0s, fault: stall}]\nexpect: [single_connection]",
            ("0s", "1s"),
        ),
    ],
    "settle_too_long": [
        ("settle", SENDS + "settle: 39500ms\nexpect: [delivers: {lost: 0}]", ("39500ms", "39s"))
    ],
    "absence_too_short": [
        ("expect 0 after", QUICK + CLOSE + "expect: [never_reconnects]", ("33s", "32s")),
    ],
    "client_that_comes_back": [
        (
            "expect 0 after",
            QUICK
            + CLOSE.replace("33s", "9s").replace("4000", "1001")
            + "expect: [never_reconnects]",
            ("1001", "4000"),
        )
    ],
    "detection_too_tight": [
        (
            "expect 0 within",
            BEATS + "timeline: [{at: 5s, for: 9s, fault: blackhole, name: x}]\n"
            "expect: [detects_dead_peer: {during: x, within: 5900ms}]",
            ("5900ms", "6s"),
        ),
        (
            "expect 0 within",
            BEATS + "timeline:\n  - {at: 5s, for: 9s, fault: blackhole, name: x}\n"
            "  - {at: 3s, for: 30s, toxic: latency, stream: both, attributes: {latency: 100}}\n"
            "expect: [detects_dead_peer: {during: x, within: 6s}]",
            ("within: 6s", "within: 6200ms"),
        ),
        (
            "expect 0 within",
            (
                "client: {use: 'a:b', heartbeat: {interval: 2s, timeout: 1s}, close_timeout: 3s}\n"
                "timeline: [{at: 5s, for: 9s, fault: blackhole, name: x}]\n"
                "expect: [detects_dead_peer: {during: x, within: 5s}]"
            ),
            ("within: 5s", "within: 6s"),
        ),
    ],
    "window_too_short": [
        (
            "expect 0 during",
            BEATS + "timeline: [{at: 5s, for: 5s, fault: stall, name: x}]\n"
            "expect: [detects_dead_peer: {during: x, within: 7s}]",
            ("for: 5s", "for: 6s"),
        )
    ],
    "reconnection_too_tight": [
        (
            "expect 0 within",
            (
                "client: {backoff: {initial: 5s, max: 8s}}\n"
                "timeline: [{at: 5s, fault: reset, name: x}]\nexpect: [reconnects: {within: 4s}]"
            ),
            ("4s", "6s"),
        )
    ],
    "too_few_delays": [
        (
            "expect 0 attempts_min",
            QUICK + "timeline: [{at: 5s, for: 4s, fault: refuse}, {at: 6s, fault: reset}]\n"
            "expect: [backoff: {initial: 1s, max: 4s, attempts_min: 9}]",
            ("attempts_min: 9", "attempts_min: 4"),
        ),
        (
            "expect 0",
            QUICK + "timeline: [{at: 5s, fault: reset}]\nexpect: [backoff: {initial: 1s, max: 4s}]",
            ("{at: 5s,", "{at: 5s, every: 5s, times: 3,"),
        ),
    ],
    "too_few_cycles": [
        (
            "expect 0 cycles",
            "timeline: [{at: 5s, every: 3s, times: 7, fault: reset}]\nexpect: [no_leaks: {cycles: 8}]",
            ("cycles: 8", "cycles: 7"),
        ),
        (
            "expect 0 cycles",
            (
                "client: {count: 2}\ntimeline: [{at: 5s, every: 3s, times: 7, fault: reset, clients: [1]}]\n"
                "expect: [no_leaks: {cycles: 5}]"
            ),
            ("clients: [1]", "clients: [1, 2]"),
        ),
        (
            "expect 0 cycles",
            (
                "timeline: [{at: 5s, for: 20s, fault: max_lifetime, after: 9s}]\n"
                "expect: [no_leaks: {cycles: 5}]"
            ),
            ("9s", "2s"),
        ),
    ],
    "lost_messages": [
        (
            "expect 0 lost",
            SENDS
            + "timeline: [{at: 5s, for: 5s, fault: blackhole}]\nexpect: [delivers: {lost: 0}]",
            ("every: 1s", "every: 1s, delivery: resume"),
        )
    ],
    "herd_of_one": [
        (
            "expect 0",
            "client: {count: 1}\ntimeline: [{at: 5s, fault: reset}]\nexpect: [herd: {peak_per_s: 5}]",
            ("count: 1", "count: 9"),
        )
    ],
    "no_retry_after": [
        (
            "expect 0 retry_after",
            (
                "timeline: [{at: 5s, for: 5s, fault: reject_upgrade, status: 503}, {at: 6s, fault: reset}]\n"
                "expect: [handshake: {retry_after: true}]"
            ),
            ("status: 503", "status: 503, retry_after: 2s"),
        ),
        (
            "expect 0 retry_after",
            (
                "timeline: [{at: 5s, for: 5s, fault: reject_upgrade, status: 503}, {at: 6s, fault: reset}]\n"
                "expect: [handshake: {retry_after: true}]"
            ),
            ("status: 503", "status: 503, headers: {Retry-After: '2'}"),
        ),
    ],
    "no_cost": [
        (
            "expect 0",
            "expect: [cost: {bytes_per_hour_max: 9000}]",
            ("expect", "client: {heartbeat: {interval: 2s, timeout: 1s}}\nexpect"),
        )
    ],
    "no_availability": [
        ("expect 0 at_least", "expect: [availability: {at_least: 0}]", ("0}", "0.5}"))
    ],
}
ROWS = [(rule, *row) for rule, rows in CASES.items() for row in rows]


def warned(text: str) -> list[tuple[str, str]]:
    """Return the rules that warn of a text, each with where."""
    (scenario,) = load_text(HEAD + text, "test.yaml")
    return [
        (rule.__name__.removeprefix("warn_of_"), " ".join(map(str, problem.where)).strip())
        for rule in WARNINGS
        for problem in rule(scenario)
    ]


def test_every_rule_has_a_case() -> None:
    assert [rule.__name__.removeprefix("warn_of_") for rule in WARNINGS] == list(CASES)
    assert all(rule.__doc__ for rule in WARNINGS)


@pytest.mark.parametrize(("rule", "where", "text", "change"), ROWS)
def test_a_rule_warns_of_one_file_and_not_of_the_nearest_that_works(
    rule: str, where: str, text: str, change: tuple[str, str]
) -> None:
    assert warned(text) == [(rule, where)]
    assert change[0] in text
    assert warned(text.replace(*change)) == []


def test_a_warning_has_its_place_and_a_cell_its_own() -> None:
    text = f"{HEAD}matrix: {{at: [500ms, 5s]}}\ntimeline: [{{at: '${{at}}', fault: reset}}]\nexpect: [no_leaks]\n"
    scenarios, (warning,) = load_with_warnings(text, "some.yaml")
    assert len(scenarios) == 2
    assert (warning.path, warning.line, warning.column) == ("some.yaml", 5, 17)
    assert "(in cell at=500ms)" in warning.message
    assert warning.expected is not None


@pytest.mark.parametrize("file", sorted((ROOT / "scenarios").rglob("*.yaml")), ids=lambda f: f.stem)
def test_no_shipped_file_warns(file: Path) -> None:
    _, warnings = load_with_warnings(file.read_bytes(), file.name, read_file=_read_beside(file))
    assert [str(row) for row in warnings] == []


def _read_beside(file: Path):  # type: ignore[no-untyped-def]
    return lambda name: (file.parent / name).read_bytes()


def test_a_valid_scenario_without_a_timeline_warns_of_nothing() -> None:
    (scenario,) = load_text(HEAD, "test.yaml")
    assert find_warnings(scenario) == []
