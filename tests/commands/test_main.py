"""The command line: answers at once, helps with mistakes, and gives the right exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_INCONCLUSIVE, EXIT_INTERNAL, EXIT_INVALID, EXIT_PASSED, UsageError
from chaos.networks import make_network
from chaos.running.tls import make_tls
from chaos.trace import FORMAT_VERSION, Header, dump_header

VALID = """\
version: 1
name: short
duration: 3s
settle: 1s
steady_state: none
expect: [never_sends_before_open]
"""
HEAVY = ("trio", "pydantic", "rich", "ruamel", "hypothesis", "requests", "multiprocessing")


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


def test_help_imports_nothing_heavy_so_that_it_answers_at_once() -> None:
    code = (
        "import sys, chaos.commands.main\n"
        "try: chaos.commands.main.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "recheck" in done.stdout


@pytest.mark.parametrize("command", ["run", "recheck", "validate", "schema", "list", "new"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == EXIT_PASSED
    assert "Usage: trio-chaos" in capsys.readouterr().out


def test_a_path_that_is_not_there_is_named_with_the_nearest_that_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scenario.yaml").write_text(VALID)
    assert call("run", tmp_path / "scenaro.yaml") == EXIT_INVALID
    said = capsys.readouterr().err
    assert "scenaro.yaml" in said
    assert "did you mean" in said
    assert "Traceback" not in said


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "x", "--netwrk", "embedded") == EXIT_INVALID
    assert "--network" in capsys.readouterr().err


def test_invalid_files_stop_the_run_list_every_mistake_and_still_give_junit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(VALID.replace("duration: 3s", "duration: 3"))
    (tmp_path / "b.yaml").write_text(VALID.replace("expect", "expct"))
    junit = tmp_path / "out" / "junit.xml"
    assert call("run", tmp_path, "--junit", junit) == EXIT_INVALID
    said = capsys.readouterr().err
    assert "a.yaml:3:11: " in said
    assert "b.yaml:6:1: " in said
    assert "`expect`?" in said
    suite = ET.parse(junit).getroot()
    assert len(list(suite.iter("error"))) == 2


def test_validate_judges_files_without_importing_their_subjects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bomb.py").write_text("raise SystemExit('imported')")
    (tmp_path / "a.yaml").write_text(VALID + "client: {use: 'bomb.py:client'}\n")
    assert call("validate", tmp_path) == EXIT_PASSED, capsys.readouterr().out
    assert "1 valid, 0 invalid" in capsys.readouterr().out


EARLY = VALID.replace("steady_state: none", "timeline: [{at: 500ms, fault: reset}]")


def test_validate_warns_of_what_cannot_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(EARLY)
    line = EARLY.splitlines().index("timeline: [{at: 500ms, fault: reset}]") + 1
    assert call("validate", tmp_path) == EXIT_PASSED
    said = capsys.readouterr().out
    assert f"{file}:{line}:17: warning: " in said
    assert "1 valid, 0 invalid, 1 warning" in said
    assert call("validate", tmp_path, "--warnings-as-errors") == EXIT_INVALID
    file.write_text(VALID)
    assert call("validate", tmp_path, "--warnings-as-errors") == EXIT_PASSED


@pytest.mark.slow
def test_a_run_tells_a_warning_only_where_it_could_not_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, timeline, warns in (("a", EARLY, True), ("b", VALID, False)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(timeline)
        code = call("run", file, "--network", "simulated")
        assert code == (EXIT_INCONCLUSIVE if warns else EXIT_PASSED)
        assert ("warning: " in capsys.readouterr().out) == warns


def test_a_file_that_expects_nothing_is_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nname: a\nduration: 3s\n")
    assert call("validate", tmp_path) == call("run", tmp_path) == EXIT_INVALID
    assert "a.yaml:1:1: the scenario expects nothing" in capsys.readouterr().out


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("schema") == EXIT_PASSED
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ("faults", "blackhole"),
        ("checks", "no_leaks"),
        ("presets", "aws-nlb"),
        ("policies", "pusher"),
        ("actions", "drain"),
    ],
)
def test_list_prints_the_tables(table: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", table) == EXIT_PASSED
    assert word in capsys.readouterr().out


def test_new_writes_a_scenario_that_is_valid_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("new", "mine", "--folder", tmp_path) == EXIT_PASSED
    assert call("validate", tmp_path / "mine.yaml") == EXIT_PASSED
    assert call("new", "mine", "--folder", tmp_path) == EXIT_INVALID
    assert "already there" in capsys.readouterr().err


def test_recheck_of_something_else_says_what_is_wrong_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.jsonl").write_text("not a trace\n")
    assert call("recheck", tmp_path / "trace.jsonl") == EXIT_INVALID
    assert "line 1" in capsys.readouterr().err
    assert call("recheck", tmp_path / "nothing.jsonl") == EXIT_INVALID
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["recheck", "replay"])
@pytest.mark.parametrize("older", range(1, FORMAT_VERSION))
def test_a_trace_of_an_older_format_is_refused_with_a_sentence(
    command: str, older: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = Header(scenario={}, network="simulated", seed=1)
    row = {**json.loads(dump_header(header)), "trace": older}
    (tmp_path / "trace.jsonl").write_text(json.dumps(row) + "\n")
    assert call(command, tmp_path) == EXIT_INVALID
    told = capsys.readouterr().err
    assert f"format is {older}; expected {FORMAT_VERSION}" in told
    assert "run the scenario again" in told
    assert "Traceback" not in told


def test_an_error_that_an_interruption_became_is_an_interruption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ValueError("a library has wrapped it") from error

    assert run_cli(command) == 128 + signal.SIGTERM
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_of_ours_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise ValueError("a bug")

    assert run_cli(command) == EXIT_INTERNAL
    assert "ValueError: a bug" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("starlette", "server", ["toxiproxy-server", "--port", "1"]),
        ("hypercorn", "server", ["toxiproxy-server", "--port", "1"]),
    ],
)
def test_a_package_of_an_extra_that_is_not_there_is_named_with_the_extra(
    module: str,
    extra: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [one for one in sys.modules if one.startswith(("chaos.toxiproxy_server", module))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert call(*arguments) == EXIT_INVALID
    said = capsys.readouterr().err
    assert f"`{module}`" in said
    assert f"trio-chaos[{extra}]" in said


def test_networks_and_certificates_name_their_extras_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("chaos.networks.toxiproxy")]:
        monkeypatch.delitem(sys.modules, name)
    for module in ("toxiproxy", "trustme"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"trio-chaos\[toxiproxy\]"):
        make_network("toxiproxy")
    with pytest.raises(UsageError, match=r"trio-chaos\[tls\]"):
        make_tls()
