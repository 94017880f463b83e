"""The three-way handshake: SYNs until there is an answer, on the schedule of Linux.

A handshake drives an endpoint from CLOSED through SYN_SENT to ESTABLISHED, or back to CLOSED with an error that is
pending: ECONNREFUSED, ETIMEDOUT, or ECANCELED when it was abandoned.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from chaos.networks.simulated.addresses import Address
from chaos.networks.simulated.endpoint import Endpoint, establish
from chaos.networks.simulated.fabric import Timer
from chaos.networks.simulated.linux import connecting_s_max, expiry_s, os_error, syn_wait_s
from chaos.networks.simulated.states import TcpEvent, TcpState
from chaos.networks.simulated.world import Socket, World


class Handshake:
    """One attempt to connect. `on_done` is called once the end is no longer in SYN_SENT, unless it was abandoned."""

    def __init__(
        self,
        world: World,
        end: Endpoint,
        local: Address,
        remote: Address,
        on_done: Callable[[], None],
    ) -> None:
        """Send the first SYN from an address of the end's host to another at the other end of its path."""
        self._world = world
        self._end = end
        self._local = local
        self._remote = remote
        self._on_done = on_done
        self._syns_sent = 0
        self._has_succeeded = False
        self._first_s = world.fabric.now
        end.open_actively()
        self._send_syn()

    @property
    def is_over(self) -> bool:
        """Whether the handshake has succeeded or failed."""
        return self._end.state is not TcpState.SYN_SENT

    def take_error(self) -> int:
        """Return the number of the error with which it has failed, once; 0 if it has not."""
        return 0 if self._has_succeeded else self._end.take_pending_error()

    def raise_error(self) -> None:
        """Raise the OSError with which the handshake has failed, if it has."""
        number = self.take_error()
        if number:
            raise os_error(number)

    def _send_syn(self) -> None:
        """Send a SYN and set the timer for the next, or give up."""
        fabric, end = self._world.fabric, self._end
        if fabric.now - self._first_s >= connecting_s_max(end.options.syn_retries):
            self._fail(TcpEvent.USER_TIMEOUT, errno.ETIMEDOUT)
            return
        self._sent_s = fabric.now
        arrival_s = end.path_out.transit(fabric.now, syn=True)
        if arrival_s is not None:
            fabric.deliver(arrival_s, self._on_syn)
        self._timer: Timer = fabric.call_at(
            expiry_s(fabric.now, syn_wait_s(self._syns_sent)), self._send_syn
        )
        self._syns_sent += 1

    def _on_syn(self) -> None:
        """A SYN has reached the other host: answer it, unless the queue of its listener is full."""
        fabric, path = self._world.fabric, self._end.path_out
        if self.is_over or path.target.down:
            return
        listener = self._world.find_listener(path.target.address, self._remote)
        if listener is not None and listener.is_full:
            return
        arrival_s = fabric.path(path.target.address, path.source.address).transit(fabric.now)
        if arrival_s is None:
            return  # the answer is lost; the next SYN is answered again
        fabric.deliver(arrival_s, lambda: self._on_answer(listener))

    def _on_answer(self, listener: Socket | None) -> None:
        """A SYN-ACK has arrived, or an RST where no socket listens. After a SYN-ACK both ends exist."""
        if self.is_over:
            return
        if listener is None or listener.is_closed:
            self._fail(TcpEvent.RST, errno.ECONNREFUSED)
            return
        passive = listener.take_connection(
            self._remote, self._local, self._end.path_out.source.address
        )
        self._has_succeeded = True
        establish(self._end, passive, self._world.fabric.now - self._sent_s)
        listener.wake()
        self._timer.cancel()
        self._on_done()

    def _fail(self, event: TcpEvent, error: int) -> None:
        self._timer.cancel()
        self._end.terminate(event, error)
        self._on_done()

    def abandon(self) -> None:
        """Send no more SYNs, and take no answer. Idempotent."""
        if not self.is_over:
            self._timer.cancel()
            self._end.terminate(TcpEvent.ABORT, errno.ECANCELED)
