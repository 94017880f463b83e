"""The sending half of one end of a TCP connection: its send queue, retransmission, and zero window probes.

The variables have the names of RFC 9293 (section 3.3.1) and RFC 6298. What always holds: the segments from
`_oldest` to `_newest` are those between `snd_una` and `snd_nxt`, in order. Those from `_first_lost` on have not
reached the peer and will not, unless they are sent again; all before it have arrived or will arrive. An `Endpoint`
owns a sender. Only that endpoint and the packets of its peer may call it.

What the simulation leaves out, and what a program could notice of it:

* Sequence numbers start at 0, and a SYN takes none: nothing can be noticed.
* Congestion control, and fast retransmit: a fast path fills at once. What is lost is sent again at the timeout, or
  when the next acknowledgement arrives. Behind a lost segment nothing is sent (go-back-N): it could not be read yet.
* The window is read from the peer's buffer when something is to be sent, not from its last acknowledgement: a sender
  knows a little sooner than in reality that the peer's window has become smaller.
* RTTVAR: see `linux.retransmission_timeout_s`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from chaos.networks.simulated.fabric import Fabric, Timer
from chaos.networks.simulated.linux import (
    JIFFY_S,
    RTO_S_MAX,
    RTO_S_MIN,
    SEGMENT_BYTES,
    SEGMENT_BYTES_LIMITED,
    SEND_BUFFER_BYTES,
    SocketOptions,
    expiry_s,
    retransmission_timeout_s,
    retransmitting_s_max,
)
from chaos.networks.simulated.paths import Path


@dataclass(eq=False, slots=True)
class Segment:
    """A segment of data or a FIN, kept by its sender until it is acknowledged.

    `end` is the sequence number behind it. `ack_is_certain` says that nothing can keep the segment or its
    acknowledgement from arriving before a retransmission is due.
    """

    payload: bytes
    is_fin: bool
    end: int
    sent_s: float
    following: Segment | None = None
    is_retransmitted: bool = False
    ack_is_certain: bool = False


class End(Protocol):
    """What a sender needs of the end that it belongs to, and of the peer's end."""

    heard_s: float

    @property
    def peer(self) -> End:
        """The other end of the connection."""
        ...

    @property
    def rcv_wnd(self) -> int:
        """How many more bytes this end takes."""
        ...

    def send_control(self, on_arrival: Callable[[], None]) -> None:
        """Send a packet without payload, which does something where it arrives."""

    def on_segment(self, segment: Segment) -> None:
        """A segment has arrived."""

    def on_probe(self, on_answered: Callable[[], None]) -> None:
        """A probe has arrived, whose answer calls `on_answered`."""

    def on_room(self) -> None:
        """A program may wait for room in the send buffer, and there is more now."""

    def on_ack_of_fin(self) -> None:
        """The peer has acknowledged our FIN."""

    def on_user_timeout(self) -> None:
        """The peer has not answered for too long."""


class Sender:
    """What one end has sent and is to send. It has slots, since there are thousands and each echo touches four."""

    __slots__ = (
        "_end",
        "_fabric",
        "_fin_is_queued",
        "_first_lost",
        "_newest",
        "_oldest",
        "_options",
        "_path",
        "_stalled_since_s",
        "_tail_is_probed",
        "_timer",
        "_unsent",
        "_unsent_bytes",
        "_window_probes",
        "rto_s",
        "snd_nxt",
        "snd_una",
        "srtt_s",
    )

    def __init__(self, end: End, fabric: Fabric, path: Path, options: SocketOptions) -> None:
        """Make the sender of an end, whose packets take this path."""
        self._end = end
        self._fabric = fabric
        self._path = path
        self._options = options
        self.snd_una = 0  # the oldest sequence number that is not acknowledged
        self.snd_nxt = 0  # the next to be sent
        # what waits for the window; made only when something does, since most connections never need it
        self._unsent: deque[bytes] | None = None
        self._unsent_bytes = 0
        self._fin_is_queued = False  # it is sent once all bytes are
        self._oldest: Segment | None = None  # of those that are not acknowledged
        self._newest: Segment | None = None
        self._first_lost: Segment | None = None
        self.set_round_trip(0.0)
        self._window_probes = 0  # that the peer has not answered
        # whether a tail loss probe has been sent since the last acknowledgement
        self._tail_is_probed = False
        self._stalled_since_s: float | None = None  # the first retransmission or window probe
        self._timer = RetransmissionTimer(fabric)

    def set_round_trip(self, round_trip_s: float) -> None:
        """Take the round trip of the handshake as the first measurement (RFC 6298 section 2.2)."""
        self.srtt_s = round_trip_s
        self.rto_s = retransmission_timeout_s(round_trip_s)

    @property
    def room(self) -> int:
        """How many bytes the send buffer takes now."""
        return max(0, SEND_BUFFER_BYTES - self._unsent_bytes - self.snd_nxt + self.snd_una)

    @property
    def has_much_room(self) -> bool:
        """Whether a third of the send buffer is free, as poll asks (`sk_stream_is_writable`)."""
        return 3 * (self._unsent_bytes + self.snd_nxt - self.snd_una) <= 2 * SEND_BUFFER_BYTES

    @property
    def is_busy(self) -> bool:
        """Whether anything is unsent or unacknowledged."""
        return bool(self._oldest or self._unsent)

    def send(self, payload: bytes | memoryview) -> int:
        """Take as many bytes as there is room for, and return how many that is."""
        taken = bytes(payload[: self.room])
        size = len(taken)
        # what fits into the window as one segment, behind nothing, need not enter the queue: that is nearly all
        if not self._unsent and 0 < size <= min(self._usable_window(), self._segment_bytes_max()):
            self._send_segment(taken)
        elif taken:
            if self._unsent is None:
                self._unsent = deque()
            self._unsent.append(taken)
            self._unsent_bytes += size
            self.transmit()
        return size

    def send_fin(self) -> None:
        """Send a FIN behind all bytes."""
        self._fin_is_queued = True
        self.transmit()

    def transmit(self) -> None:
        """Send what fits into the peer's window, and the FIN once all is sent. A window update calls it, too."""
        unsent = self._unsent
        while unsent and (window := self._usable_window()) > 0:
            payload = unsent.popleft()
            cut = min(window, self._segment_bytes_max())
            if len(payload) > cut:
                unsent.appendleft(payload[cut:])
                payload = payload[:cut]
            self._unsent_bytes -= len(payload)
            self._send_segment(payload)
        if unsent:
            if not self._timer.is_running:
                self._set_timer()  # the window is full: probe from time to time whether it still is
        elif self._fin_is_queued:
            self._fin_is_queued = False
            self._send_segment(b"", is_fin=True)

    def forget(self) -> None:
        """Drop all that was sent or was to be sent: the connection is over."""
        self._unsent = self._oldest = self._newest = self._first_lost = None
        self._unsent_bytes = 0
        self._fin_is_queued = False
        self.snd_una = self.snd_nxt
        self._timer.stop()

    # segments

    def _usable_window(self) -> int:
        """Return how many more bytes the peer takes (RFC 9293 section 3.8.6.2.1): SND.UNA + SND.WND - SND.NXT."""
        return self.snd_una + self._end.peer.rcv_wnd - self.snd_nxt

    def _segment_bytes_max(self) -> int:
        return SEGMENT_BYTES_LIMITED if self._path.is_limited else SEGMENT_BYTES

    def _send_segment(self, payload: bytes, *, is_fin: bool = False) -> None:
        """Send new bytes, or the FIN, which takes a sequence number as a byte does."""
        self.snd_nxt += 1 if is_fin else len(payload)
        segment = Segment(payload, is_fin, self.snd_nxt, self._fabric.now)
        before, self._newest = self._newest, segment
        if before is None:
            self._oldest = segment
        else:
            before.following = segment
        if self._first_lost is None and not self._put_on_path(segment):
            self._first_lost = segment
        is_second = before is self._oldest and not self._tail_is_probed
        if before is None or is_second or not self._timer.is_running:
            self._set_timer()

    def _put_on_path(self, segment: Segment) -> bool:
        """Send a segment to the peer, and return whether it will arrive."""
        fabric = self._fabric
        arrival_s = self._path.transit(fabric.now, len(segment.payload))
        if arrival_s is None:
            return False
        segment.ack_is_certain = (
            not segment.is_retransmitted and arrival_s - segment.sent_s < RTO_S_MIN
        )
        fabric.deliver(arrival_s, partial(self._end.peer.on_segment, segment))
        return True

    def _resend_lost(self) -> None:
        """Send what has not reached the peer, until something is lost again."""
        segment = self._first_lost
        while segment is not None:
            segment.is_retransmitted = True
            if not self._put_on_path(segment):
                break
            segment = segment.following
        self._first_lost = segment

    # what arrives

    def on_ack(self, segment: Segment) -> None:
        """An acknowledgement has arrived: of this segment and of all before it."""
        if segment.end <= self.snd_una:
            return
        end, now = self._end, self._fabric.now
        end.heard_s = now
        had_much_room = self.has_much_room
        if not segment.is_retransmitted:
            # RFC 6298 section 2.3; not for retransmissions (section 3, Karn's algorithm)
            self.srtt_s += (now - segment.sent_s - self.srtt_s) / 8
        self.snd_una = segment.end
        self._oldest = segment.following
        if self._oldest is None:
            self._newest = None
        self.rto_s = retransmission_timeout_s(self.srtt_s)  # this ends any backing off
        self._window_probes = 0
        self._tail_is_probed, self._stalled_since_s = False, None
        self._set_timer()
        if self._first_lost is not None:
            self._resend_lost()
        if self._unsent or self._fin_is_queued:
            self.transmit()
        if segment.is_fin:
            end.on_ack_of_fin()
        if not had_much_room:  # else nobody waits for room
            end.on_room()

    def on_ack_uncertain(self, segment: Segment) -> None:
        """The acknowledgement of a segment may not arrive in time: from now on its timer must be able to expire."""
        if segment.ack_is_certain:
            segment.ack_is_certain = False
            if segment.end > self.snd_una:
                self._timer.ensure_queued()

    def on_window_probe_answered(self) -> None:
        """The peer has answered a zero window probe."""
        self._end.heard_s = self._fabric.now
        self._window_probes = 0
        self.transmit()

    # the retransmission timer, which is also that of window probes

    def _set_timer(self) -> None:
        """Set the timer anew: its wait begins now."""
        wait_s, oldest = self.rto_s, self._oldest
        if oldest is not None:
            if oldest is self._newest:
                if oldest.ack_is_certain:
                    # nearly no retransmission timer ever expires, so it is not queued while it certainly will not
                    self._timer.set_unqueued(wait_s, self._on_retransmission_timeout)
                    return
            elif not self._tail_is_probed:
                # the probe waits for a delayed acknowledgement only if one segment is under way
                wait_s = min(wait_s, 2 * self.srtt_s + 2 * JIFFY_S)
            action = self._on_retransmission_timeout
        elif self._unsent:
            action = self._on_probe_timeout
        else:
            self._timer.stop()
            return
        if self._stalled_since_s is not None and self._options.user_timeout_s:
            until_s = self._stalled_since_s + self._options.user_timeout_s
            wait_s = min(wait_s, until_s - self._fabric.now)
        self._timer.set(wait_s, action)

    def _on_retransmission_timeout(self) -> None:
        """Retransmit, or give up. The first timeout sends a tail loss probe, which does not back off (RFC 8985)."""
        if self._tail_is_probed:
            allowed_s = self._options.user_timeout_s or retransmitting_s_max(self._options.retries)
            if self._measure_stall() >= allowed_s:
                self._end.on_user_timeout()
                return
            self._back_off()
        self._tail_is_probed = True
        self._retransmit()
        self._set_timer()

    def _retransmit(self) -> None:
        """Send again all that was not acknowledged. What has arrived already, the peer acknowledges once more."""
        end, peer, segment = self._end, self._end.peer, self._oldest
        while segment is not self._first_lost:
            assert segment is not None
            segment.is_retransmitted = True
            end.send_control(partial(peer.send_control, partial(self.on_ack, segment)))
            segment = segment.following
        self._resend_lost()

    def _on_probe_timeout(self) -> None:
        """Send a zero window probe (RFC 9293 section 3.8.6.1), since a window update may have been lost, or give up.

        As long as the peer answers, this goes on for ever, unless TCP_USER_TIMEOUT ends it: Linux counts a window
        that stays full as time without progress (`tcp_probe_timer`).
        """
        stalled_s, timeout_s = self._measure_stall(), self._options.user_timeout_s
        if self._window_probes >= self._options.retries or (timeout_s and stalled_s >= timeout_s):
            self._end.on_user_timeout()
            return
        self._window_probes += 1
        self._end.send_control(partial(self._end.peer.on_probe, self.on_window_probe_answered))
        self._back_off()
        self._set_timer()

    def _measure_stall(self) -> float:
        """Return how long the connection has made no progress. This call may be the first to notice it."""
        if self._stalled_since_s is None:
            self._stalled_since_s = self._fabric.now
        return self._fabric.now - self._stalled_since_s

    def _back_off(self) -> None:
        self.rto_s = min(self.rto_s * 2, RTO_S_MAX)


class RetransmissionTimer:
    """A kernel timer that is set anew far more often than it expires.

    To set it anew is cheap: it stays where it is in the fabric's queue, and is put off when its old time comes.
    """

    __slots__ = ("_action", "_fabric", "_queued", "_since_s", "_wait_s")

    def __init__(self, fabric: Fabric) -> None:
        """Make a timer that is not running."""
        self._fabric = fabric
        self._action: Callable[[], None] | None = None
        self._since_s = self._wait_s = 0.0
        self._queued: Timer | None = None

    @property
    def is_running(self) -> bool:
        """Whether it will expire, unless it is set anew or stopped."""
        return self._action is not None

    def set(self, wait_s: float, action: Callable[[], None]) -> None:
        """Call `action` after a wait from now, and forget what was to be called before."""
        self.set_unqueued(wait_s, action)
        self.ensure_queued()

    def set_unqueued(self, wait_s: float, action: Callable[[], None]) -> None:
        """Do as `set` does, for a timer that is certainly stopped or set anew in time, or else `ensure_queued`."""
        self._since_s, self._wait_s, self._action = self._fabric.now, wait_s, action

    def ensure_queued(self) -> None:
        """Make sure that the timer expires, if it is running."""
        # the wheel never fires before the wait is over, so an earlier entry in the queue is early enough
        if self._action is not None and (
            self._queued is None or self._since_s + self._wait_s < self._queued.at_s
        ):
            self._queue(expiry_s(self._since_s, self._wait_s))

    def stop(self) -> None:
        """Stop the timer. Idempotent."""
        self._action = None

    def _queue(self, at_s: float) -> None:
        if self._queued is not None:
            self._queued.cancel()
        self._queued = self._fabric.call_at(at_s, self._on_queued_time)

    def _on_queued_time(self) -> None:
        """Expire, or wait on if the timer was set anew meanwhile."""
        self._queued = None
        action, at_s = self._action, expiry_s(self._since_s, self._wait_s)
        if action is not None and at_s > self._fabric.now:
            self._queue(at_s)
        elif action is not None:
            self._action = None
            action()
