"""What the loader makes of good files, and how it finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.api import find_files, load_scenarios
from chaos.errors import InvalidScenario, UsageError
from chaos.scenario.load import load_text
from chaos.scenario.model import Scenario

HEAD = "version: 1\nname: test\nduration: 2m\n"
VALID = Path(__file__).parent / "valid"


def load(text: str) -> Scenario:
    (scenario,) = load_text(HEAD + text, "test.yaml")
    return scenario


def test_the_smallest_file_has_reference_peers() -> None:
    scenario = load("")
    assert scenario.server.use == "reference"
    assert scenario.client.use == "reference"
    assert scenario.networks == ("embedded", "toxiproxy", "simulated")
    assert scenario.path == "test.yaml"
    assert scenario.title == "test"


def test_a_peer_with_other_keys_is_still_the_reference() -> None:
    assert load("client: {count: 3}").client.use == "reference"
    assert load("client:\n").client.use == "reference"


def test_a_peer_with_a_command_or_url_has_no_use() -> None:
    scenario = load("client: {command: [node, c.js]}\nserver: {url: 'ws://127.0.0.1:1/x'}")
    assert (scenario.client.use, scenario.client.command) == (None, ("node", "c.js"))
    assert (scenario.server.use, scenario.server.url) == (None, "ws://127.0.0.1:1/x")


def test_a_toxic_keeps_its_attributes_and_defaults_to_downstream() -> None:
    (entry,) = load("timeline: [{at: 1s, toxic: latency, attributes: {latency: 400}}]").timeline
    assert (entry.kind, entry.word, entry.parameters) == ("toxic", "latency", {"latency": 400})
    assert entry.stream == "downstream"


def test_a_fault_keeps_its_flat_keys_and_defaults_to_both_ways() -> None:
    text = (
        "timeline: [{at: 1s, for: 5s, fault: idle_timeout, action: rst, after: 1500ms, name: box}]"
    )
    (entry,) = load(text).timeline
    assert (entry.kind, entry.word, entry.name) == ("fault", "idle_timeout", "box")
    assert entry.parameters == {"action": "rst", "after": "1.5s"}
    assert (entry.stream, entry.at_s, entry.for_s) == ("both", 1.0, 5.0)


def test_an_action_of_one_peer_needs_no_by() -> None:
    text = "timeline: [{at: 1s, for: 1s, action: drain}, {at: 5s, for: 1s, action: offline}]"
    assert [entry.by for entry in load(text).timeline] == ["server", "client"]


def test_a_trigger_with_then_is_kept() -> None:
    (entry,) = load(
        "timeline: [{on: {event: ping, number: 2}, then: 200ms, fault: reset}]"
    ).timeline
    assert entry.on is not None
    assert (entry.on.event, entry.on.number, entry.then_s, entry.at_s) == ("ping", 2, 0.2, None)


def test_expectations_know_their_line_and_tolerance() -> None:
    scenario = load(
        "expect:\n  - no_leaks\n  - single_connection:\n      grace: 1s\n      tolerance: 2s\n"
        "  - {use: 'my.module:check', limit: 3, x-note: ignored}\n"
    )
    bare, full, own = scenario.expect
    assert (bare.check, bare.line, bare.tolerance_s) == ("no_leaks", 5, None)
    assert (full.parameters, full.line, full.tolerance_s) == ({"grace": "1s"}, 6, 2.0)
    assert (own.check, own.use, own.parameters) == ("use", "my.module:check", {"limit": 3})


def test_a_lone_variable_keeps_its_type_and_an_embedded_one_becomes_text() -> None:
    scenario = load(
        "variables: {n: 3, yes: true, host: h, deep: '${host}-${n}'}\n"
        "client: {count: '${n}', headers: {A: 'x${n}y', B: '$${n}', C: '${deep}'}}\n"
        "workload: [{from: server, every: 1s, binary: '${yes}'}]\n"
    )
    assert scenario.client.count == 3
    assert scenario.client.headers == {"A": "x3y", "B": "${n}", "C": "h-3"}
    assert scenario.workload[0].binary is True


def test_own_keys_are_ignored_but_kept_where_anything_may_stand() -> None:
    scenario = load(
        "x-top: 1\nclient: {x-in: {a: b}, headers: {x-trace: '1'}}\n"
        "server: {use: 'm:f', options: {x-own: 1, deep: {x-y: [1, null]}}}\n"
        "timeline: [{at: 1s, x-why: because, toxic: latency, attributes: {latency: 1, x-a: 2}}]\n"
    )
    assert scenario.client.headers == {"x-trace": "1"}
    assert scenario.server.options == {"x-own": 1, "deep": {"x-y": [1, None]}}
    assert scenario.timeline[0].parameters == {"latency": 1}


def test_words_of_yaml_1_1_are_text() -> None:
    assert load("client: {headers: {A: yes, B: off, C: 12:30, D: 2020-01-01}}").client.headers == {
        "A": "yes", "B": "off", "C": "12:30", "D": "2020-01-01",
    }  # fmt: skip


def test_close_codes_of_a_policy_may_be_numbers() -> None:
    assert load("client: {policy: {4001: never}}").client.policy == {"4001": "never"}


def test_an_alias_stands_for_its_anchor() -> None:
    scenario = load(
        "server: {heartbeat: &beat {interval: 5s, timeout: 3s}}\nclient: {heartbeat: *beat}"
    )
    assert scenario.client.heartbeat == scenario.server.heartbeat


def test_sections_may_be_empty() -> None:
    scenario = load("timeline:\nexpect:\nworkload:\nvariables:\n")
    assert (scenario.timeline, scenario.expect, scenario.workload) == ((), (), ())


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read() -> None:
    text = ("\ufeff" + HEAD + "client: {count: 0}\n").replace("\n", "\r\n").encode()
    with pytest.raises(InvalidScenario) as caught:
        load_text(text, "test.yaml")
    assert [(row.line, row.column) for row in caught.value.mistakes] == [(4, 17)]


def test_each_cell_of_a_matrix_is_a_scenario() -> None:
    scenarios = load_scenarios(VALID / "matrix.yaml")
    assert [scenario.title for scenario in scenarios] == [
        "matrix[beat=5s,size=64]",
        "matrix[beat=5s,size=128]",
        "matrix[beat=10s,size=64]",
        "matrix[beat=1s,size=256]",
    ]
    beats = [
        (row.client.heartbeat.interval_s, row.client.heartbeat.timeout_s)
        for row in scenarios
        if row.client.heartbeat
    ]
    assert beats == [(5, 5), (5, 5), (10, 10), (1, 1)]
    assert [row.workload[0].size for row in scenarios] == [64, 128, 64, 256]


def test_sums_of_decimal_fractions_do_not_reach_past_the_end() -> None:
    text = (
        "version: 1\nname: test\nduration: 300ms\nsettle: 0s\n"
        "timeline: [{at: 100ms, for: 200ms, fault: stall}]\n"
    )
    assert 0.1 + 0.2 > 0.3
    assert load_text(text, "test.yaml")


def test_one_stall_per_stream_and_client_may_overlap() -> None:
    text = (
        "client: {count: 2}\ntimeline:\n"
        "  - {at: 1s, for: 9s, fault: stall, stream: upstream}\n"
        "  - {at: 1s, for: 9s, fault: stall, stream: downstream}\n"
        "  - {at: 20s, for: 9s, fault: down, clients: [1]}\n"
        "  - {at: 20s, for: 9s, fault: down, clients: [2]}\n"
        "  - {at: 29s, for: 9s, fault: down}\n"
        "  - {at: 50s, for: 9s, action: restart, by: server}\n"
        "  - {at: 50s, for: 9s, action: restart, by: client}\n"
    )
    assert len(load(text).timeline) == 7


def test_a_restart_brings_a_crashed_peer_back() -> None:
    text = (
        "timeline:\n  - {at: 1s, action: crash, by: server}\n"
        "  - {at: 5s, action: restart, by: server}\n  - {at: 9s, action: close, by: server}\n"
    )
    assert len(load(text).timeline) == 3


def test_a_restart_without_a_window_is_over_at_once() -> None:
    text = (
        "timeline: [{at: 100s, action: restart, by: server}]\nexpect: [{reconnects: {within: 20s}}]"
    )
    assert load(text).expect


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(InvalidScenario, match=r"^shown:1:1: .*1 MiB"):
        load_scenarios(path, display="shown")


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00\x01", b"\x89PNG\r\n\x1a\n", b"version: 1\n\x00"])
def test_binary_junk_is_not_a_scenario(junk: bytes) -> None:
    with pytest.raises(InvalidScenario, match=r"UTF-8|does not allow"):
        load_text(junk, "junk.yaml")


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml"):
        load_scenarios(tmp_path / "gone.yaml")


def test_a_folder_stands_for_the_files_directly_in_it(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "notes.txt", "deep/c.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD)
    assert [path.name for path in find_files([tmp_path])] == ["a.yml", "b.yaml"]
    assert [path.name for path in find_files([tmp_path], recursive=True)] == [
        "a.yml",
        "b.yaml",
        "c.yaml",
    ]
    twice = find_files([tmp_path / "b.yaml", tmp_path])
    assert [path.name for path in twice] == ["b.yaml", "a.yml"]


def test_a_folder_without_scenarios_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.yaml").write_text(HEAD)
    with pytest.raises(UsageError, match=r"--recursive"):
        find_files([tmp_path])
    with pytest.raises(UsageError, match="no scenario files"):
        find_files([tmp_path / "deep", tmp_path / "deep" / ".."], recursive=False)


def test_a_missing_path_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "half-open.yaml").write_text(HEAD)
    with pytest.raises(UsageError, match=r"halfopen\.yaml.*half-open\.yaml\?"):
        find_files([tmp_path / "halfopen.yaml"])
    with pytest.raises(UsageError, match=r"no such file or folder: \S+$"):
        find_files([tmp_path / "nowhere" / "x.yaml"])


@pytest.mark.parametrize("client", ["command: [node, c.js]", "use: 'my.module:client'"])
def test_a_subject_that_is_not_ours_may_have_a_heartbeat_that_nobody_declared(client: str) -> None:
    text = (
        f"client: {{{client}}}\ntimeline: [{{at: 1s, for: 20s, fault: stall}}]\n"
        "expect: [{detects_dead_peer: {within: 9s}}]"
    )
    assert load(text).expect


def test_every_mistake_of_a_file_is_told_at_once_in_file_order() -> None:
    with pytest.raises(InvalidScenario) as caught:
        load_text("version: 3\nname: A\nduration: 5\nclient: {count: 0}\n", "many.yaml")
    assert [row.line for row in caught.value.mistakes] == [1, 2, 3, 4]
    assert str(caught.value).splitlines()[2] == (
        "many.yaml:3:11: `duration` needs a number with its unit "
        "(got 5; expected 250ms, 20s, 15m or 2h; did you mean 5s?)"
    )


@pytest.mark.parametrize(
    "text",
    ["1234567m", "0.000000001s", "250.1ms", "1.0000000000001s", "123456789h", "90m", "0.1ms"],
)
def test_any_duration_survives_the_way_through_json(text: str) -> None:
    scenario = load(f"client: {{stable_after: {text}}}")
    again = Scenario.from_json(scenario.to_json())
    assert again.client.stable_after_s == scenario.client.stable_after_s > 0
