"""The link: a port for one client, a dial to the server, and the faults that act on connections as a whole.

Each connection of the client gets a relay, which lives in `_relays` until it is over. `apply` changes what is in
force: for the listener, for all live relays, and for connections to come.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import trio

from chaos.errors import NetworkUnavailable
from chaos.faults.machine import acts_on_stream
from chaos.faults.pipe import Stage
from chaos.link.ends import End, SilentEnd, TlsEnd, end_of
from chaos.link.entrance import Entrance
from chaos.link.listener import Listener
from chaos.link.poller import Caller
from chaos.link.relay import Relay
from chaos.link.transcript import Journal, Transcript
from chaos.scenario.plan import STREAMS, Plan, Step, generator
from chaos.trace import Stream
from chaos.vocabulary import faults as words

BACKLOG = 1024
TLS_HANDSHAKE_S = 10.0

Dial = Callable[[int], Awaitable[End]]  # is given the number of the connection


class Link:
    """Listens for one client, dials the server for each of its connections, and applies faults to them."""

    def __init__(
        self,
        *,
        plan: Plan,
        journal: Journal,
        dial: Dial,
        next_number: Callable[[], int] | None = None,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        caller: Caller | None = None,
    ) -> None:
        """Make a link; nothing listens yet.

        Args:
            next_number: numbers the connections: two links in a row must agree. By default they count from 1.
            tls: the context with which it answers clients.
            caller: makes calls where a task would have to wait; without one each connection has tasks.
        """
        self._plan = plan
        self._journal = journal
        self._dial = dial
        self._next_number = next_number or count(1).__next__
        self._tls = tls
        self._caller = caller
        self._active: dict[int, words.Fault | None] = {}  # entry → fault, None for a toxic
        self._relays: dict[int, Relay] = {}
        self._listener = Listener()
        self._address: tuple[str, int] = (address, 0)

    async def open(self, nursery: trio.Nursery) -> int:
        """Listen on a free port, which is returned, and serve it in a nursery until that is cancelled.

        Every connection and both its sockets are closed when the nursery is.
        """
        try:
            await self._hold_port()
            self._listen()
        except BaseException:
            self._listener.close()
            raise
        nursery.start_soon(self._listener.serve, partial(self._arrived, nursery))
        return self._address[1]

    async def _hold_port(self) -> None:
        """Take the port without listening: nobody else gets it, and who connects is refused."""
        self._held = trio.socket.socket()
        self._listener.hold(self._held)
        self._held.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        try:
            await self._held.bind(self._address)
        except OSError as error:
            raise NetworkUnavailable(f"cannot bind {self._address}: {error}") from error
        self._address = self._held.getsockname()

    def _listen(self) -> None:
        self._held.listen(BACKLOG)
        self._listener.listen(self._held)

    # faults

    async def apply(self, step: Step) -> None:
        """Apply one step of the plan now, to live and to later connections."""
        settings = self._plan.settings[step.entry]
        fault = settings if isinstance(settings, words.Fault) else None
        if step.change == "instant":
            self._reset_all(step.entry, fault)
        elif step.change == "on":
            self._active[step.entry] = fault
            await self._switch_on(step.entry, fault)
        else:
            self._active.pop(step.entry, None)
            self._switch_off(fault)
        for relay in list(self._relays.values()):
            relay.replace(self._stages())

    def _reset_all(self, entry: int, fault: words.Fault | None) -> None:
        assert isinstance(fault, words.Reset), f"{fault} is not an instant fault of a link"
        for relay in list(self._relays.values()):
            relay.transcript.felt("downstream", entry, "sent an RST")
            relay.reset(fault.side)

    async def _switch_on(self, entry: int, fault: words.Fault | None) -> None:
        if fault is not None and fault.refuses and self._listener.listens:
            self._listener.refuse()
            await self._hold_port()
        if isinstance(fault, words.Down):
            for relay in list(self._relays.values()):
                relay.transcript.felt("downstream", entry, "closed it")
                relay.close()

    def _switch_off(self, fault: words.Fault | None) -> None:
        still = any(row is not None and row.refuses for row in self._active.values())
        if fault is not None and fault.refuses and not still:
            self._listen()

    def _stages(self) -> dict[Stream, list[Stage]]:
        """Return the stages that are active, in the order in which their entries were applied."""
        stages: dict[Stream, list[Stage]] = {stream: [] for stream in STREAMS}
        for entry, fault in self._active.items():
            if fault is None or acts_on_stream(fault):
                for stream, stage in self._plan.stages(entry).items():
                    stages[stream].append(stage)
        return stages

    # connections

    def _arrived(self, nursery: trio.Nursery, sock: trio.socket.SocketType, _: object) -> None:
        nursery.start_soon(self._handle, trio.SocketStream(sock))

    async def _handle(self, stream: trio.SocketStream) -> None:
        number = self._next_number()
        tls = self._tls_over(stream)
        client = end_of(stream) if tls is None else TlsEnd(tls)
        transcript = Transcript(self._journal, number)
        transcript.tell("attempt", port=client.port)
        entrance = Entrance(client=client, faults=self._active.items, transcript=transcript)
        try:
            await entrance.hold_back()
            if tls is None or await _shake_hands(tls):
                await self._serve_client(number, entrance)
        finally:
            client.close()

    def _tls_over(self, stream: trio.SocketStream) -> trio.SSLStream[trio.SocketStream] | None:
        if self._tls is None:
            return None
        return trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)

    async def _serve_client(self, number: int, entrance: Entrance) -> None:
        client, transcript = entrance.client, entrance.transcript
        if await entrance.reject():
            return
        server: End = SilentEnd()
        if not self._swallows():
            try:
                server = await self._dial(number)
            except (OSError, trio.BrokenResourceError) as error:
                transcript.tell("dial_failed", error=str(error))
                transcript.record("rst", "downstream", "client")
                client.reset()
                return
            transcript.tell("dialed", side="server")
        try:
            await self._carry(number, entrance, server)
        finally:
            server.close()

    def _swallows(self) -> bool:
        """Whether a new connection falls into a blackhole before it reaches the server."""
        rows = [
            self._plan.scenario.timeline[entry]
            for entry, fault in self._active.items()
            if fault is not None and fault.swallows
        ]
        return any(row.stream == "both" and row.toxicity == 1 for row in rows)

    async def _carry(self, number: int, entrance: Entrance, server: End) -> None:
        relay = Relay(
            ends={"client": entrance.client, "server": server},
            rng_for=partial(generator, self._plan.seed, "link", self._journal.client, number),
            transcript=entrance.transcript,
            caller=self._caller,
        )
        relay.replace(self._stages())
        self._relays[number] = relay
        try:
            await entrance.strip_upgrade(relay)
            await relay.run()
        finally:
            del self._relays[number]


async def _shake_hands(tls: trio.SSLStream[trio.SocketStream]) -> bool:
    """Return whether the TLS handshake with a client succeeds in time."""
    with trio.move_on_after(TLS_HANDSHAKE_S):
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError:
            return False
        return True
    return False
