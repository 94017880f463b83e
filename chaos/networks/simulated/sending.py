"""The sending half of one end of a simulated TCP connection: what is under way, and what becomes of it.

Modelled: buffer and window, segments in order, retransmission after loss, window probes, and giving up. A program
calls nothing of it: `endpoint` is what a program sees.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from chaos.networks.simulated.fabric import Fabric
from chaos.networks.simulated.linux import (
    JIFFY_S,
    RECEIVE_BUFFER_BYTES,
    RTO_S,
    RTO_S_MAX,
    SEGMENT_BYTES,
    SEGMENT_BYTES_LIMITED,
    SEND_BUFFER_BYTES,
)
from chaos.networks.simulated.options import Options
from chaos.networks.simulated.paths import Path
from chaos.networks.simulated.segments import Segment, from_here
from chaos.networks.simulated.timers import RestartedTimer, patience, retransmission_timeout

if TYPE_CHECKING:
    from chaos.networks.simulated.endpoint import Endpoint


class Sending(ABC):
    """What an end has sent and is to send. Slots: there are thousands, and each echo touches four of them."""

    __slots__ = (
        "_fin_sent",
        "_impatient_since_s",
        "_newest",
        "_oldest",
        "_pending",
        "_probed",
        "_retries",
        "_round_trip_s",
        "_rto_s",
        "_timer",
        "_unacked_bytes",
        "_unsent",
        "_unsent_bytes",
        "broken",
        "established",
        "fabric",
        "heard_s",
        "on_change",
        "options",
        "path_out",
        "peer",
        "shut",
    )

    def __init__(self, fabric: Fabric, path_out: Path, options: Options) -> None:
        self.fabric = fabric
        self.path_out = path_out
        self.options = options
        self.on_change: Callable[[], None] = nothing
        self.peer: Endpoint | None = None
        self.established = False
        self.broken = False  # reads give end of stream, writes EPIPE
        self.shut = False  # our side will send no more
        self.heard_s = fabric.now
        # made when first there is something that must wait
        self._unsent: deque[bytes] | None = None
        self._unsent_bytes = 0
        self._oldest: Segment | None = None  # of the unacknowledged
        self._newest: Segment | None = None
        self._unacked_bytes = 0
        self._fin_sent = False
        self._pending = 0  # of the unacknowledged, how many have not arrived
        self._round_trip_s = 0.0
        self._rto_s = retransmission_timeout(0.0)
        self._retries = 0
        self._probed = False  # a tail loss probe has been sent since the last acknowledgement
        # when patience began: the first retransmission or window probe
        self._impatient_since_s: float | None = None
        self._timer = RestartedTimer(fabric)

    @abstractmethod
    def die(self, error: int | None) -> None:
        """End the connection; the error is what the next call reports."""

    @abstractmethod
    def be_reset(self) -> None:
        """An RST has arrived."""

    @property
    def room(self) -> int:
        """How many bytes a send would take now."""
        taken = self._unsent_bytes + self._unacked_bytes
        return SEND_BUFFER_BYTES - taken if taken < SEND_BUFFER_BYTES else 0

    def _is_roomy(self) -> bool:
        """Whether a third of the buffer is free (`sk_stream_is_writable`)."""
        return 3 * (self._unsent_bytes + self._unacked_bytes) <= 2 * SEND_BUFFER_BYTES

    @property
    def busy(self) -> bool:
        """Whether anything of ours is unsent or unacknowledged."""
        return bool(self._oldest or self._unsent)

    def _enqueue(self, payload: bytes) -> None:
        """Take bytes to send behind all others."""
        if (
            not self._unsent
            and self.established
            and len(payload) <= min(self._window(), self._cut())
        ):
            self._put(Segment(self, payload, self.fabric.now))
            return
        if self._unsent is None:
            self._unsent = deque()
        self._unsent.append(payload)
        self._unsent_bytes += len(payload)
        self._transmit()

    def _transmit(self) -> None:
        """Send what fits into the peer's window, and the FIN once all is sent."""
        unsent = self._unsent
        if not unsent and (not self.shut or self._fin_sent):
            return
        if self.broken or not self.established or self.peer is None:
            return
        while unsent and (window := self._window()) > 0:
            payload = unsent.popleft()
            cut = min(window, self._cut())
            if len(payload) > cut:
                unsent.appendleft(payload[cut:])
                payload = payload[:cut]
            self._unsent_bytes -= len(payload)
            self._put(Segment(self, payload, self.fabric.now))
        if self.shut and not self._fin_sent and not unsent:
            self._fin_sent = True
            self._put(Segment(self, None, self.fabric.now))
        if unsent and not self._timer.running:
            self._arm()  # the window is full: ask from time to time whether it still is

    def _window(self) -> int:
        assert self.peer is not None
        return RECEIVE_BUFFER_BYTES - len(self.peer.received) - self._unacked_bytes

    def _cut(self) -> int:
        return SEGMENT_BYTES_LIMITED if self.path_out.limited else SEGMENT_BYTES

    def _put(self, segment: Segment) -> None:
        before = self._newest
        if before is None:
            self._oldest = segment
        else:
            before.following = segment
        self._newest = segment
        self._unacked_bytes += segment.size
        self._pending += 1
        # behind a segment that was lost nothing can be delivered in order
        if self._pending == 1:
            self._fly(segment)
        second = before is self._oldest and not self._probed
        if before is None or second or not self._timer.running:
            self._arm()

    def _fly(self, segment: Segment) -> bool:
        """Send a segment; tell whether it will arrive."""
        fabric = self.fabric
        arrival_s = self.path_out.transit(fabric.now, segment.size)
        if arrival_s is None:
            return False
        segment.delivered = True
        segment.sure = not segment.again and arrival_s - segment.sent_s < RTO_S
        self._pending -= 1
        fabric.carry(arrival_s, segment.arrive)
        return True

    def _fly_pending(self) -> None:
        """Send what has not arrived, until something is lost again."""
        for segment in from_here(self._oldest):
            if not segment.delivered:
                segment.again = True
                if not self._fly(segment):
                    return

    def _fly_again(self, segment: Segment) -> None:
        """Send what has arrived but was not acknowledged: the peer acknowledges it again."""
        peer = self.peer
        assert peer is not None
        self._to_peer(lambda: peer._to_peer(segment.be_acknowledged))

    def be_acknowledged(self, segment: Segment) -> None:
        """An acknowledgement has arrived: of this segment and all before it."""
        if self.broken or segment.acknowledged:
            return
        now = self.heard_s = self.fabric.now
        taken = self._unsent_bytes + self._unacked_bytes
        if not segment.again:
            # RFC 6298 section 2.3
            self._round_trip_s += (now - segment.sent_s - self._round_trip_s) / 8
        first = self._oldest
        while first is not None:
            first.acknowledged = True
            self._unacked_bytes -= first.size
            if first is segment:
                break
            first = first.following
        self._oldest = segment.following
        if self._oldest is None:
            self._newest = None
        # back off no more
        self._rto_s, self._retries = retransmission_timeout(self._round_trip_s), 0
        self._probed, self._impatient_since_s = False, None
        self._arm()
        if self._pending:
            self._fly_pending()
        if self._unsent or self.shut:
            self._transmit()
        if 3 * taken > 2 * SEND_BUFFER_BYTES:  # else it was roomy, and nobody waits
            self.on_change()

    def _arm(self) -> None:
        """Set the one timer of what was sent: its wait begins now."""
        wait_s, oldest = self._rto_s, self._oldest
        if oldest is not None:
            if oldest is self._newest:
                if oldest.sure:
                    self._timer.note(wait_s, self._retransmit)
                    return
            elif not self._probed:
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

    def doubt(self, segment: Segment) -> None:
        """Have a timer for a segment whose acknowledgement is no longer sure to come in time."""
        if not segment.acknowledged:
            self._timer.queue()

    def _retransmit(self) -> None:
        """Send again what was not acknowledged: at first a tail loss probe, which does not back off (RFC 8985)."""
        if self._probed:
            if self._patience_is_over():
                self.die(errno.ETIMEDOUT)
                return
            self._rto_s = min(self._rto_s * 2, RTO_S_MAX)
        self._probed = True
        for segment in from_here(self._oldest):
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

    def be_told(self) -> None:
        """The peer has answered a window probe."""
        self.heard_s = self.fabric.now
        self._retries = 0
        self._transmit()

    def _to_peer(self, action: Callable[[], None]) -> None:
        """Let a control packet do something at the peer, if the path carries it."""
        fabric = self.fabric
        arrival_s = self.path_out.transit(fabric.now)
        if arrival_s is not None:
            fabric.carry(arrival_s, action)

    def _forget_sent(self) -> None:
        """Have nothing under way and nothing to send any more."""
        self._unsent = self._oldest = self._newest = None
        self._unsent_bytes = self._unacked_bytes = self._pending = 0
        self._timer.stop()


def nothing() -> None:
    """Do nothing, for nobody waits."""
