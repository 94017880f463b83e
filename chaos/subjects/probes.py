"""What a subject in this process owns: its tasks, its sockets, memory channels and connection objects.

Sockets are attributed as they are made: a recording socket factory notes which subject's task asked for them, and
tells of connection attempts that never reach a link because nobody listens.
"""

from __future__ import annotations

import gc
import socket as stdlib_socket
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.world import World
from chaos.recorder import Reporter, as_json, current_reporter
from chaos.trace import Side

Owner: TypeAlias = tuple[Side, int | None]
SocketKind: TypeAlias = tuple[int, int, int]  # family, type, protocol

_CHANNELS = frozenset[type]({trio.MemorySendChannel, trio.MemoryReceiveChannel})
# classes that have been looked at, and are not counted
_uncounted: set[type] = set()

# The class behind trio's sockets has no public name; a recording socket must be one of them, since trio checks.
with stdlib_socket.socket() as _plain:
    _TrioSocket: Any = type(trio.socket.from_stdlib_socket(_plain))


@dataclass(slots=True)
class Ledger:
    """The sockets that subjects made and have not closed."""

    sockets: weakref.WeakKeyDictionary[Any, Owner] = field(
        default_factory=weakref.WeakKeyDictionary
    )

    def close(self, side: Side, client: int | None) -> None:
        """Close every socket of a subject, as the kernel does when a process dies."""
        for sock, owner in list(self.sockets.items()):
            if owner == (side, client):
                sock.close()

    def count(self, side: Side) -> int:
        """Return how many open sockets the subjects of a side own."""
        return sum(
            owner[0] == side and sock.fileno() != -1 for sock, owner in list(self.sockets.items())
        )


class RecordingSocket(_TrioSocket):  # type: ignore[misc]
    """A trio socket that knows whose it is."""

    ledger: Ledger
    owner: Owner
    reporter: Reporter

    @classmethod
    def make(cls, sock: Any, ledger: Ledger, reporter: Reporter) -> RecordingSocket:
        """Wrap a standard library socket for the subject that is named by `reporter`."""
        made = cls(sock)
        made.ledger = ledger
        made.reporter = reporter
        ledger.sockets[made] = (reporter.subject, reporter.client)
        return made

    async def accept(self) -> tuple[Any, Any]:
        """Accept, and note that the new socket has this one's owner."""
        sock, address = await self._accept()
        return RecordingSocket.make(sock, self.ledger, self.reporter), address

    async def connect(self, address: Any) -> None:
        """Connect, and record an attempt that was refused: no link can see it."""
        with refusals_recorded(self.reporter):
            await super().connect(address)


class RecordingSimulatedSocket(SimulatedSocket):
    """A simulated socket that knows whose it is."""

    def __init__(self, world: World, ledger: Ledger, reporter: Reporter, kind: SocketKind) -> None:
        host = world.hosts.host_of(reporter.subject, reporter.client)
        super().__init__(world, *kind, host=host)
        self._ledger, self._reporter, self._kind = ledger, reporter, kind
        ledger.sockets[self] = (reporter.subject, reporter.client)

    def spawn(self) -> SimulatedSocket:
        """Return the socket for an accepted connection, which has this one's owner."""
        return RecordingSimulatedSocket(self.world, self._ledger, self._reporter, self._kind)

    async def connect(self, address: Any) -> None:
        """Connect, and record an attempt that was refused."""
        with refusals_recorded(self._reporter):
            await super().connect(address)


@contextmanager
def refusals_recorded(reporter: Reporter) -> Iterator[None]:
    """Record a client's connection attempt inside that fails without having reached a link, and let it go on.

    It is refused, or nobody answers. An attempt that the client gives up by itself is not recorded: whether a link
    saw it is not known here.
    """
    try:
        yield
    except OSError as error:
        if reporter.client is not None:
            reporter.recorder.record("attempt", client=reporter.client, port=None)
            reporter.recorder.record("refused", client=reporter.client, how=as_json(str(error)))
        raise


@dataclass(slots=True)
class SocketFactory(trio.abc.SocketFactory):
    """Makes recording sockets for subjects and plain ones for everybody else; simulated ones in a world."""

    world: World | None = None
    ledger: Ledger = field(default_factory=Ledger)

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> Any:  # noqa: A002
        """Return a new socket, as `trio.socket.socket` does."""
        reporter = current_reporter.get()
        if self.world is not None:
            kind = (family, type, proto)
            if reporter is None:
                return SimulatedSocket(self.world, *kind, host=self.world.hosts.host_of(None))
            return RecordingSimulatedSocket(self.world, self.ledger, reporter, kind)
        plain = stdlib_socket.socket(family, type, proto)
        if reporter is None:
            return trio.socket.from_stdlib_socket(plain)
        return RecordingSocket.make(plain, self.ledger, reporter)


@contextmanager
def recording_sockets(world: World | None = None) -> Iterator[Ledger]:
    """Attribute the sockets made inside to the subject whose task makes them. Must run inside `trio.run`.

    With a world they are simulated ones.
    """
    factory = SocketFactory(world)
    previous = trio.socket.set_custom_socket_factory(factory)
    try:
        yield factory.ledger
    finally:
        trio.socket.set_custom_socket_factory(previous)


def count_tasks(nurseries: Iterable[trio.Nursery]) -> int:
    """Return how many tasks live in nurseries, children of children included."""
    count = 0
    waiting = list(nurseries)
    while waiting:
        for task in waiting.pop().child_tasks:
            count += 1
            waiting += task.child_nurseries
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """What lives in this process: memory channel ends, and connection objects by side and class."""

    channels: int
    objects: Mapping[Side, Mapping[str, int]]


def count_living() -> Living:
    """Count memory channel ends and the WebSocket connections that libraries make, garbage included.

    A connection object says whose it is by `is_client` (trio-websocket) or `client` (wsproto); one that does
    not say so is counted for the client, who makes a new one with each reconnection.
    """
    found: dict[Side, Counter[str]] = {"client": Counter(), "server": Counter()}
    channels = 0
    # of everything there is nearly nothing is counted: one quick pass leaves that out
    for thing in [thing for thing in gc.get_objects() if type(thing) not in _uncounted]:
        kind = type(thing)
        if kind in _CHANNELS:
            channels += 1
        elif _is_counted(kind):
            found[_side_of(thing)][kind.__name__] += 1
        else:
            _uncounted.add(kind)
    return Living(
        channels=channels,
        # sorted: the order in which the collector knows them says nothing and differs between processes
        objects={side: dict(sorted(counter.items())) for side, counter in found.items()},
    )


def _side_of(connection: Any) -> Side:
    flag = getattr(connection, "is_client", None)
    if flag is None:
        flag = getattr(connection, "client", True)
    return "client" if flag is not False else "server"


def _is_counted(kind: type) -> bool:
    name = kind.__name__
    return (
        (name.endswith("Connection") or name.startswith("WebSocket"))
        and not kind.__module__.startswith(("chaos.link", "chaos.wire", "h11", "urllib3", "http"))
        and not issubclass(kind, (BaseException, type))
    )
