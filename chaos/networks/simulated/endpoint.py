"""One end of a simulated TCP connection, as a Linux program sees it.

Modelled: handshake with Linux's SYN schedule, buffers and back-pressure, FIN and half-close, RST and which call sees
which error, retransmission after loss, giving up, keepalive and TCP_USER_TIMEOUT; its sending half is in `sending`.
Figures are those measured on Linux 6.18 (docs/explanation/simulation.md, which also tells what is not modelled, and
who could notice).
"""

from __future__ import annotations

import errno

from chaos.networks.simulated.fabric import Fabric
from chaos.networks.simulated.keepalive import Keepalive
from chaos.networks.simulated.linux import RECEIVE_BUFFER_BYTES, RTO_S, os_error
from chaos.networks.simulated.options import Options
from chaos.networks.simulated.paths import Path
from chaos.networks.simulated.segments import Segment
from chaos.networks.simulated.sending import Sending
from chaos.networks.simulated.timers import retransmission_timeout


class Endpoint(Sending):
    """One end. `on_change` is called whenever a program that waits may have something to see."""

    __slots__ = ("__weakref__", "_keepalive", "closed", "eof", "error", "received")

    def __init__(self, fabric: Fabric, path_out: Path, options: Options | None = None) -> None:
        super().__init__(fabric, path_out, options or Options())
        self.received = bytearray()
        self.eof = False  # the peer's FIN has been received
        self.error: int | None = None  # pending, reported once
        self.closed = False  # the program has let go of it
        self._keepalive: Keepalive | None = None  # made when first it is asked for

    # what a program does

    def readable(self) -> bool:
        """Whether a read would not block."""
        return bool(self.received) or self.eof or self.broken or self.error is not None

    def writable(self) -> bool:
        """Whether a send would not block."""
        return self.room > 0 or self._over()

    def roomy(self) -> bool:
        """Whether poll calls it writable."""
        return self._is_roomy() or self._over()

    def _over(self) -> bool:
        """Whether a send fails, and so does not block."""
        return self.broken or self.shut or self.error is not None

    def send(self, payload: bytes | memoryview) -> int:
        """Take as many bytes as there is room for; the caller has seen that it is writable.

        Raises:
            OSError: the pending error, once; then EPIPE.
        """
        if self.error is not None:
            self._raise_pending()
        if self.broken or self.shut:
            raise os_error(errno.EPIPE)
        taken = bytes(payload[: self.room])
        if taken:
            self._enqueue(taken)
        return len(taken)

    def receive(self, count: int) -> bytes:
        """Return bytes that have arrived, or nothing at the end of the stream.

        The caller has seen that it is readable.

        Raises:
            OSError: the pending error, once, after the bytes before it and unless a FIN has been received.
        """
        if self.received:
            received = self.received
            was_full = len(received) >= RECEIVE_BUFFER_BYTES // 2
            taken = bytes(received[:count])
            del received[:count]
            if was_full and self.peer is not None:
                self._to_peer(self.peer._transmit)  # a window update
            return taken
        if not self.eof:
            self._raise_pending()
        return b""

    def shutdown(self) -> None:
        """Send a FIN behind what has been sent."""
        if not self.shut and not self.broken:
            self.shut = True
            self._transmit()

    def close(self) -> None:
        """Let go: FIN behind the data; RST with SO_LINGER 0 or if received bytes were never read (RFC 2525 §2.17)."""
        if self.closed:
            return
        self.closed = True
        self._stop_keepalive()
        if self.options.linger_0 or self.received:
            self.received.clear()
            self.reset()
        else:
            self.shutdown()

    def reset(self) -> None:
        """Send an RST and forget the connection."""
        if not self.broken:
            if self.peer is not None:
                self._to_peer(self.peer.be_reset)
            self.die(None)

    def establish(self, peer: Endpoint, round_trip_s: float = 0.0) -> None:
        """Become connected; the handshake has measured the round trip."""
        self.peer = peer
        self._round_trip_s = round_trip_s
        self._rto_s = retransmission_timeout(round_trip_s)
        self.established = True
        self.heard_s = self.fabric.now
        self.start_keepalive()
        self.on_change()

    def start_keepalive(self) -> None:
        """Start probing an idle connection, if the program asked for it."""
        self._stop_keepalive()
        if self.options.keepalive and self.established and not self.broken:
            if self._keepalive is None:
                self._keepalive = Keepalive(self)
            self._keepalive.start()

    def _stop_keepalive(self) -> None:
        if self._keepalive is not None:
            self._keepalive.stop()

    # what arrives

    def be_reset(self) -> None:
        """An RST has arrived; behind a FIN it shows as EPIPE (Linux tcp_reset in CLOSE_WAIT)."""
        if not self.broken:
            self.die(errno.EPIPE if self.eof else errno.ECONNRESET)

    def arrive(self, segment: Segment) -> None:
        """A segment has arrived; the next one in order, since a path keeps order."""
        fabric = self.fabric
        now = self.heard_s = fabric.now
        if self.broken or (self.closed and segment.payload is not None):
            # nobody is here for it any more
            segment.doubt()
            assert self.peer is not None
            self._to_peer(self.peer.be_reset)
            self.die(None)
            return
        if segment.payload is None:
            self.eof = True
        else:
            self.received += segment.payload
        answer_s = self.path_out.transit(now)
        if answer_s is not None:
            fabric.carry(answer_s, segment.be_acknowledged)
        if answer_s is None or answer_s - segment.sent_s >= RTO_S:
            segment.doubt()
        self.on_change()

    def be_asked(self, asker: Sending) -> None:
        """A window probe has arrived: answer it."""
        self._to_peer(asker.be_reset if self.broken else asker.be_told)

    # dying

    def ask_whether_alive(self) -> None:
        """Send a keepalive probe."""
        assert self.peer is not None
        self._to_peer(self.peer.be_probed)

    def be_probed(self) -> None:
        """A keepalive probe has arrived: answer it."""
        peer = self.peer
        if peer is not None:
            self._to_peer(peer.be_reset if self.broken else peer.hear)

    def hear(self) -> None:
        """The peer has answered a probe."""
        self.heard_s = self.fabric.now
        self.start_keepalive()

    def forget(self) -> None:
        """Be gone without a word: the host has lost power. Once it is up, an RST answers what still comes."""
        self.received.clear()
        self.die(None)

    def die(self, error: int | None) -> None:
        """End the connection; the error is what the next call reports."""
        self.broken = True
        self.error = error
        self._forget_sent()
        self._stop_keepalive()
        self.on_change()

    def _raise_pending(self) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise os_error(error)
