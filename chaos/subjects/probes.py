"""Finds out who makes what in a run, and tells of connection attempts that never reach a link.

Whoever makes something is known by the context of its task (`chaos.recorder.current_reporter`), which is set when a
subject starts and inherited by all that it starts. While `recording` is in force, the constructors of sockets, memory
channels and connection objects note their makers in a `Ledger`, and a task that begins without a context of its own,
as trio's system tasks do, is given its maker's.
"""

from __future__ import annotations

import importlib
import socket as stdlib_socket
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

from chaos.networks.replaced import replaced
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.world import World
from chaos.recorder import Reporter, as_json, current_reporter
from chaos.subjects.ledger import Ledger, Made, Owner
from chaos.trace import Side

SocketKind: TypeAlias = tuple[int, int, int]  # family, type, protocol
Replacement: TypeAlias = tuple[Any, str, Any]

# The connection objects of libraries: one is made for each connection, and has to go with it. A subject may declare
# classes of its own (`chaos.subject`). A socket that something still refers to is counted for all others.
CONNECTIONS: tuple[tuple[str, str], ...] = (
    ("trio_websocket", "WebSocketConnection"),
    ("wsproto", "WSConnection"),
    ("websockets.protocol", "Protocol"),
    ("websockets.asyncio.connection", "Connection"),
    ("websockets.trio.connection", "Connection"),
    ("websockets.sync.connection", "Connection"),
    ("websockets.legacy.protocol", "WebSocketCommonProtocol"),
    ("aiohttp.client_ws", "ClientWebSocketResponse"),
    ("aiohttp.web_ws", "WebSocketResponse"),
)

# The class behind trio's sockets has no public name.
with stdlib_socket.socket() as _plain:
    _TrioSocket: Any = type(trio.socket.from_stdlib_socket(_plain))


class RecordingSimulatedSocket(SimulatedSocket):
    """A simulated socket that knows whose it is."""

    def __init__(self, world: World, ledger: Ledger, reporter: Reporter, kind: SocketKind) -> None:
        host = world.hosts.host_of(reporter.subject, reporter.client)
        super().__init__(world, *kind, host=host)
        self._ledger, self._reporter, self._kind = ledger, reporter, kind
        ledger.sockets.add(self, _owner(reporter))

    def spawn(self) -> SimulatedSocket:
        """Return the socket for an accepted connection, which has this one's owner."""
        return RecordingSimulatedSocket(self.world, self._ledger, self._reporter, self._kind)

    async def connect(self, address: Any) -> None:
        """Connect, and record an attempt that was refused."""
        with refusals_recorded(self._reporter):
            await super().connect(address)


@contextmanager
def refusals_recorded(reporter: Reporter | None) -> Iterator[None]:
    """Record a client's connection attempt inside that fails without having reached a link, and let it go on.

    It is refused, or nobody answers. An attempt that the client gives up by itself is not recorded: whether a link
    saw it is not known here.
    """
    try:
        yield
    except OSError as error:
        if reporter is not None and reporter.client is not None:
            reporter.recorder.record("attempt", client=reporter.client, port=None)
            reporter.recorder.record("refused", client=reporter.client, how=as_json(str(error)))
        raise


@dataclass(slots=True)
class SocketFactory(trio.abc.SocketFactory):
    """Makes the sockets of a simulated world: recording ones for subjects, plain ones for everybody else."""

    world: World
    ledger: Ledger = field(default_factory=Ledger)

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> Any:  # noqa: A002
        """Return a new socket, as `trio.socket.socket` does."""
        reporter, kind = current_reporter.get(), (family, type, proto)
        if reporter is None:
            return SimulatedSocket(self.world, *kind, host=self.world.hosts.host_of(None))
        return RecordingSimulatedSocket(self.world, self.ledger, reporter, kind)


class _Inheritance(trio.abc.Instrument):
    """Gives a task its maker's reporter where it has none, as a system task, which begins with an empty context."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if task.context.get(current_reporter) is None:
            maker = _current_maker()
            if maker is not None:
                task.context.run(current_reporter.set, maker)


def _current_maker() -> Reporter | None:
    """Return the subject that is running, if one is: by the context in force, else by that of its task."""
    reporter = current_reporter.get()
    if reporter is None:
        try:
            reporter = trio.lowlevel.current_task().context.get(current_reporter)
        except RuntimeError:  # no task runs: trio is beginning or ending, or this is another thread
            return None
    return reporter


def _owner(reporter: Reporter) -> Owner:
    return reporter.subject, reporter.client


def _note(made: Made, thing: Any) -> None:
    """Note a new thing for the subject that is running; what the run itself makes is not noted."""
    maker = _current_maker()
    if maker is not None:
        made.add(thing, _owner(maker))


@contextmanager
def recording(world: World | None = None, connections: Collection[type] = ()) -> Iterator[Ledger]:
    """Note in a ledger what the subjects make while inside. Must run inside `trio.run`.

    With a world their sockets are simulated ones. `connections` are classes of connection objects beyond the known
    ones.
    """
    ledger = Ledger()
    classes = {*_known_connections(), *connections}
    instrument = _Inheritance()
    with ExitStack() as stack:
        if world is not None:
            previous = trio.socket.set_custom_socket_factory(SocketFactory(world, ledger))
            stack.callback(trio.socket.set_custom_socket_factory, previous)
        trio.lowlevel.add_instrument(instrument)
        stack.callback(trio.lowlevel.remove_instrument, instrument)
        stack.enter_context(
            replaced(
                *_recorded_sockets(ledger.sockets),
                *(_noted(kind, "__init__", ledger.objects) for kind in classes),
                *(_noted(kind, method, ledger.channels) for kind, method in _channels()),
            )
        )
        yield ledger


def _channels() -> Iterator[tuple[Any, str]]:
    """Yield the classes of memory channels' ends, trio's and anyio's, each with the method that ends its making."""
    yield trio.MemorySendChannel, "__attrs_post_init__"
    yield trio.MemoryReceiveChannel, "__attrs_post_init__"
    if "anyio" in sys.modules:  # which imports this part of it only when it is used
        streams = importlib.import_module("anyio.streams.memory")
        yield streams.MemoryObjectSendStream, "__post_init__"
        yield streams.MemoryObjectReceiveStream, "__post_init__"


def _known_connections() -> Iterator[type]:
    """Yield those of the known classes whose libraries have been imported."""
    for module, name in CONNECTIONS:
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, type):
            yield found


def _noted(kind: Any, method: str, made: Made) -> Replacement:
    """Return a replacement of a method that constructors call, after which the new object is noted."""
    original: Callable[..., None] = getattr(kind, method)

    def construct(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        _note(made, self)

    return kind, method, construct


def _recorded_sockets(made: Made) -> Iterator[Replacement]:
    """Yield what notes real sockets, however they are made, and the connection attempts of theirs that fail."""
    yield _noted(stdlib_socket.socket, "__init__", made)
    original, connect = _TrioSocket.__init__, _TrioSocket.connect

    def wrap(self: Any, sock: Any) -> None:
        original(self, sock)
        # of a socket and the one of trio around it only the outer one is counted, and can be closed without harm
        owner = made.owner_of(sock)
        if owner is None:
            _note(made, self)
        else:
            made.discard(sock)
            made.add(self, owner)

    async def connect_and_record(self: Any, address: Any) -> None:
        with refusals_recorded(_current_maker()):
            await connect(self, address)

    yield _TrioSocket, "__init__", wrap
    yield _TrioSocket, "connect", connect_and_record


def count_tasks(side: Side | None = None, client: int | None = None) -> int:
    """Return how many tasks there are of the subjects: of all, of a side, or of one client.

    System tasks and those in the nurseries of others count for whoever started them.
    """
    count = 0
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else list(root.child_nurseries)
    while waiting:
        for task in waiting.pop().child_tasks:
            reporter = task.context.get(current_reporter)
            count += (
                reporter is not None
                and side in (None, reporter.subject)
                and client in (None, reporter.client)
            )
            waiting += task.child_nurseries
    return count
