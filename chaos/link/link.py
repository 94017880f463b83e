"""The link: a listener for one client, a dial to the server, and the faults that act on whole connections."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from chaos.errors import NetworkUnavailable
from chaos.faults.pipe import Stage
from chaos.faults.units import Data
from chaos.link.caller import Caller
from chaos.link.connection import STREAMS, Connection, Watch
from chaos.link.ends import End, SilentEnd, TlsEnd
from chaos.link.kernel_end import end_of
from chaos.scenario.plan import Plan, Step, generator
from chaos.trace import Stream
from chaos.vocabulary import faults as words
from chaos.wire.handshake import END_OF_HEAD, HEAD_BYTES_MAX, rejection, strip

BACKLOG = 1024
# how long a rejected client may take to close its side before it is closed for it
LINGER_S = 2.0
TLS_HANDSHAKE_S = 10.0
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Dial = Callable[[], Awaitable[End]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """How connections get their numbers, and what to do when one dials: two links in a row must agree."""

    next: Callable[[], int]
    dialing: Callable[[int], None]
    failed: Callable[[int], None]


def counting() -> Numbering:
    """Return a numbering that counts from 1 and tells nobody."""
    count = 0

    def following() -> int:
        nonlocal count
        count += 1
        return count

    return Numbering(next=following, dialing=lambda _: None, failed=lambda _: None)


class Link:
    """Listens for one client, dials the server for each of its connections, and applies faults to them."""

    def __init__(
        self,
        *,
        plan: Plan,
        watch: Watch,
        dial: Dial,
        numbering: Numbering | None = None,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        caller: Caller | None = None,
    ) -> None:
        """Make a link; nothing listens yet.

        Args:
            tls: the context with which it answers clients.
            caller: calls where a task would have to wait; without one each connection has tasks.
        """
        self._plan = plan
        self._watch = watch
        self._dial = dial
        self._numbering = numbering or counting()
        self._tls = tls
        self._caller = caller
        self._active: dict[int, words.Fault | None] = {}  # entry → fault, None for a toxic
        self._connections: dict[int, Connection] = {}
        self._address: tuple[str, int] = (address, 0)
        self._socket: trio.socket.SocketType | None = None
        self._holder: trio.socket.SocketType | None = None  # keeps the port while nobody listens
        self._listening = trio.Event()

    async def open(self, nursery: trio.Nursery) -> int:
        """Listen on a free port, which is returned, and serve it in a nursery until that is cancelled.

        Every connection and both its sockets are closed when the nursery is.
        """
        try:
            await self._bind()
            await self._listen()
        except BaseException:
            self._close()
            raise
        nursery.start_soon(self._accept_each, nursery)
        return self._address[1]

    async def _accept_each(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                nursery.start_soon(self._handle, await self._accept())
        finally:
            self._close()

    def _close(self) -> None:
        for socket in (self._socket, self._holder):
            if socket is not None:
                socket.close()

    async def apply(self, step: Step) -> None:
        """Apply one step of the plan now, to live and to later connections."""
        settings = self._plan.settings[step.entry]
        fault = settings if isinstance(settings, words.Fault) else None
        if step.change == "instant":
            self._instant(step.entry, fault)
        elif step.change == "on":
            self._active[step.entry] = fault
            await self._switch_on(step.entry, fault)
        else:
            self._active.pop(step.entry, None)
            await self._switch_off(fault)
        for connection in list(self._connections.values()):
            connection.replace(self._stages())

    def _instant(self, entry: int, fault: words.Fault | None) -> None:
        assert isinstance(fault, words.Reset), f"{fault} is not an instant fault of a link"
        for connection in list(self._connections.values()):
            self._watch.felt(connection.number, "downstream", f"{entry}", "sent an RST")
            connection.reset(fault.side)

    async def _switch_on(self, entry: int, fault: words.Fault | None) -> None:
        if isinstance(fault, (words.Down, words.Refuse)) and self._listening.is_set():
            await self._stop_listening()
        if isinstance(fault, words.Down):
            for connection in list(self._connections.values()):
                self._watch.felt(connection.number, "downstream", f"{entry}", "closed it")
                connection.close()

    async def _switch_off(self, fault: words.Fault | None) -> None:
        still = any(isinstance(row, (words.Down, words.Refuse)) for row in self._active.values())
        if isinstance(fault, (words.Down, words.Refuse)) and not still:
            await self._listen()

    async def _bind(self) -> None:
        """Take the port without listening: nobody else gets it, and who connects is refused."""
        self._holder = trio.socket.socket()
        self._holder.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        try:
            await self._holder.bind(self._address)
        except OSError as error:
            raise NetworkUnavailable(f"cannot bind {self._address}: {error}") from error
        self._address = self._holder.getsockname()

    async def _listen(self) -> None:
        assert self._holder is not None
        self._holder.listen(BACKLOG)
        self._socket, self._holder = self._holder, None
        self._listening.set()

    async def _stop_listening(self) -> None:
        assert self._socket is not None
        self._listening = trio.Event()
        self._socket.close()
        self._socket = None
        await self._bind()

    async def _accept(self) -> trio.SocketStream:
        while True:
            socket = self._socket
            if socket is None:
                await self._listening.wait()
                continue
            try:
                accepted, _ = await socket.accept()
            except trio.ClosedResourceError:
                continue
            except OSError as error:
                # a connection that died in the backlog, or no descriptor to spare (accept(2))
                if error.errno in _OUT_OF_DESCRIPTORS:
                    await trio.sleep(0.1)
                continue
            return trio.SocketStream(accepted)

    async def _handle(self, stream: trio.SocketStream) -> None:
        number = self._numbering.next()
        tls = self._secured(stream)
        client = end_of(stream) if tls is None else TlsEnd(tls)
        if "client" in self._watch.sides:
            self._record(number, "attempt", port=client.port)
        try:
            await self._wait_slow_accept(number)
            if tls is None or await _shake_hands(tls):
                await self._serve_client(number, client)
        finally:
            client.close()

    def _secured(self, stream: trio.SocketStream) -> trio.SSLStream[trio.SocketStream] | None:
        if self._tls is None:
            return None
        return trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)

    async def _wait_slow_accept(self, number: int) -> None:
        for entry, fault in self._faults(words.SlowAccept):
            assert isinstance(fault, words.SlowAccept)
            self._watch.felt(number, "upstream", f"{entry}", f"kept it waiting {fault.delay_s:g} s")
            await trio.sleep(fault.delay_s)

    async def _serve_client(self, number: int, client: End) -> None:
        for entry, fault in self._faults(words.RejectUpgrade):
            assert isinstance(fault, words.RejectUpgrade)
            await self._reject(number, client, entry, fault)
            return
        if self._swallowed():
            await self._carry(number, client, None)
            return
        self._numbering.dialing(number)
        try:
            server = await self._dial()
        except (OSError, trio.BrokenResourceError) as error:
            self._numbering.failed(number)
            if "client" in self._watch.sides:
                self._record(number, "dial_failed", error=str(error))
                self._record(number, "rst", stream="downstream", side="client")
            client.reset()
            return
        if "server" in self._watch.sides:
            self._record(number, "dialed")
        try:
            await self._carry(number, client, server)
        finally:
            server.close()

    def _swallowed(self) -> bool:
        """Whether a new connection falls into a blackhole before it reaches the server."""
        return any(
            self._plan.scenario.timeline[entry].stream == "both"
            and self._plan.scenario.timeline[entry].toxicity == 1
            for entry, _ in self._faults(words.Blackhole)
        )

    async def _carry(self, number: int, client: End, server: End | None) -> None:
        connection = Connection(
            number=number,
            ends={"client": client, "server": server or SilentEnd()},
            watch=self._watch,
            rng_for=lambda stream, key: generator(
                self._plan.seed, "link", self._watch.client, number, stream, key
            ),
            caller=self._caller,
        )
        connection.replace(self._stages())
        self._connections[number] = connection
        try:
            for entry, fault in self._faults(words.StripUpgrade):
                assert isinstance(fault, words.StripUpgrade)
                if await self._strip(connection, client, entry, fault):
                    break
            await connection.run()
        finally:
            del self._connections[number]

    async def _strip(
        self, connection: Connection, client: End, entry: int, fault: words.StripUpgrade
    ) -> bool:
        """Forward the request head without its Upgrade headers; False if no head came."""
        received = await self._read_head(connection, client)
        if received is None:
            return False
        head, _, rest = received.partition(END_OF_HEAD)
        self._watch.felt(connection.number, "upstream", f"{entry}", "stripped the Upgrade headers")
        connection.feed("upstream", Data(strip(head + END_OF_HEAD, fault) + rest))
        return True

    async def _reject(
        self, number: int, client: End, entry: int, fault: words.RejectUpgrade
    ) -> None:
        connection = Connection(
            number=number,
            ends={"client": client, "server": SilentEnd()},
            watch=self._watch,
            rng_for=lambda stream, key: generator(0, stream, key),
        )
        if await self._read_head(connection, client) is None:
            return
        answer = Data(rejection(fault))
        self._watch.felt(number, "upstream", f"{entry}", f"answered {fault.status}")
        connection.observe("downstream", "client", answer)
        if await client.send(answer.payload):
            client.send_fin()
            self._record(number, "fin", stream="downstream", side="client")
            with trio.move_on_after(LINGER_S):
                while isinstance(unit := await client.receive(), Data):
                    pass
                if unit is not None:
                    connection.observe("upstream", "client", unit)
        self._record(number, "closed")

    async def _read_head(self, connection: Connection, client: End) -> bytes | None:
        """Read a request head, observed; None if the client ends first."""
        received = b""
        while END_OF_HEAD not in received and len(received) < HEAD_BYTES_MAX:
            unit = await client.receive()
            if unit is not None:
                connection.observe("upstream", "client", unit)
            if not isinstance(unit, Data):
                return None
            received += unit.payload
        return received

    def _stages(self) -> dict[Stream, list[Stage]]:
        """Return the stages that are active, in the order in which their entries were applied."""
        stages: dict[Stream, list[Stage]] = {stream: [] for stream in STREAMS}
        for entry, fault in self._active.items():
            if isinstance(fault, _CONNECTION_FAULTS):
                continue
            for stream, stage in self._plan.stages(entry).items():
                stages[stream].append(stage)
        return stages

    def _faults(self, kind: type[words.Fault]) -> list[tuple[int, words.Fault]]:
        return [(entry, fault) for entry, fault in self._active.items() if isinstance(fault, kind)]

    def _record(
        self, number: int, kind: str, *, stream: Stream | None = None, **fields: Any
    ) -> None:
        self._watch.recorder.record(
            kind, client=self._watch.client, connection=number, stream=stream, **fields
        )


# Faults that act on a connection as a whole, where it is accepted, and have no stage in its pipes.
_CONNECTION_FAULTS = (
    words.Down,
    words.Refuse,
    words.SlowAccept,
    words.RejectUpgrade,
    words.StripUpgrade,
    words.Reset,
)


async def _shake_hands(tls: trio.SSLStream[trio.SocketStream]) -> bool:
    with trio.move_on_after(TLS_HANDSHAKE_S):
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError:
            return False
        return True
    return False
