"""One end of a simulated TCP connection, as a Linux program sees it.

Modelled: handshake with Linux's SYN schedule, buffers and back-pressure, FIN and half-close, RST and which call sees
which error, retransmission after loss, giving up, keepalive and TCP_USER_TIMEOUT. Figures are those measured on
Linux 6.18 (docs/explanation/simulation.md, which also tells what is not modelled, and who could notice).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from chaos.networks.simulated.fabric import Fabric
from chaos.networks.simulated.keepalive import Keepalive
from chaos.networks.simulated.linux import (
    JIFFY_S,
    RECEIVE_BUFFER_BYTES,
    RTO_S_MAX,
    SEGMENT_BYTES,
    SEGMENT_BYTES_LIMITED,
    SEND_BUFFER_BYTES,
    os_error,
)
from chaos.networks.simulated.options import Options
from chaos.networks.simulated.paths import Path
from chaos.networks.simulated.segments import Segment
from chaos.networks.simulated.timers import RestartedTimer, patience, retransmission_timeout


class Endpoint:
    """One end. `on_change` is called whenever a program that waits may have something to see."""

    def __init__(self, fabric: Fabric, path_out: Path, options: Options | None = None) -> None:
        self.fabric = fabric
        self.path_out = path_out
        self.options = options or Options()
        self.on_change: Callable[[], None] = lambda: None
        self.peer: Endpoint | None = None
        self.established = False
        self.received = bytearray()
        self.eof = False  # the peer's FIN has been received
        self.error: int | None = None  # pending, reported once
        self.broken = False  # reads give end of stream, writes EPIPE
        self.shut = False  # our side will send no more
        self.closed = False  # the program has let go of it
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._unacked: deque[Segment] = deque()
        self._unacked_bytes = 0
        self._fin_sent = False
        self._pending = 0  # of the unacknowledged, how many have not arrived
        self._round_trip_s = 0.0
        self._rto_s = retransmission_timeout(0.0)
        self._retries = 0
        self._probed = False  # a tail loss probe has been sent since the last acknowledgement
        self._impatient_since_s: float | None = (
            None  # when patience began: the first retransmission or window probe
        )
        self._timer = RestartedTimer(fabric)
        self._keepalive = Keepalive(self)
        self.heard_s = fabric.now

    # what a program does

    def readable(self) -> bool:
        """Whether a read would not block."""
        return bool(self.received) or self.eof or self.broken or self.error is not None

    @property
    def room(self) -> int:
        """How many bytes a send would take now."""
        taken = self._unsent_bytes + self._unacked_bytes
        return SEND_BUFFER_BYTES - taken if taken < SEND_BUFFER_BYTES else 0

    def writable(self) -> bool:
        """Whether a send would not block."""
        return self.room > 0 or self._over()

    def roomy(self) -> bool:
        """Whether poll calls it writable: a third of the buffer is free (`sk_stream_is_writable`)."""
        return 3 * self.room >= SEND_BUFFER_BYTES or self._over()

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
            self._unsent.append(taken)
            self._unsent_bytes += len(taken)
            self._transmit()
        return len(taken)

    def receive(self, count: int) -> bytes:
        """Return bytes that have arrived, or nothing at the end of the stream.

        The caller has seen that it is readable.

        Raises:
            OSError: the pending error, once, after the bytes before it and unless a FIN has been received.
        """
        if self.received:
            was_full = len(self.received) >= RECEIVE_BUFFER_BYTES // 2
            taken = bytes(self.received[:count])
            del self.received[:count]
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
        self._keepalive.stop()
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
        self._keepalive.stop()
        if self.options.keepalive and self.established and not self.broken:
            self._keepalive.start()

    # what arrives

    def be_reset(self) -> None:
        """An RST has arrived; behind a FIN it shows as EPIPE (Linux tcp_reset in CLOSE_WAIT)."""
        if not self.broken:
            self.die(errno.EPIPE if self.eof else errno.ECONNRESET)

    def arrive(self, segment: Segment) -> None:
        """A segment has arrived; the next one in order, since a path keeps order."""
        self.heard_s = self.fabric.now
        if self.broken or (self.closed and segment.payload is not None):
            # nobody is here for it any more
            assert self.peer is not None
            self._to_peer(self.peer.be_reset)
            self.die(None)
            return
        if segment.payload is None:
            self.eof = True
        else:
            self.received += segment.payload
        peer = self.peer
        assert peer is not None
        self._to_peer(lambda: peer.be_acknowledged(segment))
        self.on_change()

    def be_acknowledged(self, segment: Segment) -> None:
        """An acknowledgement has arrived: of this segment and all before it."""
        if self.broken or not self._unacked:
            return
        if segment is not self._unacked[0] and segment not in self._unacked:
            return
        self.heard_s = self.fabric.now
        if not segment.again:
            sample_s = self.fabric.now - segment.sent_s
            self._round_trip_s += (sample_s - self._round_trip_s) / 8  # RFC 6298 section 2.3
        while self._unacked:
            first = self._unacked.popleft()
            self._unacked_bytes -= first.size
            if first is segment:
                break
        self._back_off_no_more()
        if self._pending:
            self._fly_pending()
        if self._unsent or self.shut:
            self._transmit()
        self.on_change()

    # sending

    def _transmit(self) -> None:
        """Send what fits into the peer's window, and the FIN once all is sent."""
        if not self._unsent and (not self.shut or self._fin_sent):
            return
        if self.broken or not self.established or self.peer is None:
            return
        while self._unsent and (window := self._window()) > 0:
            payload = self._unsent.popleft()
            cut = min(window, SEGMENT_BYTES_LIMITED if self.path_out.limited else SEGMENT_BYTES)
            if len(payload) > cut:
                self._unsent.appendleft(payload[cut:])
                payload = payload[:cut]
            self._unsent_bytes -= len(payload)
            self._put(Segment(payload, self.fabric.now))
        if self.shut and not self._fin_sent and not self._unsent:
            self._fin_sent = True
            self._put(Segment(None, self.fabric.now))
        if self._unsent and not self._timer.running:
            self._arm()  # the window is full: ask from time to time whether it still is

    def _window(self) -> int:
        assert self.peer is not None
        return RECEIVE_BUFFER_BYTES - len(self.peer.received) - self._unacked_bytes

    def _put(self, segment: Segment) -> None:
        self._unacked.append(segment)
        self._unacked_bytes += segment.size
        self._pending += 1
        # behind a segment that was lost nothing can be delivered in order
        if self._pending == 1:
            self._fly(segment)
        under_way = len(self._unacked)
        if under_way == 1 or (under_way == 2 and not self._probed) or not self._timer.running:
            self._arm()

    def _fly(self, segment: Segment) -> bool:
        """Send a segment; tell whether it will arrive."""
        arrival_s = self.path_out.transit(self.fabric.now, segment.size)
        if arrival_s is None:
            return False
        segment.delivered = True
        self._pending -= 1
        peer = self.peer
        assert peer is not None
        self.fabric.at(arrival_s, lambda: peer.arrive(segment))
        return True

    def _fly_pending(self) -> None:
        """Send what has not arrived, until something is lost again."""
        for segment in self._unacked:
            if not segment.delivered:
                segment.again = True
                if not self._fly(segment):
                    return

    def _fly_again(self, segment: Segment) -> None:
        """Send what has arrived but was not acknowledged: the peer acknowledges it again."""
        peer = self.peer
        assert peer is not None
        self._to_peer(lambda: peer._to_peer(lambda: self.be_acknowledged(segment)))

    def _back_off_no_more(self) -> None:
        self._rto_s, self._retries = retransmission_timeout(self._round_trip_s), 0
        self._probed, self._impatient_since_s = False, None
        self._arm()

    def _arm(self) -> None:
        """Set the one timer of what was sent: its wait begins now."""
        wait_s = self._rto_s
        if self._unacked and not self.broken:
            if not self._probed and len(self._unacked) > 1:
                # the probe waits for a delayed acknowledgement only if one segment is under way
                wait_s = min(wait_s, 2 * self._round_trip_s + 2 * JIFFY_S)
            action = self._retransmit
        elif self._unsent and self.established and not self.broken:
            action = self._probe_window
        else:
            self._timer.stop()
            return
        if self._impatient_since_s is not None and self.options.user_timeout_s:
            until_s = self._impatient_since_s + self.options.user_timeout_s
            wait_s = min(wait_s, until_s - self.fabric.now)
        self._timer.start(wait_s, action)

    def _retransmit(self) -> None:
        """Send again what was not acknowledged: at first a tail loss probe, which does not back off (RFC 8985)."""
        if self._probed:
            if self._patience_is_over():
                self.die(errno.ETIMEDOUT)
                return
            self._rto_s = min(self._rto_s * 2, RTO_S_MAX)
        self._probed = True
        for segment in self._unacked:
            segment.again = True
            if segment.delivered:
                self._fly_again(segment)
        self._fly_pending()
        self._arm()

    def _patience_is_over(self) -> bool:
        """Tell whether too long has passed since the first retransmission, which this may be."""
        now = self.fabric.now
        if self._impatient_since_s is None:
            self._impatient_since_s = now
        allowed_s = self.options.user_timeout_s or patience(self.options.retries)
        return now - self._impatient_since_s >= allowed_s

    def _probe_window(self) -> None:
        """Ask a peer whose window is full whether it still is: its word that it is not may be lost.

        RFC 9293 section 3.8.6.1. As long as it answers, this goes on for ever, unless TCP_USER_TIMEOUT ends it:
        Linux counts a window that stays full as time without progress (`tcp_probe_timer`).
        """
        if self._impatient_since_s is None:
            self._impatient_since_s = self.fabric.now
        timeout_s = self.options.user_timeout_s
        stuck_s = self.fabric.now - self._impatient_since_s
        if self._retries >= self.options.retries or (timeout_s and stuck_s >= timeout_s):
            self.die(errno.ETIMEDOUT)
            return
        self._retries += 1
        peer = self.peer
        assert peer is not None
        self._to_peer(lambda: peer.be_asked(self))
        self._rto_s = min(self._rto_s * 2, RTO_S_MAX)
        self._arm()

    def be_asked(self, asker: Endpoint) -> None:
        """A window probe has arrived: answer it."""
        self._to_peer(asker.be_reset if self.broken else asker.be_told)

    def be_told(self) -> None:
        """The peer has answered a window probe."""
        self.heard_s = self.fabric.now
        self._retries = 0
        self._transmit()

    def _to_peer(self, action: Callable[[], None]) -> None:
        """Let a control packet do something at the peer, if the path carries it."""
        arrival_s = self.path_out.transit(self.fabric.now)
        if arrival_s is not None:
            self.fabric.at(arrival_s, action)

    # dying

    @property
    def busy(self) -> bool:
        """Whether anything of ours is unsent or unacknowledged."""
        return bool(self._unacked or self._unsent)

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
        self._unsent.clear()
        self._unacked.clear()
        self._unsent_bytes = self._unacked_bytes = self._pending = 0
        self._keepalive.stop()
        self._timer.stop()
        self.on_change()

    def _raise_pending(self) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise os_error(error)
