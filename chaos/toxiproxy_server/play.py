"""A scenario's timeline on one proxy of this process, without the API, until its end or Ctrl-C."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from chaos.errors import EXIT_INTERRUPTED, EXIT_PASSED, UsageError
from chaos.link.poller import start_poller
from chaos.networks.loopback import is_loopback
from chaos.running.timeline import Timeline
from chaos.scenario.model import Scenario
from chaos.scenario.plan import Step, make_plan
from chaos.scenario.read import BYTES_MAX
from chaos.toxiproxy_server.address import Address, AddressError, port_of, resolve, split
from chaos.toxiproxy_server.playable import read_playable
from chaos.toxiproxy_server.proxy import Ground, Proxy
from chaos.toxiproxy_server.timeline import ProxyTimeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing:
    """What to play, between which addresses, and whether again and again."""

    scenario: Scenario
    upstream: str
    listen: str
    loop: bool = False
    seed: int | None = None


class View(Protocol):
    """What shows a timeline that plays."""

    def say(self, line: str) -> None:
        """Show a line that stays."""

    def stepped(self, step: Step) -> None:
        """Show that a step was made."""

    async def refresh(self) -> None:
        """Keep what is shown up to date, until cancelled."""


OpenView = Callable[[Timeline, Ground], AbstractContextManager[View]]


def read_scenario(path: Path, cell: str | None) -> Scenario:
    """Return a scenario file's scenario. Raises InvalidScenario, and UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    return read_playable(text, str(path), cell=cell, hint="--cell")


async def play_until_signal(playing: Playing, view_of: OpenView) -> int:
    """Play and return the exit code. Raises UsageError if an address cannot be used."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            code = EXIT_PASSED

            async def watch() -> None:
                nonlocal code
                async for _ in signals:
                    code = EXIT_INTERRUPTED
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await play(playing, view_of)
            nursery.cancel_scope.cancel()
    return code


async def play(playing: Playing, view_of: OpenView) -> None:
    """Play the timeline once, or with `loop` until cancelled; nothing listens and no task is left afterwards.

    Raises UsageError if an address cannot be used.
    """
    seed = secrets.randbits(63) if playing.seed is None else playing.seed
    _see_upstream(playing.upstream)
    async with trio.open_nursery() as nursery:
        ground = Ground(nursery=nursery, seed=seed, poller=await start_poller(nursery))
        proxy = Proxy(name="play", listen=playing.listen, upstream=playing.upstream, ground=ground)
        try:
            proxy.start(await _listen_address(playing.listen))
        except AddressError as error:
            raise UsageError(f"cannot listen on {playing.listen}: {error}") from None
        try:
            await _play(
                playing, ProxyTimeline(plan=make_plan(playing.scenario, seed), proxy=proxy), view_of
            )
        finally:
            proxy.stop()
            nursery.cancel_scope.cancel()


async def _play(playing: Playing, timeline: ProxyTimeline, view_of: OpenView) -> None:
    proxy, plan = timeline.proxy, timeline.timeline.plan
    with view_of(timeline.timeline, proxy.ground) as view:
        view.say(
            f"playing {plan.scenario.title} on {proxy.listen} → {proxy.upstream}, seed {plan.seed}"
        )
        if not is_loopback(split(proxy.listen)[0]):
            view.say(f"WARNING: {proxy.listen} can be reached from other machines")

        timeline.told = view.stepped
        async with trio.open_nursery() as nursery:
            nursery.start_soon(view.refresh)
            await timeline.run()
            while playing.loop:
                view.say("again from the start")
                await timeline.run()
            nursery.cancel_scope.cancel()
        view.say("the timeline is over")


async def _listen_address(text: str) -> Address:
    split(text)
    return await resolve(text)


def _see_upstream(text: str) -> None:
    try:
        host, service = split(text)
        port = port_of(service)
    except AddressError as error:
        raise UsageError(f"cannot use --upstream {text}: {error}") from None
    if not host or port == 0:
        raise UsageError(f"cannot use --upstream {text}: expected HOST:PORT")
