"""The command `hunt`: earlier finds first, then the hunt, then the story of what it found."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaos.commands import values
from chaos.commands.values import say
from chaos.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_PASSED

if TYPE_CHECKING:
    from chaos.commands.live import Screen
    from chaos.explore.finds import Find
    from chaos.explore.hunt import Hunt, Progress
    from chaos.explore.schedules import SearchSpace

HUNTS = Path("hunts")
# Between two lines of progress where nothing can be overwritten, such as in a log.
LINE_EVERY_S = 10.0


@click.command()
@click.argument("scenario", type=values.PATH)
@click.option(
    "--budget",
    "budget_s",
    default="60s",
    show_default=True,
    callback=values.seconds,
    metavar="TIME",
    help="How long to search; making a find small may take half as long again.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="The same seed tries the same schedules.",
)
@values.subject("client", "the scenario's own")
@values.subject("server", "the scenario's own")
@click.option(
    "--write",
    type=values.PATH,
    metavar="FILE",
    help="Write what is found here; default hunts/NAME.yaml.",
)
@click.option(
    "--finds",
    type=values.PATH,
    default=Path(".trio-chaos/finds"),
    show_default=True,
    metavar="DIR",
    help="Where finds are kept; those of earlier hunts are replayed first.",
)
def hunt(
    *,
    scenario: Path,
    budget_s: float,
    seed: int,
    client: str | None,
    server: str | None,
    write: Path | None,
    finds: Path,
) -> int:
    """Search for a schedule of faults under which SCENARIO fails, and make it small."""
    from chaos.api import load
    from chaos.commands.live import open_display
    from chaos.explore.hunt import Hunt, search_space_of
    from chaos.running.interrupt import signals_noted
    from chaos.running.pool.suite import Bench

    scenarios = load(scenario)
    space = search_space_of(scenarios[0], client=client, server=server)
    if len(scenarios) > 1:
        say(f"{len(scenarios)} matrix cells; hunting in the first, {scenarios[0].title}")
    if _earlier_finds_fail(finds, space, client, server):
        return EXIT_FAILED
    say(f"hunting in {space.scenario.title} for {budget_s:g} s, seed {seed}")
    interrupted = False
    with signals_noted() as interruption, Bench(interrupted=interruption.check) as bench:
        search = Hunt(space=space, bench=bench, budget_s=budget_s, seed=seed)
        with open_display(
            lambda: screen_of(search.progress, budget_s), every_s=LINE_EVERY_S
        ) as display:
            found: tuple[str, ...] = ()

            def tell(progress: Progress) -> None:
                nonlocal found
                display.tick(news=progress.found != found)
                found = progress.found

            search.tell = tell
            try:
                find = search.run()
            except KeyboardInterrupt:
                interrupted, find = True, search.find()
    if find is None:
        said, code = nothing_found(search.progress)
        say(said)
    else:
        code = EXIT_FAILED
        _report(search, find, write or HUNTS / f"{find.scenario.name}.yaml", finds, interrupted)
    if interrupted:
        return values.interrupted()
    return code


def _earlier_finds_fail(
    finds: Path, space: SearchSpace, client: str | None, server: str | None
) -> bool:
    """Run what earlier hunts found; tell whether something of it still fails."""
    from chaos.api import run
    from chaos.checks.verdict import Outcome
    from chaos.explore.finds import kept_finds
    from chaos.reports.terminal import render_verdict

    still = False
    for path, scenario in kept_finds(finds, space.scenario.name):
        verdict = run(scenario, network="simulated", client=client, server=server)
        if verdict.outcome is Outcome.FAIL:
            still = True
            say(f"an earlier find still fails: {path}")
            say(render_verdict(verdict))
            say(f"see it again with: {again(path, client, server)}")
        else:
            say(f"fixed: {path} no longer fails ({verdict.outcome.value.lower()})")
    return still


def _report(search: Hunt, find: Find, path: Path, finds: Path, interrupted: bool) -> None:
    from chaos.api import load, run
    from chaos.explore.finds import failed_checks, write
    from chaos.reports.terminal import render_verdict

    write(find, path)
    write(find, finds / f"{find.scenario.name}.yaml")
    rows = search.progress
    say(
        f"found after {search.found_at_s or 0.0:.1f} s; small after {rows.elapsed_s:.1f} s "
        f"and {rows.tried} runs: {_entries(rows.entries)}\n"
    )
    verdict = find.verdict if interrupted else run(load(path)[0], network="simulated")
    say(render_verdict(verdict))
    if failed_checks(verdict) != find.checks:
        say(f"\nit failed on {', '.join(find.checks)} among other runs, but not alone:")
        say("what the subject keeps in its module from run to run may be the cause")
    if find.reference_fails:
        say("\nthe reference peers fail in it too: it may be a bug of trio-chaos; please report it")
    for checks in sorted(search.others):
        say(f"\nalso seen to fail, by another schedule: {', '.join(checks)}")
    say(f"\nwrote {path}; see it fail again with:\n  {again(path)}")


def again(path: Path, client: str | None = None, server: str | None = None) -> str:
    """Return the command that runs a find again, as a shell takes it."""
    words = ["trio-chaos", "run", str(path), "--network", "simulated"]
    words += ["--client", client] if client else []
    words += ["--server", server] if server else []
    return shlex.join(words)


def nothing_found(progress: Progress) -> tuple[str, int]:
    """Return what is said of a hunt that found nothing, and its exit code: nothing may have been judged."""
    rate = progress.tried / max(progress.elapsed_s, 0.001)
    schedules = "schedule" if progress.tried == 1 else "schedules"
    count = f"{progress.tried} {schedules} in {progress.elapsed_s:.1f} s, {rate:.1f} a second"
    unjudged = progress.unjudged.total()
    judged = progress.tried - unjudged
    why = "".join(f"; mostly since {row}" for row, _ in progress.unjudged.most_common(1))
    if not judged:
        return f"nothing could be judged: {count}{why}", EXIT_INCONCLUSIVE
    if unjudged > judged:
        text = f"nothing found, but most could not be judged: {count} ({unjudged} not judged{why})"
        return text, EXIT_PASSED
    silent = f" ({progress.inconclusive} with something that could not be judged)"
    return f"nothing found: {count}{silent if progress.inconclusive else ''}", EXIT_PASSED


def _entries(count: int) -> str:
    return f"{count} timeline entr{'y' if count == 1 else 'ies'}"


def screen_of(progress: Progress, budget_s: float) -> Screen:
    """Return what a hunt shows of its progress."""
    from chaos.commands.live import Screen

    rate = progress.tried / max(progress.elapsed_s, 0.001)
    tried = f"  {progress.tried} schedules, {rate:.1f} a second"
    if progress.found:
        best = f"{', '.join(progress.found)} fails with {_entries(progress.entries)}"
        return Screen(status=f"{tried}; {best}; shrinking…")
    left_s = max(0.0, budget_s - progress.elapsed_s)
    return Screen(status=f"{tried}; {left_s:.0f} s left", done=progress.elapsed_s / budget_s)
