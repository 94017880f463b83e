"""One open WebSocket connection, of either side, made safe to live with.

Built on trio-websocket, whose reader task does the reading. What this adds: a crash of that reader ends this
connection and nothing else; whoever waits for a pong or sends is released when the stream dies; an ending is
remembered as it was (`ended`); and the socket is always closed, by us, in bounded time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping
from wsproto.utilities import LocalProtocolError

from chaos.reference.outcome import Ended
from chaos.reference.tap import Tap

# With the default of 1 the reader stops at the second unread message, and a live peer looks dead: no pong is seen.
QUEUE_MESSAGES = 64
# Above the largest message that a scenario can ask for (16 MiB).
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
# How long a Close that nobody will answer may take to leave: a full send buffer must not hold up a reconnection.
FAREWELL_S_MAX = 0.05
# What wsproto 1.3.2 says of a Close with a code below 3000 that it does not know. 1014 is the only registered one.
_UNKNOWN_CODE = "unknown reserved code"


class ConnectionLost(Exception):
    """The connection has ended, or is ending; `Connection.ended` says how."""


class ReaderNursery:
    """What trio-websocket takes for its nursery: a crash of its reader is the stream's death, and stays here.

    The one crash that is survived: a ping that arrives after we have sent our Close makes trio-websocket 0.12.2
    answer, which wsproto forbids. Its reader is started again, since the peer's Close is still to come.
    """

    def __init__(self, nursery: trio.Nursery, tap: Tap) -> None:
        self.nursery = nursery
        self.tap = tap
        self.closing = False

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], *args: object, name: object = None
    ) -> None:
        """Start the reader in the nursery of this connection."""
        self.nursery.start_soon(self._run, async_fn, args, name=name or async_fn)

    async def _run(
        self, reader: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        while True:
            try:
                await reader(*args)
            except LocalProtocolError as error:
                if self.closing and self.tap.usable:
                    continue
                self.tap.die(error)
            except Exception as error:
                self.tap.die(error)
            else:
                self.tap.die()
            return


@dataclass(frozen=True, slots=True)
class _Goodbye:
    code: int
    reason: str
    wait_s: float
    echo: bool


class Connection:
    """An open connection. Its owner runs `receive_each`, and `finish` when that ends; nobody else closes it.

    Others may call `send` and `ping`, and may ask the owner to end it with `close_soon` or `give_up`.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        tap: Tap,
        readers: ReaderNursery,
        *,
        close_timeout_s: float,
    ) -> None:
        self.websocket = websocket
        self.tap = tap
        self.close_timeout_s = close_timeout_s
        self.closed = trio.Event()
        self._readers = readers
        self._goodbye: _Goodbye | None = None
        self._sent_close: _Goodbye | None = None
        self._stopped = False
        self._receiving: trio.CancelScope | None = None
        self.pong_s = -math.inf  # when the last pong came
        self._pings = 0
        # the reader sends the request when it starts; one that is started again must not
        websocket._initial_request = None

    @property
    def is_client(self) -> bool:
        """Whether this is the client's end."""
        return bool(self.websocket.is_client)

    @property
    def usable(self) -> bool:
        """Whether a message may be sent: no Close was sent or received, and the stream lives."""
        return not self._stopped and self.tap.usable and self.websocket.closed is None

    async def send(self, message: str | bytes) -> None:
        """Send one message. Raises ConnectionLost.

        Cancelling it while it waits for the peer to read ends the connection: half a frame may have left.
        """
        if not self.usable:
            raise ConnectionLost
        try:
            await self.websocket.send_message(message)
        except (ConnectionClosed, LocalProtocolError):
            raise ConnectionLost from None
        finally:
            if self.tap.poisoned:
                self._stop()

    async def receive_each(
        self, handle: Callable[[str | bytes], None], scope: trio.CancelScope
    ) -> None:
        """Hand each message over, until there are no more or the owner is to stop.

        For that `scope`, which is around this call, is cancelled. What `handle` raises comes out.
        """
        self._receiving = scope
        try:
            if self._stopped:
                scope.cancel()
            while True:
                handle(await self.websocket.get_message())
        except ConnectionClosed:
            return
        finally:
            self._receiving = None

    async def ping(self, timeout_s: float, rest_s: float = 0.0) -> bool:
        """Return whether a pong came within `timeout_s`; false at once when the stream dies.

        A ping that cannot even be sent in time is given up before it begins, which does no harm to the stream. After
        a pong this rests for `rest_s`: one scope for both, since a quiet connection does little else.
        """
        self._pings += 1
        payload = struct.pack("!I", self._pings & 0xFFFF_FFFF)
        answered = trio.Event()
        # where trio-websocket looks who waits for a pong; it never forgets a ping without one
        waiting = self.websocket._pings
        waiting[payload] = answered
        rests = False
        with self.tap.while_alive(timeout_s) as scope:
            await self._send_ping(payload)
            await answered.wait()
            self.pong_s = trio.current_time()
            if rest_s and not scope.cancel_called:
                rests = True
                self.tap.leave(scope)
                scope.deadline = self.pong_s + rest_s
                await trio.sleep_forever()
        waiting.pop(payload, None)
        if self.tap.poisoned:
            self._stop()
        if rest_s and answered.is_set() and not rests:  # the pong came when its time was over
            await trio.sleep(rest_s)
        return answered.is_set()

    async def _send_ping(self, payload: bytes) -> None:
        """Send a ping once it can be sent without waiting: to cancel it half way would cut its frame."""
        websocket = self.websocket
        lock = websocket._stream_lock
        try:
            lock.acquire_nowait()  # what waits comes right below
        except trio.WouldBlock:
            await lock.acquire()
        try:
            await self.tap.send_small(websocket._wsproto.send(Ping(payload)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await websocket._abort_web_socket()
        except LocalProtocolError:  # a Close has been sent
            return
        finally:
            lock.release()

    def close_soon(self, code: int, reason: str = "", *, timeout_s: float | None = None) -> None:
        """Ask the owner for the closing handshake, bounded by `timeout_s` (default: `close_timeout_s`)."""
        wait_s = self.close_timeout_s if timeout_s is None else timeout_s
        self._part(_Goodbye(code, reason, wait_s, echo=True))

    def give_up(self, code: int, reason: str) -> None:
        """Ask the owner to cut the connection: a Close is sent if that takes no time, no answer is awaited."""
        self._part(_Goodbye(code, reason, FAREWELL_S_MAX, echo=False))

    def _part(self, goodbye: _Goodbye) -> None:
        self._goodbye = self._goodbye or goodbye
        self._stop()

    def _stop(self) -> None:
        self._stopped = True
        if self._receiving is not None:
            self._receiving.cancel()

    async def finish(self) -> None:
        """Close the connection for good, after the closing handshake if there is one to be had.

        Takes `close_timeout_s` at most, or what `close_soon` was given. Cancelling it cuts the rest short; the
        socket is closed either way. Safe to repeat.
        """
        if self.closed.is_set():
            return
        try:
            if self.tap.usable:
                await self._say_goodbye()
        finally:
            self._stopped = True
            await self.tap.abort()
            self.closed.set()

    async def _say_goodbye(self) -> None:
        websocket = self.websocket
        if websocket._wsproto.state is ConnectionState.CLOSED:
            # RFC 6455 §7.1.1: the server closes TCP first; one that never does is not waited for any longer
            with self.tap.while_alive(self.close_timeout_s):
                await self.tap.dead.wait()
        goodbye = self._goodbye or self._complaint()
        if goodbye is None or websocket._wsproto.state is not ConnectionState.OPEN:
            return
        with self.tap.while_alive(goodbye.wait_s):
            self._sent_close = goodbye
            self._readers.closing = True
            with suppress(ConnectionClosed, LocalProtocolError):
                if goodbye.echo:
                    await websocket.aclose(goodbye.code, goodbye.reason)
                else:
                    await websocket._send(CloseConnection(goodbye.code, goodbye.reason))

    def _complaint(self) -> _Goodbye | None:
        """Return the Close that a peer gets whose bytes broke the protocol; wsproto leaves it unsent."""
        closed = self.websocket.closed
        if closed is None:
            return None
        code, reason = (1014, "") if self._unknown_code else (int(closed.code), closed.reason or "")
        return _Goodbye(code, reason, FAREWELL_S_MAX, echo=False)

    @property
    def _unknown_code(self) -> bool:
        closed = self.websocket.closed
        return closed is not None and _UNKNOWN_CODE in (closed.reason or "")

    @property
    def ended(self) -> Ended:
        """How the connection ended. To be asked once it has.

        trio-websocket's own `closed` says 1000 after every Close of ours, whatever its code, so ours is kept here.
        It says 1002 for a Close whose code wsproto does not know: taken as 1014, the only registered code that is
        meant, since a gateway's "try again" must not look like an error in the protocol.
        """
        if self._unknown_code:
            return Ended(code=1014, by="peer")
        clean = self.websocket._wsproto.state is ConnectionState.CLOSED
        if (ours := self._sent_close) is not None:
            return Ended(code=ours.code, reason=ours.reason, clean=clean, by="us")
        closed = self.websocket.closed
        if closed is not None and int(closed.code) != 1006:
            by: Literal["peer", "us"] = "peer" if clean else "us"
            return Ended(code=int(closed.code), reason=closed.reason or "", clean=clean, by=by)
        if (asked := self._goodbye) is not None:
            return Ended(code=asked.code, reason=asked.reason, by="us")
        return Ended(code=1006, by="network")
