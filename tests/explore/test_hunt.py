"""The hunt as a whole: planted bugs are found and made small, and the reference peers survive."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from chaos.api import load_scenarios
from chaos.checks.verdict import Outcome, Verdict
from chaos.commands.hunt import nothing_found
from chaos.errors import UsageError
from chaos.explore.finds import use_from
from chaos.explore.hunt import GRACE_S, Hunt, search_space_of
from chaos.explore.schedules import (
    Schedule,
    basic_schedules,
    make_entry,
)
from chaos.running.job import make_job
from chaos.running.pool.suite import Bench
from chaos.running.result import failed_verdict
from chaos.scenario.load import load_text

ROOT = Path(__file__).parent.parent.parent
BROKEN = ROOT / "scenarios" / "broken"
SMALL = """\
version: 1
name: small
duration: 10s
server: {heartbeat: {interval: 1s, timeout: 2s}}
client: {heartbeat: {interval: 1s, timeout: 2s}, backoff: {initial: 500ms, max: 2s}, connect_timeout: 3s}
workload: [{from: server, every: 1s, delivery: resume}, {from: client, every: 1s, delivery: resume}]
expect: [{backoff: {initial: 500ms, max: 2s}}]
"""


def trio_chaos(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "chaos", *map(str, arguments)],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NO_COLOR": "1"},
    )


class ScriptedBench:
    """Answers without running anything: FAIL on a check where `fails` says so."""

    def __init__(self, fails, check="reconnects"):
        self.fails, self.check, self.jobs = fails, check, []

    def run(self, job, limit_s=None):
        self.jobs.append(job)
        scenario = load_text_of(job)
        bad = self.fails(scenario) and scenario.client.use != "reference"
        findings = []
        for row in scenario.expect:
            outcome = Outcome.FAIL if bad and row.check == self.check else Outcome.PASS
            findings.append({"check": row.check, "outcome": outcome.value, "reason": "so"})
        rows = [
            {**row, "evidence": [], "measured": {}, "line": 0, "guard": False} for row in findings
        ]
        whole = Outcome.FAIL if any(r["outcome"] == "FAIL" for r in rows) else Outcome.PASS
        plain = failed_verdict(job, whole, "none", "").to_json()
        return Verdict.from_json({**plain, "findings": rows})


def load_text_of(job):
    return job.scenario


def small_ground(**given):
    (scenario,) = load_text(SMALL, "small.yaml")
    return search_space_of(scenario, **given)


class Ticks:
    """A clock that goes on by a second with each look at it."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        self.now_s += 1.0
        return self.now_s


def test_a_hunt_ends_when_its_budget_is_spent():
    bench = ScriptedBench(lambda scenario: False)
    hunt = Hunt(space=small_ground(), bench=bench, budget_s=60, clock=Ticks())
    assert hunt.run() is None
    assert 10 < hunt.progress.tried <= 60


class InconclusiveBench(ScriptedBench):
    """Can judge nothing, or only each third run."""

    def __init__(self, judged_each):
        super().__init__(lambda scenario: False)
        self.judged_each = judged_each

    def run(self, job, limit_s=None):
        verdict = super().run(job)
        if self.judged_each and len(self.jobs) % self.judged_each == 0:
            return verdict
        return failed_verdict(job, Outcome.INCONCLUSIVE, "connected", "client 1 never was")


@pytest.mark.parametrize(("judged_each", "code"), [(None, 2), (3, 0)])
def test_a_hunt_that_judged_nothing_or_little_says_so(judged_each, code):
    bench = InconclusiveBench(judged_each)
    hunt = Hunt(space=small_ground(), bench=bench, budget_s=60, clock=Ticks())
    assert hunt.run() is None
    assert set(hunt.progress.unjudged) == {"connected: client 1 never was"}
    said, found = nothing_found(hunt.progress)
    assert found == code
    assert "connected: client 1 never was" in said


def test_a_run_has_no_more_time_than_the_hunt():
    limits = []

    class Late(InconclusiveBench):
        def run(self, job, limit_s=None):
            limits.append(limit_s)
            return super().run(job)

    hunt = Hunt(space=small_ground(), bench=Late(None), budget_s=20, clock=Ticks())
    assert hunt.run() is None
    assert max(limits) <= 20 + GRACE_S
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < 5 + GRACE_S


def has_stall(scenario):
    return any(row.word == "stall" for row in scenario.timeline)


def plain_client():
    return small_ground(client=f"{BROKEN / 'plain.py'}:Client")


def test_what_is_found_is_small_and_keeps_what_a_correct_client_passes():
    hunt = Hunt(space=plain_client(), bench=ScriptedBench(has_stall), budget_s=4000, clock=Ticks())
    find = hunt.run()
    (entry,) = find.scenario.timeline
    assert (entry.word, entry.at_s, entry.for_s) == ("stall", hunt.space.start_s, 1.0)
    assert find.checks == ("reconnects",)
    assert find.scenario.expect[0].check == "reconnects"
    assert re.fullmatch(r"small-[0-9a-f]{6}", find.scenario.name)
    assert not find.reference_fails


def test_shrinking_that_runs_out_of_time_gives_the_best_so_far():
    hunt = Hunt(space=plain_client(), bench=ScriptedBench(has_stall), budget_s=90, clock=Ticks())
    find = hunt.run()
    assert find is not None
    assert has_stall(find.scenario)
    assert hunt.progress.elapsed_s < 200


def test_a_run_that_fails_otherwise_is_told_and_does_not_lead_astray():
    class Two(ScriptedBench):
        def run(self, job, limit_s=None):
            self.check = "reconnects" if has_stall(load_text_of(job)) else "no_leaks"
            return super().run(job, limit_s)

    bench = Two(lambda scenario: bool(scenario.timeline))
    hunt = Hunt(space=plain_client(), bench=bench, budget_s=1, clock=lambda: -1.0)
    stall = make_entry("fault", "stall", {}, at_s=5.0, for_s=2.0)
    reset = make_entry("fault", "reset", {}, at_s=9.0)
    assert hunt.fails(Schedule(entries=(stall, reset)))
    assert not hunt.fails(Schedule(entries=(reset,)))
    assert hunt.others == {("no_leaks",)}
    assert hunt.fails(Schedule(entries=(stall,)))
    assert not hunt.fails(Schedule())
    assert [row.word for row in hunt.find().scenario.timeline] == ["stall"]


def test_what_the_subjects_cannot_do_is_a_mistake_of_usage():
    elsewhere = SMALL.replace("server: {", "server: {url: 'ws://localhost:1', ")
    (scenario,) = load_text(re.sub("workload: .*", "", elsewhere), "x")
    with pytest.raises(UsageError, match="server"):
        search_space_of(scenario)
    assert search_space_of(scenario, server="reference").scenario.server.url is None
    (real,) = load_text(SMALL + "networks: [embedded]\n", "x")
    with pytest.raises(UsageError, match="embedded"):
        search_space_of(real)


def test_the_path_of_a_subject_is_counted_from_where_the_file_will_be(tmp_path):
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "mine.py").touch()
    base, hunts = tmp_path / "scenarios", tmp_path / "hunts"
    assert use_from("mine.py:client", base, hunts) == "../scenarios/mine.py:client"
    assert use_from("package.module:client", base, hunts) == "package.module:client"
    assert use_from("reference", base, hunts) == "reference"
    assert use_from("gone.py:client", base, hunts) == "gone.py:client"


SUBJECTS = """\
import os

async def blocks(url, **options):
    while True:
        pass

async def dies(url, **options):
    os._exit(3)
"""


@pytest.mark.slow
def test_a_subject_that_hangs_or_kills_its_process_costs_one_run(tmp_path):
    (tmp_path / "bad.py").write_text(SUBJECTS)
    (tmp_path / "small.yaml").write_text(re.sub("workload: .*", "", SMALL))
    (scenario,) = load_scenarios(tmp_path / "small.yaml")

    def job(client):
        return make_job(scenario, network="simulated", seed=1, client=client)

    with Bench() as bench:
        for client, reason in (
            ("bad.py:blocks", "given up"),
            ("bad.py:dies", "exit code 3"),
        ):
            verdict = bench.run(job(client))
            assert verdict.outcome is Outcome.INCONCLUSIVE
            assert reason in verdict.findings[0].reason
        assert bench.run(job("reference")).duration_s == 10


PLANTED = (
    ("05-blind-4000", "never_reconnects"),
    ("01-no-heartbeat", "reconnects"),
    ("12-handlers-pile-up", "single_handler"),
    ("07-hammer", "backoff"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), PLANTED, ids=[name for name, _ in PLANTED])
def test_a_planted_bug_is_found_made_small_and_fails_the_same_way_again(tmp_path, name, check):
    file = tmp_path / "find.yaml"
    done = trio_chaos(tmp_path, "hunt", BROKEN / f"{name}.yaml", "--budget", "30s", "--write", file)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "but not alone" not in done.stdout
    data = YAML(typ="safe").load(file)
    assert check in data["x-fails"]
    assert 1 <= len(data["timeline"]) <= 3
    text = file.read_text()
    assert text.startswith("# Found by a hunt in broken-")
    assert re.search(rf"^# {check}: ", text, re.MULTILINE)
    assert str(tmp_path) not in text
    for entry in re.findall(r"^  - \{at: .*", text, re.MULTILINE):
        assert re.fullmatch(r"  - \{at: \d+s,.* name: [a-z0-9-]+\}", entry)
    again = trio_chaos(tmp_path, "run", file, "--network", "simulated")
    assert again.returncode == 1
    failures = set(re.findall(r"^  (?:guard )?(\w+): ", again.stdout, re.MULTILINE))
    assert set(data["x-fails"]) <= failures
    assert "INCONCLUSIVE" not in again.stdout
    right = trio_chaos(tmp_path, "run", file, "--network", "simulated", "--client", "reference")
    assert right.returncode == 0, right.stdout


@pytest.mark.slow
def test_an_earlier_find_is_replayed_first_and_reported_as_fixed_once_it_is(tmp_path):
    scenario = BROKEN / "12-handlers-pile-up.yaml"
    first = trio_chaos(tmp_path, "hunt", scenario, "--budget", "20s")
    assert first.returncode == 1, first.stdout + first.stderr
    (kept,) = (tmp_path / ".trio-chaos" / "finds").glob("*.yaml")
    (written,) = (tmp_path / "hunts").glob("*.yaml")
    assert kept.name == written.name
    second = trio_chaos(tmp_path, "hunt", scenario, "--budget", "20s")
    assert second.returncode == 1
    assert f".trio-chaos/finds/{kept.name}" in second.stdout
    assert "hunting in" not in second.stdout
    third = trio_chaos(tmp_path, "hunt", scenario, "--budget", "2s", "--client", "reference")
    assert third.returncode == 0, third.stdout + third.stderr
    assert f"fixed: .trio-chaos/finds/{kept.name}" in third.stdout
    assert "nothing found" in third.stdout


@pytest.mark.slow
def test_hypothesis_missing_is_said_with_the_way_out(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "run.py").write_text(
        textwrap.dedent(
            """
            import sys
            sys.modules["hypothesis"] = None
            from chaos.commands.main import main
            if __name__ == "__main__":
                main(["hunt", "small.yaml"])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "run.py"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 254
    assert "pip install 'trio-chaos[hunt]'" in done.stderr


@pytest.mark.slow
def test_the_reference_peers_survive_many_schedules():
    space = small_ground()
    enough = len(basic_schedules(space, 20)) + 150

    def tell(progress):
        if progress.tried >= enough:
            raise KeyboardInterrupt

    with Bench() as bench:
        hunt = Hunt(space=space, bench=bench, budget_s=300, seed=20, tell=tell)
        with pytest.raises(KeyboardInterrupt):
            hunt.run()
    find = hunt.find()
    assert find is None, find and (find.scenario.timeline, find.verdict.deciding())
    assert hunt.progress.tried == enough
