"""A stream that knows whether it is alive: what lies between trio-websocket and the socket.

trio-websocket 0.12.2 notices the end of a stream in its reader task and tells nobody who waits for a handshake or
for a pong. Here every end is seen where it happens, and those who wait are woken.
"""

from __future__ import annotations

import math
from types import TracebackType

import trio

from chaos.wire.head import ResponseHead

READ_BYTES = 65_536


class WhileAlive:
    """What `Tap.while_alive` gives: a class, since each ping enters one and a generator would take twice as long."""

    def __init__(self, tap: Tap, timeout_s: float) -> None:
        self._tap = tap
        self._scope = trio.CancelScope(deadline=trio.current_time() + timeout_s)

    def __enter__(self) -> trio.CancelScope:
        scope = self._scope.__enter__()
        self._tap.join(scope)
        return scope

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._tap.leave(self._scope)
        return self._scope.__exit__(kind, error, traceback)


class Tap(trio.abc.Stream):
    """Passes bytes on, and remembers how the stream died.

    `dead` is set at the end of the stream, at an error, at a refused handshake, or when it is closed. `poisoned`
    means that a send was cancelled half way: the peer has the beginning of a frame, and whatever is sent next
    would become part of it. Closing the tap closes the stream under it.
    """

    def __init__(self, inner: trio.abc.Stream, *, head: ResponseHead | None = None) -> None:
        self.inner = inner
        # asked directly where there is one: all that lies between for a read is another name for its errors
        self._socket = inner.socket if isinstance(inner, trio.SocketStream) else None
        self.head = head
        self.dead = trio.Event()
        self.error: Exception | None = None
        self.poisoned = False
        self._scopes: set[trio.CancelScope] = set()

    @property
    def usable(self) -> bool:
        """Whether a frame may still be sent."""
        return not self.poisoned and not self.dead.is_set()

    def die(self, error: Exception | None = None) -> None:
        """Declare the stream dead and cancel what waits for it; the first cause given is kept."""
        if not self.dead.is_set():
            self.error = error
            self.dead.set()
        for scope in self._scopes:
            scope.cancel()

    def _broken(self, error: OSError) -> trio.BrokenResourceError:
        """Die of a socket's error, and return what a stream raises for it."""
        broken = trio.BrokenResourceError(f"socket connection broken: {error}")
        self.die(broken)
        return broken

    def while_alive(self, timeout_s: float = math.inf) -> WhileAlive:
        """Run a block that is cancelled when the stream dies, or its time is over; gives its cancel scope.

        Look at `dead` afterwards, not at exceptions.
        """
        return WhileAlive(self, timeout_s)

    def join(self, scope: trio.CancelScope) -> None:
        """Cancel a scope when the stream dies, at once if it has died."""
        self._scopes.add(scope)
        if self.dead.is_set():
            scope.cancel()

    def leave(self, scope: trio.CancelScope) -> None:
        """Do not cancel this scope any longer when the stream dies."""
        self._scopes.discard(scope)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive, holding the answer to the handshake back until its head is complete."""
        while True:
            try:
                if self._socket is None:
                    data = bytes(await self.inner.receive_some(max_bytes))
                else:
                    data = await self._socket.recv(max_bytes or READ_BYTES)
            except OSError as error:
                raise self._broken(error) from error
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.die(error)
                raise
            if not data:
                self.die()
                return data
            if self.head is None or self.head.done:
                return data
            if passed := self.head.feed(data):
                return passed
            if self.head.done:
                # refused: nothing that follows matters, neither the rest of the body nor its end
                self.die()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; a send that is cancelled after it has begun poisons the stream."""
        if self.poisoned:
            raise trio.BrokenResourceError("a send was cancelled half way through a frame")
        # cancelled by now, nothing of the frame has left, and a Close may still follow
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            await self.inner.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.die(error)
            raise
        except trio.Cancelled:
            self.poisoned = True
            raise

    async def send_small(self, data: bytes) -> None:
        """Send a few bytes, as a rule without poisoning the stream when that is cancelled.

        A socket takes them all at once or none, in practice: until then a cancelled send has done nothing.
        """
        if self._socket is None:
            await self.wait_send_all_might_not_block()
        elif not self.poisoned:
            try:
                data = data[await self._socket.send(data) :]
            except OSError as error:
                raise self._broken(error) from error
            except trio.ClosedResourceError as error:
                self.die(error)
                raise
        if data:
            await self.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might not block."""
        await self.inner.wait_send_all_might_not_block()

    async def abort(self) -> None:
        """Close the stream under this one at once and without a farewell, such as TLS has; safe to repeat."""
        self.die()
        if self._socket is not None:
            # what the general way comes to in the end: scopes, a cancellation and a turn of the loop later
            self._socket.close()
        else:
            await trio.aclose_forcefully(self.inner)

    async def aclose(self) -> None:
        """Close the stream under this one; safe to repeat, and to cancel: it is closed either way."""
        self.die()
        await self.inner.aclose()
