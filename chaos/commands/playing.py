"""A scenario's timeline on one proxy of this process, without the API, until its end or Ctrl-C."""

from __future__ import annotations

import secrets
from pathlib import Path

import trio

from chaos.commands.play_view import PlayView
from chaos.errors import EXIT_PASSED, UsageError
from chaos.link.poller import start_poller
from chaos.networks.loopback import is_loopback
from chaos.running.interrupt import Interruption, exit_code, note, signals
from chaos.scenario.model import Scenario
from chaos.scenario.plan import make_plan
from chaos.scenario.read import BYTES_MAX
from chaos.toxiproxy_server.address import AddressError, port_of, resolve, split
from chaos.toxiproxy_server.playable import read_playable
from chaos.toxiproxy_server.proxy import Proxy, SharedState
from chaos.toxiproxy_server.timeline import ProxyTimeline


def read_scenario(path: Path, cell: str | None) -> Scenario:
    """Return a scenario file's scenario. Raises InvalidScenario, and UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    return read_playable(text, str(path), cell=cell, hint="--cell")


async def play_until_signal(
    scenario: Scenario,
    *,
    upstream: str,
    listen: str,
    loop: bool = False,
    seed: int | None = None,
    interruption: Interruption,
) -> int:
    """Play the timeline once, or with `loop` until a signal; return the exit code.

    Nothing listens and no task is left afterwards. Raises UsageError if an address cannot be used.
    """
    plan = make_plan(scenario, secrets.randbits(63) if seed is None else seed)
    _check_upstream(upstream)
    with trio.open_signal_receiver(*signals()) as coming:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                note(await anext(coming))
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            if interruption.has_come:  # before they were received here
                nursery.cancel_scope.cancel()
            poller = await start_poller(nursery)
            shared = SharedState(nursery=nursery, seed=plan.seed, poller=poller)
            proxy = Proxy(name="play", listen=listen, upstream=upstream, shared=shared)
            try:
                split(listen)
                proxy.start(await resolve(listen))
            except AddressError as error:
                raise UsageError(f"cannot listen on {listen}: {error}") from None
            try:
                await _play(ProxyTimeline(plan=plan, proxy=proxy), loop=loop)
            finally:
                proxy.stop()
            nursery.cancel_scope.cancel()
            return EXIT_PASSED
    return exit_code()


async def _play(timeline: ProxyTimeline, *, loop: bool) -> None:
    proxy, plan = timeline.proxy, timeline.timeline.plan
    with PlayView(timeline.timeline, proxy.shared) as view:
        view.say(
            f"playing {plan.scenario.title} on {proxy.listen} → {proxy.upstream}, seed {plan.seed}"
        )
        if not is_loopback(split(proxy.listen)[0]):
            view.say(f"WARNING: {proxy.listen} can be reached from other machines")

        timeline.told = view.stepped
        async with trio.open_nursery() as nursery:
            nursery.start_soon(view.refresh)
            await timeline.run()
            while loop:
                view.say("again from the start")
                await timeline.run()
            nursery.cancel_scope.cancel()
        view.say("the timeline is over")


def _check_upstream(text: str) -> None:
    """Raise UsageError unless a text is the address of an upstream."""
    try:
        host, service = split(text)
        port = port_of(service)
    except AddressError as error:
        raise UsageError(f"cannot use --upstream {text}: {error}") from None
    if not host or port == 0:
        raise UsageError(f"cannot use --upstream {text}: expected HOST:PORT")
