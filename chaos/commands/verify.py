"""What `trio-chaos run --verify-determinism` does: each scenario twice with one seed, in two processes."""

from __future__ import annotations

import sys

from chaos.commands.run import Options
from chaos.commands.sweep import Options as SweepOptions
from chaos.commands.sweep import load_sweepable
from chaos.errors import EXIT_FAILED, EXIT_PASSED, UsageError
from chaos.explore.determinism import Twins
from chaos.running.environment import cores
from chaos.running.job import make_job


def verify_command(options: Options) -> int:
    """Run each scenario twice per seed, as written, and return 0 when all traces agree, else 1.

    Raises:
        UsageError: another network than the simulated one was asked for.
    """
    if options.network != "simulated":
        raise UsageError(
            f"real clocks and sockets are never the same twice: --verify-determinism needs "
            f"--network simulated, got {options.network}"
        )
    wanted = SweepOptions(
        paths=options.paths,
        client=options.client,
        server=options.server,
        tags=options.tags,
        recursive=options.recursive,
    )
    seeds = tuple(range(options.seed, options.seed + options.repeat))
    jobs = [
        make_job(
            scenario,
            network="simulated",
            seed=seed,
            client=options.client,
            server=options.server,
        )
        for scenario in load_sweepable(wanted)
        for seed in seeds
    ]
    twins = Twins(pairs=max(1, (options.jobs or cores()) // 2))
    different = 0
    for rows in twins.run(jobs):
        for row in rows:
            new = twins.differences[different:]
            different = len(twins.differences)
            for difference in new:
                sys.stdout.write(f"{difference}\n")
            if not new and not options.quiet:
                digest = f"  {row.digest}" if options.verbose else ""
                sys.stdout.write(f"same  {row.title}  seed {row.seed}{digest}\n")
    sys.stdout.write(f"{len(jobs)} runs, {different} of them different the second time\n")
    return EXIT_FAILED if different else EXIT_PASSED
