"""One end of a TCP connection, as a Linux program sees it: its state, what it has received, errors and keepalive.

An endpoint owns its `sender`. A program calls it through its socket; packets call the methods whose names begin with
`on_`. States and events are those of RFC 9293, and `states` is the table of them: nothing else changes `state`. An
error is reported once, as Linux does (`sk_err`); after it, reads give the end of the stream and sends EPIPE.

What the simulation leaves out, and what a program could notice of it:

* RCV.NXT: a path keeps order, and a sender sends again only what has not arrived, so that each segment that arrives
  is the next one. Nothing can be noticed.
* Delayed acknowledgements: each segment is acknowledged when it arrives. It is seen by no program that sets
  TCP_NODELAY, as trio does.

`docs/explanation/simulation.md` has the figures that were measured, and the whole list of what could be noticed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from chaos.networks.simulated.fabric import Fabric, Timer
from chaos.networks.simulated.linux import (
    RECEIVE_BUFFER_BYTES,
    RTO_S_MIN,
    SocketOptions,
    expiry_s,
    os_error,
)
from chaos.networks.simulated.paths import Path
from chaos.networks.simulated.sender import Segment, Sender
from chaos.networks.simulated.states import TcpEvent, TcpState, next_state

# in these there is nothing that a keepalive probe could find out
_OVER = (TcpState.CLOSED, TcpState.TIME_WAIT)
_CLOSED = TcpState.CLOSED  # a name of this file is found faster than a member of an enumeration


def do_nothing() -> None:
    """Do nothing: the default of what is called when something has changed."""


class Endpoint:
    """One end. `on_change` is called whenever a call of the program that waits might return now."""

    __slots__ = (
        "__weakref__",
        "_fin_received",
        "_is_orphan",
        "_keepalive_probes",
        "_keepalive_timer",
        "error",
        "fabric",
        "heard_s",
        "on_change",
        "options",
        "path_out",
        "peer",
        "rcv_buffer",
        "sender",
        "state",
    )

    def __init__(
        self, fabric: Fabric, path_out: Path, options: SocketOptions | None = None
    ) -> None:
        """Make an end in CLOSED, whose packets take `path_out`."""
        self.fabric = fabric
        self.path_out = path_out
        self.options = options or SocketOptions()
        self.on_change: Callable[[], None] = do_nothing
        self.peer: Endpoint  # since the handshake
        self.state = TcpState.CLOSED
        self.sender = Sender(self, fabric, path_out, self.options)
        self.rcv_buffer = bytearray()
        self.error = 0  # the number of the pending error; 0: none
        self.heard_s = 0.0  # when the last packet of the peer has arrived
        self._fin_received = False
        self._is_orphan = False  # the program has closed its socket
        self._keepalive_timer: Timer | None = None
        self._keepalive_probes = 0  # that the peer has not answered

    # what a program asks for

    @property
    def rcv_wnd(self) -> int:
        """How many more bytes this end takes."""
        return RECEIVE_BUFFER_BYTES - len(self.rcv_buffer)

    def is_readable(self) -> bool:
        """Return whether a read would not block."""
        return bool(self.rcv_buffer) or not self.state.may_receive

    def is_writable(self) -> bool:
        """Return whether a send would not block."""
        return self.sender.room > 0 or not self.state.may_send

    def is_polled_writable(self) -> bool:
        """Return whether poll calls it writable."""
        return self.sender.has_much_room or not self.state.may_send

    def send(self, payload: bytes | memoryview) -> int:
        """Take as many bytes as there is room for; the caller has seen that it is writable.

        Raises:
            OSError: the pending error, once; then EPIPE.
        """
        if self.state.may_send:
            return self.sender.send(payload)
        raise os_error(self.take_pending_error() or errno.EPIPE)

    def peek(self, count: int) -> bytes:
        """Return bytes that have arrived, and keep them."""
        return bytes(self.rcv_buffer[:count])

    def receive(self, count: int) -> bytes:
        """Return bytes that have arrived, or nothing at the end of the stream.

        The caller has seen that it is readable.

        Raises:
            OSError: the pending error, once, after the bytes before it and unless a FIN has been received.
        """
        received = self.rcv_buffer
        if received:
            was_full = len(received) >= RECEIVE_BUFFER_BYTES // 2
            taken = bytes(received[:count])
            del received[:count]
            if was_full:
                self.send_control(self.peer.sender.transmit)  # a window update
            return taken
        if not self._fin_received and self.error:
            raise os_error(self.take_pending_error())
        return b""

    def take_pending_error(self) -> int:
        """Return the number of the pending error and forget it (SO_ERROR); 0: there is none."""
        error, self.error = self.error, 0
        return error

    def shutdown(self) -> None:
        """Send a FIN behind what has been sent: the CLOSE of RFC 9293, after which an end may still receive."""
        if self.state.may_send:
            self._change_state(TcpEvent.CLOSE)
            self.sender.send_fin()

    def close(self) -> None:
        """Part from the program: FIN behind the data, or RST with SO_LINGER 0 or if bytes that were received were
        never read (RFC 2525 section 2.17)."""
        if self._is_orphan:
            return
        self._is_orphan = True
        self._stop_keepalive()
        if self.options.resets_on_close or self.rcv_buffer:
            self.rcv_buffer.clear()
            self.reset()
        else:
            self.shutdown()

    def reset(self) -> None:
        """Send an RST and end the connection: the ABORT of RFC 9293."""
        if self.state is not _CLOSED:
            self.send_control(self.peer.on_rst)
            self.terminate(TcpEvent.ABORT)

    def lose_power(self) -> None:
        """End the connection without a packet. Once the host is up, an RST answers what still arrives."""
        self.rcv_buffer.clear()
        if self.state is not _CLOSED:
            self.terminate(TcpEvent.POWER_LOSS)

    # states

    def open_actively(self) -> None:
        """Enter SYN_SENT; `handshake` sends the SYNs."""
        self._change_state(TcpEvent.ACTIVE_OPEN)

    def establish(self, peer: Endpoint, round_trip_s: float, *events: TcpEvent) -> None:
        """Be connected by these events; the handshake has measured the round trip."""
        self.peer = peer
        self.sender.set_round_trip(round_trip_s)
        for event in events:
            self._change_state(event)
        self.heard_s = self.fabric.now
        self.start_keepalive()
        self.on_change()

    def terminate(self, event: TcpEvent, error: int = 0) -> None:
        """End the connection at once; the next call of the program reports the error."""
        self._change_state(event)
        self.error = error
        self.sender.forget()
        self.on_change()

    def _change_state(self, event: TcpEvent) -> None:
        self.state = next_state(self.state, event)
        if self.state in _OVER:
            self._stop_keepalive()

    # what arrives

    def on_segment(self, segment: Segment) -> None:
        """A segment has arrived: the next one in order."""
        fabric, peer = self.fabric, self.peer
        now = self.heard_s = fabric.now
        if self.state is _CLOSED or (self._is_orphan and not segment.is_fin):
            # no program reads it any more
            peer.sender.on_ack_uncertain(segment)
            self.send_control(peer.on_rst)
            if self.state is not _CLOSED:
                self.terminate(TcpEvent.ABORT)
            return
        if segment.is_fin:
            self._fin_received = True
            self._change_state(TcpEvent.FIN)
        else:
            self.rcv_buffer += segment.payload
        ack_s = self.path_out.transit(now)
        if ack_s is not None:
            fabric.deliver(ack_s, partial(peer.sender.on_ack, segment))
        if ack_s is None or ack_s - segment.sent_s >= RTO_S_MIN:
            peer.sender.on_ack_uncertain(segment)
        self.on_change()

    def on_ack_of_fin(self) -> None:
        """The peer has acknowledged our FIN."""
        self._change_state(TcpEvent.ACK_OF_FIN)

    def on_room(self) -> None:
        """There is more room in the send buffer now."""
        self.on_change()

    def on_rst(self) -> None:
        """An RST has arrived. After a FIN it shows as EPIPE (Linux's `tcp_reset` in CLOSE_WAIT)."""
        if self.state is not _CLOSED:
            self.terminate(TcpEvent.RST, errno.EPIPE if self._fin_received else errno.ECONNRESET)

    def on_user_timeout(self) -> None:
        """The peer has not answered for too long."""
        self.terminate(TcpEvent.USER_TIMEOUT, errno.ETIMEDOUT)

    def on_probe(self, on_answered: Callable[[], None]) -> None:
        """A zero window probe or a keepalive probe has arrived: answer it."""
        self.send_control(self.peer.on_rst if self.state is _CLOSED else on_answered)

    def on_keepalive_answered(self) -> None:
        """The peer has answered a keepalive probe."""
        self.heard_s = self.fabric.now
        self.start_keepalive()

    def send_control(self, on_arrival: Callable[[], None]) -> None:
        """Send a packet without payload, which does something where it arrives; a path may lose it."""
        arrival_s = self.path_out.transit(self.fabric.now)
        if arrival_s is not None:
            self.fabric.deliver(arrival_s, on_arrival)

    # keepalive: probes on an idle connection, and the end of one that does not answer (`tcp_keepalive_timer`)

    def start_keepalive(self) -> None:
        """Start to probe a connection that is idle, counted from the last packet, if the program has asked for it."""
        self._stop_keepalive()
        if self.options.keepalive and self.state not in _OVER:
            self._keepalive_probes = 0
            self._set_keepalive(self.heard_s + self.options.keepalive_idle_s - self.fabric.now)

    def _stop_keepalive(self) -> None:
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
            self._keepalive_timer = None

    def _set_keepalive(self, wait_s: float) -> None:
        fabric = self.fabric
        self._keepalive_timer = fabric.call_at(
            expiry_s(fabric.now, wait_s), self._on_keepalive_timeout
        )

    def _on_keepalive_timeout(self) -> None:
        options = self.options
        self._keepalive_timer = None
        idle_s = self.fabric.now - self.heard_s
        if self.sender.is_busy:
            self._set_keepalive(options.keepalive_idle_s)  # retransmission finds a dead peer
        elif idle_s < options.keepalive_idle_s:
            self._keepalive_probes = 0
            self._set_keepalive(options.keepalive_idle_s - idle_s)
        elif self._keepalive_probes and self._has_probed_enough(idle_s):
            self.on_user_timeout()
        else:
            self._keepalive_probes += 1
            self._set_keepalive(options.keepalive_interval_s)
            self.send_control(partial(self.peer.on_probe, self.on_keepalive_answered))

    def _has_probed_enough(self, idle_s: float) -> bool:
        """Return whether the peer counts as dead: TCP_USER_TIMEOUT replaces the number of probes (tcp(7))."""
        if self.options.user_timeout_s:
            return idle_s >= self.options.user_timeout_s
        return self._keepalive_probes >= self.options.keepalive_count


def establish(active: Endpoint, passive: Endpoint, round_trip_s: float = 0.0) -> None:
    """Connect two ends, of which one has opened actively, as the SYN-ACK arrives at that one.

    The passive end goes through LISTEN and SYN_RECEIVED within this instant.
    """
    active.establish(passive, round_trip_s, TcpEvent.SYN_ACK)
    passive.establish(
        active, round_trip_s, TcpEvent.PASSIVE_OPEN, TcpEvent.SYN, TcpEvent.ACK_OF_SYN
    )
