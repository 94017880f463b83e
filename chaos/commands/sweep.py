"""The command `sweep`: many seeds of some scenarios, a live account, a summary and an exit code."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from chaos.commands import values
from chaos.commands.values import say
from chaos.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_PASSED, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.api import Selected, Selection
    from chaos.explore.replay import Difference
    from chaos.explore.sweep import Question, Sweep


@click.command()
@values.paths
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many seeds of each scenario.",
)
@click.option("--first-seed", type=int, default=1, show_default=True, metavar="SEED")
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Processes; default one per processor.",
)
@click.option(
    "--shard",
    type=values.Shard(),
    default="1/1",
    metavar="K/N",
    help="Only every Nth seed, from the Kth on: for N machines.",
)
@click.option(
    "--out",
    type=values.PATH,
    metavar="DIR",
    help="Keep results.jsonl, and the trace of each run that does not pass.",
)
@click.option("--resume", is_flag=True, help="Go on with the results in --out.")
@click.option(
    "--stop-after-failures",
    type=click.IntRange(1),
    metavar="N",
    help="Stop once so many runs have failed.",
)
@click.option(
    "--budget",
    "budget_s",
    callback=values.seconds,
    metavar="TIME",
    help="Stop after this much real time, such as 60s.",
)
@values.subject("client")
@values.subject("server")
@click.option(
    "--time-jitter",
    type=values.Share(),
    default="20%",
    show_default=True,
    metavar="SHARE",
    help="Move faults by up to this share of the gap to their neighbours.",
)
@click.option(
    "--duration-jitter",
    type=values.Share(),
    default="20%",
    show_default=True,
    metavar="SHARE",
    help="Lengthen and shorten windows by up to this share, where that is fair.",
)
@click.option(
    "--no-swarm",
    is_flag=True,
    help="Leave no kind of fault out.",
)
@click.option(
    "--verify-determinism", is_flag=True, help="Run each seed twice and compare the traces."
)
@click.option(
    "--dask", metavar="ADDRESS", help="Workers of a Dask cluster, such as tcp://scheduler:8786."
)
@values.tag
@values.recursive
@values.as_json("summary")
def sweep(
    *,
    jobs: int | None,
    out: Any,
    resume: bool,
    stop_after_failures: int | None,
    budget_s: float | None,
    verify_determinism: bool,
    dask: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run scenarios over many seeds on the simulated network, with fault times varied by each seed."""
    from chaos.commands.sweep_report import Reproducer, SweepDisplay
    from chaos.explore.sweep import Stops, Store, Sweep
    from chaos.running.folder import taken

    if resume and out is None:
        raise UsageError("--resume goes on with the results in --out; expected --out DIR")
    if verify_determinism and dask is not None:
        raise UsageError(
            "--verify-determinism compares processes of this machine; expected no --dask"
        )
    question = _question(**options)
    values.require_output(None, as_json)
    with ExitStack() as stack:
        stack.enter_context(taken(out))
        store = Store(out, resume=resume) if out is not None else None
        reproducer = Reproducer(question=question, store=store)
        display = stack.enter_context(SweepDisplay(reproducer, silent=as_json))
        swept = Sweep(
            question=question,
            stops=Stops(failures=stop_after_failures, budget_s=budget_s),
            watcher=display,
            store=store,
        )
        display.begin(len(swept.rows), len(swept.rows) + swept.left(), swept.notes())
        differences = _sweep(swept, jobs, dask, verify_determinism)
    _report(swept, reproducer, differences, as_json=as_json, verified=verify_determinism)
    if swept.interrupted:
        return values.interrupted()
    return EXIT_FAILED if differences else _exit_code(swept)


def _question(
    *, time_jitter: float, duration_jitter: float, no_swarm: bool, **options: Any
) -> Question:
    from chaos.api import Selection
    from chaos.explore.sweep import Question
    from chaos.scenario.vary import Bounds

    selection = Selection.taken_from(options)
    try:
        bounds = Bounds(
            time_jitter=time_jitter, duration_jitter=duration_jitter, swarm=not no_swarm
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Question(
        scenarios=select_sweepable(selection).scenarios,
        bounds=bounds,
        client=selection.client,
        server=selection.server,
        **options,
    )


def select_sweepable(selection: Selection) -> Selected:
    """Return what of a selection can run on the simulated network; the rest is named on standard error.

    Raises:
        InvalidScenario: with the mistakes of every file.
        UsageError: nothing is left.
    """
    from dataclasses import replace

    from chaos.api import select

    selected = select(replace(selection, network="simulated"))
    for scenario, reason in selected.skipped:
        say(f"SKIPPED  {scenario.title}  {reason}", err=True)
    if not selected.scenarios:
        raise UsageError("no scenario is left that can run on the simulated network")
    return selected


def _sweep(swept: Sweep, jobs: int | None, dask: str | None, verify: bool) -> list[Difference]:
    from chaos.explore.replay import Twins
    from chaos.running.environment import cores
    from chaos.running.pool.crew import Crew, Dask, Workers

    width = jobs or cores()
    if verify:
        twins = Twins(pairs=max(1, width // 2))
        swept.take(twins.run(swept.jobs(width)))
        return twins.differences
    crew: Crew = Workers(width) if dask is None else Dask(dask)
    swept.run(crew)
    return []


def _report(
    swept: Sweep,
    reproducer: Any,
    differences: Sequence[Difference],
    *,
    as_json: bool,
    verified: bool,
) -> None:
    from chaos.commands.sweep_report import render_summary, sweep_to_json
    from chaos.reports.jsonout import json_text

    tally, left = swept.tally, swept.left()
    if as_json:
        data = sweep_to_json(tally, reproducer, left=left, why=swept.why)
        data["not_taken_over"] = {"outdated": swept.outdated, "damaged": swept.damaged}
        if verified:
            data["differences"] = [difference.to_json() for difference in differences]
        say(json_text(data), nl=False)
        return
    say(render_summary(tally, reproducer, left=left, why=swept.why), nl=False)
    for difference in differences:
        say(f"\n{difference}")
    if verified and not differences:
        say(f"deterministic: {len(tally)} runs gave the same trace twice")


def _exit_code(swept: Sweep) -> int:
    from chaos.checks.verdict import Outcome
    from chaos.commands.sweep_report import missing_states

    tally = swept.tally
    counts = tally.counts()
    if counts[Outcome.FAIL]:
        return EXIT_FAILED
    whole = swept.question.shard == (1, 1)
    missing = whole and any(
        missing_states(scenario.sometimes, tally.of_title(scenario.title))
        for scenario in swept.question.scenarios
    )
    if counts[Outcome.INCONCLUSIVE] or missing or swept.abandoned or not len(tally):
        return EXIT_INCONCLUSIVE
    return EXIT_PASSED
