"""What a hunt is worth: planted bugs that only a schedule brings out are found, and right peers survive the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chaos.api import load_scenarios
from chaos.checks.verdict import Outcome
from chaos.explore import hunt as hunting
from chaos.explore.finds import failed_checks, write
from chaos.explore.hunt import Hunt, search_space_of
from chaos.explore.promises import compose
from chaos.explore.schedules import basic_schedules
from chaos.running.job import make_job
from chaos.running.pool.suite import Bench
from chaos.vocabulary.faults import FAULTS

FOLDER = Path(__file__).parent.parent.parent / "scenarios" / "planted"
FILES = sorted(FOLDER.glob("*.yaml"))
# What fails, and what at least one entry of the smallest schedule must be where nothing else brings it out.
PLANTED = {
    "01-late-open": ({"single_connection"}, None),
    "02-stale-close": ({"single_connection"}, None),
    "03-late-timer": ({"single_connection", "never_reconnects"}, None),
    "04-handler-kept": ({"single_handler"}, None),
    "05-ping-waits": ({"reconnects"}, None),
    "06-close-waits": ({"reconnects"}, None),
    "07-dead-man-timer": ({"no_false_alarm"}, None),
    "08-lock-kept": ({"reconnects"}, "dns_failure"),
    "09-stale-open": ({"reconnects"}, "on open"),
    "10-unclosed-after-reset": ({"no_leaks"}, "reset"),
    "11-retries-for-life": ({"reconnects"}, None),
    "12-naive-open-websocket": ({"never_reconnects", "reconnects"}, None),
    "13-keeps-the-dead": ({"detects_dead_peer"}, None),
    "14-blind-retry": ({"never_reconnects"}, "close"),
}
BUDGET_S = 60.0


def run_file(path, **given):
    """Run a scenario file in a process of its own, as `trio-chaos run --network simulated` does."""
    (scenario,) = load_scenarios(path)
    with Bench() as bench:
        return bench.run(make_job(scenario, network="simulated", seed=1, **given))


def test_every_planted_bug_is_hunted():
    assert [path.stem for path in FILES] == list(PLANTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_planted_bug_has_a_docstring_and_a_scenario_in_which_nothing_happens(path):
    (scenario,) = load_scenarios(path)
    assert scenario.timeline == ()
    assert scenario.references
    (wrong,) = {scenario.client.use, scenario.server.use} - {"reference"}
    assert (FOLDER / wrong.partition(":")[0]).read_text().startswith('"""')


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_planted_bug_is_found_made_small_and_fails_the_same_way_again(tmp_path, path):
    assert run_file(path).outcome is Outcome.PASS
    checks, needed = PLANTED[path.stem]
    (scenario,) = load_scenarios(path)
    with Bench() as bench:
        hunt = Hunt(
            space=search_space_of(scenario),
            bench=bench,
            budget_s=BUDGET_S,
            vain_runs_max=40,
        )
        find = hunt.run()
    assert find is not None, f"{hunt.progress.tried} schedules, and no find"
    assert set(find.checks) & checks
    assert 1 <= len(find.scenario.timeline) <= 3
    if needed is not None:
        told = [
            row.word if row.on is None else f"on {row.on.event}" for row in find.scenario.timeline
        ]
        assert needed in told
    file = write(find, tmp_path / "hunts" / "find.yaml")
    assert failed_checks(run_file(file)) == find.checks
    right = run_file(file, client="reference", server="reference")
    assert right.outcome is Outcome.PASS, right.findings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["08-lock-kept", "11-retries-for-life"])
def test_a_planted_bug_is_found_by_drawing_alone(monkeypatch, name):
    """The basics hold much of what is planted; what they do not hold must be found too."""
    monkeypatch.setattr(hunting, "basic_schedules", lambda space, seed: [])
    (scenario,) = load_scenarios(FOLDER / f"{name}.yaml")
    with Bench() as bench:
        hunt = Hunt(
            space=search_space_of(scenario), bench=bench, budget_s=BUDGET_S, vain_runs_max=20
        )
        find = hunt.run()
    assert find is not None, f"{hunt.progress.tried} schedules, and no find"
    assert set(find.checks) & PLANTED[name][0]
    assert 1 <= len(find.scenario.timeline) <= 3


class Enough(BaseException):
    pass


@pytest.mark.slow
def test_the_right_peers_survive_the_schedules_that_bring_planted_bugs_out():
    """All planted scenarios have the same settings, so that one stands for all: the basics, then what is drawn."""
    (scenario,) = load_scenarios(FILES[0])
    space = search_space_of(scenario, client="reference")
    met = Counter()
    enough = len(basic_schedules(space, 1)) + 200

    def tell(progress):
        if progress.tried >= enough:
            raise Enough

    with Bench() as bench:
        hunt = Hunt(space=space, bench=bench, budget_s=300, tell=tell)
        judge = hunt.fails

        def fails(schedule):
            for row in compose(space, schedule).timeline:
                met["waits"] += row.on is not None
                met["shared"] += row.toxicity < 1
                met["path"] += row.word in FAULTS and FAULTS[row.word].on_path
            return judge(schedule)

        hunt.fails = fails
        with pytest.raises(Enough):
            hunt.run()
    find = hunt.find()
    assert find is None, find and (find.scenario.timeline, find.verdict.deciding())
    assert min(met["waits"], met["shared"], met["path"]) >= 10, met
