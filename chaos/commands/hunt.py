"""What `trio-chaos hunt` does: earlier finds first, then the hunt, then the story of what it found."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.checks.verdict import Outcome, Verdict
from chaos.commands.live import PlainAccount
from chaos.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PASSED
from chaos.explore.finds import FOLDER, Find, failed, kept_finds, write
from chaos.explore.hunt import RUN_SEED, Hunt, Progress, ground_of
from chaos.explore.schedules import Ground
from chaos.reports.terminal import render_verdict
from chaos.running.job import make_job
from chaos.running.pool.suite import Bench, Suite, run_suite
from chaos.scenario.load import load_scenarios
from chaos.scenario.model import Scenario

HUNTS = Path("hunts")
# Between two lines of progress where nothing can be overwritten, such as in a log.
LINE_S = 10.0
LIVE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `trio-chaos hunt`, as the command line gives them."""

    path: Path
    budget_s: float = 60.0
    seed: int = 1
    client: str | None = None
    server: str | None = None
    write: Path | None = None
    finds: Path = FOLDER


def hunt_command(options: Options) -> int:
    """Hunt in a scenario file and return the exit code. Prints, and writes what it finds."""
    scenarios = load_scenarios(options.path)
    ground = ground_of(scenarios[0], client=options.client, server=options.server)
    if len(scenarios) > 1:
        print(f"{len(scenarios)} matrix cells; hunting in the first, {scenarios[0].title}")
    if _replay(options, ground):
        return EXIT_FAILED
    show = Show(options.budget_s)
    with Bench() as bench:
        hunt = Hunt(
            ground=ground, bench=bench, budget_s=options.budget_s, seed=options.seed, tell=show.tell
        )
        print(
            f"hunting in {ground.scenario.title} for {options.budget_s:g} s, seed {options.seed}",
            flush=True,
        )
        interrupted = False
        try:
            find = hunt.run()
        except KeyboardInterrupt:
            interrupted, find = True, hunt.find()
    show.done()
    if find is None:
        print(_nothing(hunt.progress))
    else:
        _report(options, hunt, find, confirm=not interrupted)
    if interrupted:
        print("interrupted; the results above are what there is", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_PASSED if find is None else EXIT_FAILED


def _replay(options: Options, ground: Ground) -> bool:
    """Run what earlier hunts found; tell whether something of it still fails."""
    still = False
    for path, scenario in kept_finds(options.finds, ground.scenario.name):
        verdict = run_alone(_with_given(scenario, options))
        if verdict.outcome is Outcome.FAIL:
            still = True
            print(f"an earlier find still fails: {path}")
            print(render_verdict(verdict))
            print(f"see it again with: {_command(path, options)}")
        else:
            print(f"fixed: {path} no longer fails ({verdict.outcome.value.lower()})")
    return still


def _with_given(scenario: Scenario, options: Options) -> Scenario:
    for side, given in (("client", options.client), ("server", options.server)):
        if given is not None:
            subject = getattr(scenario, side).model_copy(update={"use": given})
            scenario = scenario.model_copy(update={side: subject})
    return scenario


def run_alone(scenario: Scenario) -> Verdict:
    """Run a scenario as `trio-chaos run` does, in a process of its own."""
    job = make_job(scenario, network="simulated", seed=RUN_SEED)
    quiet = PlainAccount(quiet=True, write=lambda _: None)
    suite = Suite([job], quiet, 1)
    verdicts = run_suite(suite)
    if suite.interrupted:
        raise KeyboardInterrupt
    return verdicts[0]


def _report(options: Options, hunt: Hunt, find: Find, *, confirm: bool) -> None:
    path = options.write or HUNTS / f"{find.scenario.name}.yaml"
    write(find, path)
    write(find, options.finds / f"{find.scenario.name}.yaml")
    rows = hunt.progress
    print(f"found after {hunt.found_at_s or 0.0:.1f} s; small after {rows.elapsed_s:.1f} s", end="")
    print(f" and {rows.tried} runs: {_entries(rows.entries)}\n")
    verdict = run_alone(load_scenarios(path)[0]) if confirm else find.verdict
    print(render_verdict(verdict))
    if failed(verdict) != find.checks:
        print(f"\nit failed on {', '.join(find.checks)} among other runs, but not alone:")
        print("what the subject keeps in its module from run to run may be the cause")
    if find.reference_fails:
        print(
            "\nthe reference peers fail in it too: it may be a bug of trio-chaos; please report it"
        )
    for checks in sorted(hunt.others):
        print(f"\nalso seen to fail, by another schedule: {', '.join(checks)}")
    print(f"\nwrote {path}; see it fail again with:\n  {_command(path)}")


def _command(path: Path, options: Options | None = None) -> str:
    given = ""
    if options is not None:
        given += f" --client {options.client}" if options.client else ""
        given += f" --server {options.server}" if options.server else ""
    return f"trio-chaos run {path} --network simulated{given}"


def _nothing(progress: Progress) -> str:
    silent = f" ({progress.inconclusive} with something that could not be judged)"
    rate = progress.tried / max(progress.elapsed_s, 0.001)
    return (
        f"nothing found: {progress.tried} schedules in {progress.elapsed_s:.1f} s, {rate:.1f} a second"
        f"{silent if progress.inconclusive else ''}"
    )


def _entries(count: int) -> str:
    return f"{count} timeline entr{'y' if count == 1 else 'ies'}"


class Show:
    """Shows progress: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(
        self,
        budget_s: float,
        *,
        live: bool | None = None,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet. `live` says whether a line can be overwritten; by default the terminal tells."""
        self._live = _is_terminal() if live is None else live
        self._budget_s = budget_s
        self._write = write or sys.stdout.write
        self._clock = clock
        self._last_s = clock()
        self._found: tuple[str, ...] = ()

    def tell(self, progress: Progress) -> None:
        """Show it, unless the last time was a moment ago."""
        now_s = self._clock()
        news = progress.found != self._found
        if not news and now_s - self._last_s < (LIVE_S if self._live else LINE_S):
            return
        self._last_s, self._found = now_s, progress.found
        text = self._text(progress)
        self._write(f"\r\x1b[2K{text}" if self._live else f"{text}\n")
        sys.stdout.flush()

    def done(self) -> None:
        """Take the changing line away."""
        if self._live:
            self._write("\r\x1b[2K")

    def _text(self, progress: Progress) -> str:
        rate = progress.tried / max(progress.elapsed_s, 0.001)
        tried = f"{progress.tried} schedules, {rate:.1f} a second"
        if progress.found:
            best = f"{', '.join(progress.found)} fails with {_entries(progress.entries)}"
            return f"  {tried}; {best}; shrinking…"
        left_s = max(0.0, self._budget_s - progress.elapsed_s)
        return f"  {tried}; {left_s:.0f} s left"


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


__all__: Sequence[str] = ("Options", "Show", "hunt_command", "run_alone")
