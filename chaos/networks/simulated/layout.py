"""The paths of a scenario, laid between the hosts of a run: its delays, bandwidths, queues and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from chaos.networks.simulated.paths import (
    Delay,
    constant,
    lognormal,
    lossy,
    normal,
    pareto,
    traced,
    uniform,
)
from chaos.networks.simulated.world import World
from chaos.scenario import paths as described
from chaos.scenario.plan import Plan, generator

Zero = Callable[[], float]  # time zero, in seconds of the fabric


def hosts_of(world: World, leg: described.Leg, client: int | None) -> tuple[str, str]:
    """Return the hosts at the two ends of a leg: the client's and the link's, or the link's and the server's."""
    link = world.hosts.home_of(None)
    if leg == "client":
        return world.hosts.home_of("client", client), link
    return link, world.hosts.home_of("server")


def lay_paths(world: World, plan: Plan, zero: Zero) -> None:
    """Give the paths of a run what its scenario says of them. The hosts must have been settled.

    Each direction of each client's leg draws its delays and losses by itself, from the seed. Traces count from time
    `zero`.
    """
    paths = plan.scenario.paths
    if paths is None:
        return
    for leg, client in _legs(plan):
        described_leg = paths.leg(leg)
        if described_leg is None:
            continue
        there, back = (ends := hosts_of(world, leg, client)), ends[::-1]
        for way, (source, target) in (("upstream", there), ("downstream", back)):
            row = described_leg.way("upstream" if way == "upstream" else "downstream")
            path = world.fabric.path(source, target)
            if row.delay is not None:
                rng = generator(plan.seed, "delay", leg, client, way)
                path.delay = make_delay(row.delay, rng, zero)
            path.bandwidth = row.bytes_per_s
            path.queue_bytes = row.queue_bytes
            if row.loss:
                path.loss = lossy(generator(plan.seed, "path", source, target), row.loss)


def _legs(plan: Plan) -> Iterator[tuple[described.Leg, int | None]]:
    for client in range(1, plan.scenario.client.count + 1):
        yield "client", client
    yield "server", None


def make_delay(row: float | described.Delay, rng: Random, zero: Zero) -> Delay:
    """Return what draws the delays that a scenario describes."""
    if not isinstance(row, described.Delay):
        return constant(row)
    if row.uniform is not None:
        return uniform(rng, row.uniform.low_s, row.uniform.high_s)
    if row.normal is not None:
        return normal(rng, row.normal.mean_s, row.normal.deviation_s)
    if row.lognormal is not None:
        return lognormal(rng, row.lognormal.median_s, row.lognormal.sigma)
    if row.pareto is not None:
        return pareto(rng, row.pareto.least_s, row.pareto.alpha)
    assert row.trace is not None, "one of them is given"
    recorded = traced(row.trace)
    return lambda now: recorded(now - zero())
