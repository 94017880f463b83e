"""Connecting: SYNs until there is an answer, on the schedule of Linux."""

from __future__ import annotations

import errno
from typing import Protocol, cast

from chaos.networks.simulated.endpoint import Endpoint
from chaos.networks.simulated.fabric import Timer
from chaos.networks.simulated.options import Options
from chaos.networks.simulated.paths import Home
from chaos.networks.simulated.timers import due, syn_patience, syn_wait
from chaos.networks.simulated.world import Address, World


class Connecting(Protocol):
    """What an attempt needs of the sockets at its two ends."""

    world: World
    home: Home
    options: Options

    def fileno(self) -> int:
        """Return -1 once it is closed."""
        ...

    def getsockname(self) -> Address:
        """Return its own address."""
        ...

    def attach(self, end: Endpoint, local: Address, remote: Address | None) -> None:
        """Become one end of a connection."""

    def wake(self) -> None:
        """Wake who waits for it."""


class Listening(Protocol):
    """What an attempt needs of the socket that listens for it."""

    options: Options

    @property
    def full(self) -> bool:
        """Whether it takes no more connections for now."""
        ...

    def fileno(self) -> int:
        """Return -1 once it is closed."""
        ...

    def spawn(self) -> Connecting:
        """Return the socket for a connection that this one listened for."""
        ...

    def enqueue(self, sock: Connecting) -> None:
        """Take a connection that the kernel has completed."""


class Attempt:
    """One connection attempt: SYNs until there is an answer (tcp_syn_retries and linear timeouts as measured)."""

    def __init__(self, sock: Connecting, target: Address, there: str) -> None:
        """Prepare an attempt to reach the address `target` on the host `there`; nothing is sent yet."""
        self._sock = sock
        self._target = target
        self._here = sock.home.address
        self._there = there
        self._number = 0
        self._first_s = self._sent_s = 0.0
        self._timer: Timer | None = None
        self.outcome: int | None = None  # 0 connected, else an errno

    def send_syn(self) -> None:
        """Send a SYN, and set the time for the next."""
        fabric = self._sock.world.fabric
        if self._number and fabric.now - self._first_s >= syn_patience(
            self._sock.options.syn_retries
        ):
            self._finish(errno.ETIMEDOUT)
            return
        self._sent_s = fabric.now
        if not self._number:
            self._first_s = fabric.now
        arrival_s = fabric.path(self._here, self._there).transit(fabric.now, syn=True)
        if arrival_s is not None:
            fabric.carry(arrival_s, self._arrive)
        self._timer = fabric.at(due(fabric.now, syn_wait(self._number)), self.send_syn)
        self._number += 1

    def _arrive(self) -> None:
        """The SYN has reached the other host: answer it, unless its queue is full."""
        if self.outcome is not None:
            return
        world = self._sock.world
        if world.fabric.home(self._there).down:
            return
        back = world.fabric.path(self._there, self._here)
        listener = cast("Listening | None", world.find_listener(self._there, self._target))
        if listener is not None and listener.full:
            return
        arrival_s = back.transit(world.fabric.now)
        if arrival_s is None:
            return  # the answer is lost; the next SYN is answered again
        if listener is None:
            world.fabric.carry(arrival_s, lambda: self._finish(errno.ECONNREFUSED))
        else:
            world.fabric.carry(arrival_s, lambda: self._complete(listener))

    def _complete(self, listener: Listening) -> None:
        """The SYN-ACK has come: both ends exist from now on."""
        if self.outcome is not None or self._sock.fileno() == -1:
            return
        world, local = self._sock.world, self._sock.getsockname()
        if listener.fileno() == -1:
            self._finish(errno.ECONNREFUSED)
            return
        ours = Endpoint(
            world.fabric, world.fabric.path(self._here, self._there), self._sock.options
        )
        accepted = listener.spawn()
        accepted.options.inherit(listener.options)
        theirs = Endpoint(
            world.fabric, world.fabric.path(self._there, self._here), accepted.options
        )
        accepted.attach(theirs, self._target, local)
        self._sock.attach(ours, local, self._target)
        round_trip_s = world.fabric.now - self._sent_s
        ours.establish(theirs, round_trip_s)
        theirs.establish(ours, round_trip_s)
        listener.enqueue(accepted)
        self._finish(0)

    def _finish(self, outcome: int) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.give_up()
            self._sock.wake()

    def give_up(self) -> None:
        """Send no more SYNs."""
        if self._timer is not None:
            self._timer.cancel()
        if self.outcome is None:
            self.outcome = errno.ECANCELED
