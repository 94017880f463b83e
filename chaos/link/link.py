"""The link: a port for one client, a dial to the server, and the faults that act on connections as a whole.

Each connection of the client gets a relay, which lives in `_relays` until it is over. `add`, `remove` and `reset`
change what is in force: for the listener, for all live relays, and for connections to come.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Literal

import trio

from chaos.errors import NetworkUnavailable
from chaos.faults.machine import Key, acts_on_stream
from chaos.faults.pipe import Stage
from chaos.link.ends import End, SilentEnd, TlsEnd, end_of
from chaos.link.entrance import Entrance
from chaos.link.listener import Listener
from chaos.link.poller import Caller
from chaos.link.relay import Relay
from chaos.link.transcript import Journal, Transcript
from chaos.scenario.plan import STREAMS, generator
from chaos.trace import Side, Stream
from chaos.vocabulary.faults import Down
from chaos.vocabulary.word import Word

BACKLOG = 1024
TLS_HANDSHAKE_S = 10.0

Dial = Callable[[int], Awaitable[End]]  # is given the number of the connection


class ClientLink:
    """Listens for one client, dials the server for each of its connections, and applies faults to them."""

    def __init__(
        self,
        *,
        seed: int,
        journal: Journal,
        dial: Dial,
        next_number: Callable[[], int] | None = None,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        caller: Caller | None = None,
    ) -> None:
        """Make a link; nothing listens yet.

        Args:
            seed: every random choice of the faults derives from it, from the client and from the connection.
            dial: connects to the server, for a connection of this number.
            next_number: numbers the connections: two links in a row must agree. By default they count from 1.
            tls: the context with which it answers clients.
            caller: makes calls where a task would have to wait; without one each connection has tasks.
        """
        self._seed = seed
        self._journal = journal
        self._dial = dial
        self._next_number = next_number or count(1).__next__
        self._tls = tls
        self._caller = caller
        # what is in force, and on which streams, in the order in which it was added
        self._active: dict[Key, tuple[Stage, Sequence[Stream]]] = {}
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

    async def add(self, stage: Stage, streams: Sequence[Stream]) -> None:
        """Put a toxic or fault in force, for live and for later connections; returns when it is."""
        settings = stage.settings
        self._active[stage.key] = stage, streams
        if settings.refuses and self._listener.listens:
            self._listener.refuse()
            await self._hold_port()
        if isinstance(settings, Down):
            for relay in list(self._relays.values()):
                relay.transcript.felt("downstream", stage.key, "closed it")
                relay.close()
        self._replace_stages()

    def remove(self, key: Key) -> None:
        """Remove the toxic or fault with this key; do nothing if there is none."""
        self._active.pop(key, None)
        refuses = any(stage.settings.refuses for stage, _ in self._active.values())
        if not (self._listener.listens or self._listener.closed or refuses):
            self._listen()
        self._replace_stages()

    def reset(
        self, key: Key, side: Side | Literal["both"] = "both", *, toxicity: float = 1.0
    ) -> None:
        """Send an RST on every live connection now, to one side or to both; it is felt under this key.

        `toxicity` is the share of the connections that get one.
        """
        for number, relay in list(self._relays.items()):
            if self._is_selected(number, key, toxicity):
                relay.transcript.felt("downstream", key, "sent an RST")
                relay.reset(side)

    def _replace_stages(self) -> None:
        for relay in list(self._relays.values()):
            relay.replace(self._stages())

    def _stages(self) -> dict[Stream, list[Stage]]:
        """Return the stages that are active, in the order in which they were added."""
        stages: dict[Stream, list[Stage]] = {stream: [] for stream in STREAMS}
        for stage, streams in self._active.values():
            if acts_on_stream(stage.settings):
                for stream in streams:
                    stages[stream].append(stage)
        return stages

    def _in_force(self, number: int) -> Iterator[tuple[Key, Word]]:
        """Yield what acts on the connection of this number as a whole, with its key."""
        for key, (stage, _) in self._active.items():
            if self._is_selected(number, key, stage.toxicity):
                yield key, stage.settings

    def _is_selected(self, number: int, key: Key, toxicity: float) -> bool:
        """Whether a fault that acts on a share of the connections acts on this one."""
        if toxicity >= 1:
            return True
        draws = generator(self._seed, "link", self._journal.client, number, "entrance", key)
        return draws.random() < toxicity

    # connections

    def _arrived(self, nursery: trio.Nursery, sock: trio.socket.SocketType, _: object) -> None:
        nursery.start_soon(self._handle, trio.SocketStream(sock))

    async def _handle(self, stream: trio.SocketStream) -> None:
        number = self._next_number()
        tls = self._tls_over(stream)
        client = end_of(stream) if tls is None else TlsEnd(tls)
        transcript = Transcript(self._journal, number)
        transcript.tell("attempt", port=client.port)
        entrance = Entrance(
            client=client, faults=partial(self._in_force, number), transcript=transcript
        )
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
        """Whether a new connection falls into a fault before it reaches the server."""
        return any(
            stage.settings.swallows and len(streams) == len(STREAMS) and stage.toxicity == 1
            for stage, streams in self._active.values()
        )

    async def _carry(self, number: int, entrance: Entrance, server: End) -> None:
        relay = Relay(
            ends={"client": entrance.client, "server": server},
            rng_for=partial(generator, self._seed, "link", self._journal.client, number),
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
