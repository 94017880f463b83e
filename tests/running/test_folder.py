"""Where results go: writable before a run, one run at a time, a folder for each scenario whatever its name."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.api import Selection, load, select
from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_INVALID, EXIT_PASSED, UsageError
from chaos.running.folder import taken
from chaos.running.log import NAME_MAX, folder_name
from chaos.running.process import run_job

TEXT = """\
version: 1
name: short
duration: 1s
settle: 0s
steady_state: none
expect: [never_sends_before_open]
"""


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(TEXT)
    return tmp_path / "a.yaml"


def test_a_folder_is_kept_to_one_process_and_freed_by_its_end(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from chaos.running.folder import taken
with taken(Path({str(tmp_path)!r})):
    print("taken", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(UsageError, match="another run"), taken(tmp_path):
            pass
        other.kill()
    with taken(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run --network simulated", "sweep --seeds 1"])
def test_two_runs_never_write_to_one_folder(
    command: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command.split()
    with taken(tmp_path / "out"):
        assert call(name, file, *options, "--out", tmp_path / "out") == EXIT_INVALID
    assert "another run" in capsys.readouterr().err
    assert call(name, file, *options, "--out", tmp_path / "out") == EXIT_PASSED


@pytest.mark.parametrize("option", ["--out", "--junit"])
@pytest.mark.parametrize("place", ["a.yaml/x", "/proc/nowhere/x", "n" * 300, "."])
def test_what_cannot_be_written_is_found_before_the_run(
    option: str, place: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (option, place) == ("--out", "."):
        pytest.skip("that is a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chaos.api.run_jobs", lambda *_, **__: pytest.fail("it was run"))
    assert call("run", file, option, place) == EXIT_INVALID


def test_json_to_a_closed_output_is_found_before_the_run(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.api.run_jobs", lambda *_, **__: pytest.fail("it was run"))
    monkeypatch.setattr(sys, "stdout", None)
    assert call("run", file, "--json") == EXIT_INVALID


def test_scenarios_of_one_name_have_a_folder_each(file: Path, tmp_path: Path) -> None:
    for name in ("b", "c"):
        (tmp_path / f"{name}.yaml").write_text(TEXT)
    selected = select(Selection(paths=(tmp_path,), network="simulated"))
    for repeat, baseline in ((1, False), (3, False), (2, True)):
        folders = [job.out for job in selected.jobs(repeat=repeat, baseline=baseline, out=tmp_path)]
        assert len(set(folders)) == len(folders) == 3 * (repeat + baseline)


def test_a_long_name_and_an_odd_one_are_one_segment_each() -> None:
    titles = ["é" * 80 + f"[a={n}{'ü' * 300}]" for n in range(3)] + [
        ".",
        "..",
        "",
        "a/../b",
        "\x00",
    ]
    names = [folder_name(title) for title in titles]
    assert len(set(names)) == len(names)
    assert max(len(name.encode()) for name in names) <= NAME_MAX
    assert not {name for name in names if name in (".", "..", "") or "/" in name or "\0" in name}
    assert folder_name("half-open[beat=5s]") == "half-open%5Bbeat=5s%5D"


def test_a_scenario_with_a_long_cell_keeps_its_results(file: Path, tmp_path: Path) -> None:
    file.write_text(TEXT + f"matrix: {{a: [{'ü' * 150}]}}\n")
    out = tmp_path / "out"
    assert call("run", file, "--network", "simulated", "--out", out) == EXIT_PASSED
    [folder] = out.iterdir()
    assert call("recheck", folder) == EXIT_PASSED


def test_a_simulated_run_asks_for_no_descriptors(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    scenario = load(file)[0]
    job = Selection(paths=(), network="simulated").job(scenario, 1, None)
    assert run_job(job).outcome.value == "PASS"
