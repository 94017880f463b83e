"""The three arms of the TCP contract: simulated hosts, this machine's loopback, and network namespaces.

Each gives a case a `Net`: two hosts, sockets at home on them, and a path between them that can be cut. The namespaces
(root only) stand in a row, and the middle one forwards; a `blackhole` route there takes packets without a word, as a
broken path does. Dropping them on the sending host instead would not do: Linux tells its TCP, which then waits with
the timer of window probes (`tcp_write_xmit`, net/ipv4/tcp_output.c). A socket stays in the namespace in which it was
made, so that one trio program has sockets at home on both sides.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

import trio
import trio.testing

from chaos.networks.simulated.hosts import SERVER_ADDRESS, client_address
from chaos.networks.simulated.paths import PathFault
from chaos.networks.simulated.sockets import SimulatedSocket
from chaos.networks.simulated.world import World

Host = Literal["client", "server"]
Sock = trio.socket.SocketType
# lowered from 15 and 6, so that giving up is seen within a quarter of a minute
RETRIES = 5
SYN_RETRIES = 2
CLONE_NEWNET = 0x40000000  # sched.h
TCP_REPAIR = 19  # linux/tcp.h: a socket that is closed under repair is gone without a word
# a program that reads all it gets, and says where it listens
DRAIN = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0), backlog=8)
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
while peer.recv(65536):
    pass
"""


class UnavailableError(Exception):
    """This arm cannot do what a case needs; the message says why."""


class Net:
    """Two hosts of an arm, for one case. What it opened is closed by `aclose`."""

    address = "127.0.0.1"  # of the server
    source = "127.0.0.1"  # of the client

    def __init__(self) -> None:
        self.opened: list[Sock] = []

    def make(self, host: Host) -> Sock:
        """Return a new socket at home on a host."""
        return trio.socket.socket()

    def socket(self, host: Host) -> Sock:
        """Return a new socket at home on a host, which this closes in the end."""
        sock = self.make(host)
        self.opened.append(sock)
        return sock

    async def listen(self, backlog: int = 8) -> Sock:
        """Return a socket of the server that listens."""
        sock = self.socket("server")
        await sock.bind((self.address, 0))
        sock.listen(backlog)
        return sock

    async def connect(self, port: int) -> Sock:
        """Return a socket of the client that is connected to the server."""
        sock = self.socket("client")
        await sock.bind((self.source, 0))
        await sock.connect((self.address, port))
        return sock

    async def accept(self, listener: Sock) -> Sock:
        """Return the next socket that a listener has accepted."""
        sock, _ = await listener.accept()
        self.opened.append(sock)
        return sock

    async def pair(self) -> tuple[Sock, Sock]:
        """Return a connection: the client's end and the server's."""
        listener = await self.listen()
        client = await self.connect(listener.getsockname()[1])
        server = await self.accept(listener)
        listener.close()
        return client, server

    async def cut(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let no packet through from now on, in one direction or both."""
        raise UnavailableError("a loopback has no path to cut")

    async def heal(self) -> None:
        """Let every packet through."""
        raise UnavailableError("a loopback has no path to cut")

    async def lose(self, rate: float) -> None:
        """Lose a share of the packets in both directions from now on."""
        raise UnavailableError("a loopback has no path to lose packets on")

    async def reboot(self, server: Sock) -> None:
        """Let the server's host forget this connection without a word, and be up again."""
        try:
            server.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except PermissionError:
            raise UnavailableError("forgetting a connection needs root (TCP_REPAIR)") from None
        server.close()

    async def drain(self) -> int:
        """Start a program on the server's host that reads all it gets, and return its port."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Stop the program of `drain`."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Let the program of `drain` go on."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close every socket, end every program."""
        for sock in self.opened:
            sock.close()


class SimulatedNet(Net):
    """Hosts of a simulated world."""

    address = SERVER_ADDRESS
    source = client_address(1)

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        super().__init__()
        world.hosts.settle(1)
        self.world = world
        self.nursery = nursery
        self.there = world.fabric.path(self.source, self.address)
        self.back = world.fabric.path(self.address, self.source)

    def make(self, host: Host) -> Sock:
        address = self.address if host == "server" else self.source
        sock = SimulatedSocket(self.world, socket.AF_INET, socket.SOCK_STREAM, 0, address)
        sock.options.retries, sock.options.syn_retries = RETRIES, SYN_RETRIES
        return sock

    async def cut(self, *, to_server: bool = True, to_client: bool = True) -> None:
        self.there.up, self.back.up = not to_server, not to_client

    async def heal(self) -> None:
        self.there.up = self.back.up = True

    async def lose(self, rate: float) -> None:
        for number, path in enumerate((self.there, self.back)):
            path.faults.append(
                PathFault(kind="loss", felt=lambda _: None, rate=rate, rng=Random(number))
            )

    async def reboot(self, server: Sock) -> None:
        self.world.crash(self.address)
        self.world.boot(self.address)

    async def drain(self) -> int:
        listener = await self.listen()

        async def read() -> None:
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                peer = await self.accept(listener)
                while await peer.recv(65536):
                    pass

        self.nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        port: int = listener.getsockname()[1]
        return port

    def freeze(self) -> None:
        self.world.freeze(self.address)

    def thaw(self) -> None:
        self.world.thaw(self.address)


class RealNet(Net):
    """This machine's loopback."""

    prefix: tuple[str, ...] = ()

    def __init__(self, number: int) -> None:
        super().__init__()
        # an address for each case, so that none takes a port that another has just given back
        self.address = self.source = f"127.0.1.{10 + number}"
        self.programs: list[subprocess.Popen[str]] = []

    async def drain(self) -> int:
        words = [*self.prefix, sys.executable, "-S", "-c", DRAIN, self.address]
        start = partial(subprocess.Popen, words, stdout=subprocess.PIPE, text=True)
        program: subprocess.Popen[str] = await trio.to_thread.run_sync(start)
        self.programs.append(program)
        assert program.stdout is not None
        return int(await trio.to_thread.run_sync(program.stdout.readline))

    def freeze(self) -> None:
        self.programs[-1].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.programs[-1].send_signal(signal.SIGCONT)

    async def aclose(self) -> None:
        await super().aclose()
        for program in self.programs:
            program.kill()
            program.communicate()


class Row:
    """Three namespaces in a row. Each case has an address of its own on either side."""

    def __init__(self) -> None:
        tag = f"tcp{os.getpid()}"
        self.client, self.middle, self.server = (f"{tag}{letter}" for letter in "cms")

    def batch(self, *lines: str) -> None:
        """Run `ip` commands."""
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True,
                       capture_output=True, timeout=20)  # fmt: skip

    def inside(self, name: str, command: str) -> None:
        """Run a shell command in a namespace."""
        subprocess.run(["ip", "netns", "exec", name, "sh", "-ec", command], check=True,
                       capture_output=True, timeout=20)  # fmt: skip

    def build(self, cases: int) -> None:
        """Make the namespaces, with addresses for so many cases."""
        for name in (self.client, self.middle, self.server):
            self.batch(f"netns add {name}")
        for side, name in ((1, self.client), (2, self.server)):
            self.batch(
                f"link add out netns {name} type veth peer name in{side} netns {self.middle}"
            )
            self.inside(
                name,
                "ip link set lo up; ip link set out up;"
                f"for k in $(seq 10 {9 + cases}); do echo addr add 10.231.{side}.$k/24 dev out; done"
                f" | ip -batch -; ip route add default via 10.231.{side}.1;"
                f"echo {RETRIES} > /proc/sys/net/ipv4/tcp_retries2;"
                f"echo {SYN_RETRIES} > /proc/sys/net/ipv4/tcp_syn_retries",
            )
        self.inside(
            self.middle,
            "for side in 1 2; do ip addr add 10.231.$side.1/24 dev in$side;"
            "ip link set in$side up; done; echo 1 > /proc/sys/net/ipv4/ip_forward",
        )

    def remove(self) -> None:
        """Remove what there is of them."""
        for name in (self.client, self.middle, self.server):
            subprocess.run(
                ["ip", "netns", "del", name], capture_output=True, timeout=20, check=False
            )


@contextmanager
def namespaces(cases: int) -> Iterator[Row]:
    """Make three namespaces for as long as this is open.

    Raises:
        UnavailableError: this machine has none, or not for us.
    """
    if os.name != "posix" or os.geteuid() != 0:
        raise UnavailableError("network namespaces need root")
    if shutil.which("ip") is None:
        raise UnavailableError("network namespaces need `ip` (iproute2)")
    row = Row()
    try:
        try:
            row.build(cases)
        except (OSError, subprocess.SubprocessError) as error:
            why = getattr(error, "stderr", None) or error
            raise UnavailableError(f"no network namespaces on this machine: {why}") from error
        yield row
    finally:
        row.remove()


def made_in(namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
    """Return a socket that was made in a namespace: a thread of its own enters it."""
    made: list[socket.socket] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/var/run/netns", namespace).open() as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) == 0:
                made.append(make())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert made, f"expected to enter the namespace {namespace}"
    return made[0]


class NamespaceNet(RealNet):
    """Two addresses of a row of namespaces."""

    def __init__(self, row: Row, number: int) -> None:
        super().__init__(number)
        self.row = row
        self.source, self.address = f"10.231.1.{10 + number}", f"10.231.2.{10 + number}"
        self.prefix = ("ip", "netns", "exec", row.server)
        self.taken: list[str] = []

    def make(self, host: Host) -> Sock:
        namespace = self.row.server if host == "server" else self.row.client
        return trio.socket.from_stdlib_socket(made_in(namespace, socket.socket))

    async def cut(self, *, to_server: bool = True, to_client: bool = True) -> None:
        self.taken = [self.address] * to_server + [self.source] * to_client
        await self._route("add", self.taken)

    async def heal(self) -> None:
        await self._route("del", self.taken)
        self.taken = []

    async def _route(self, verb: str, addresses: list[str]) -> None:
        lines = [f"route {verb} blackhole {address}/32" for address in addresses]
        await trio.run_process(
            ["ip", "-n", self.row.middle, "-batch", "-"], stdin="\n".join(lines).encode()
        )

    async def lose(self, rate: float) -> None:
        if shutil.which("iptables") is None:
            raise UnavailableError("losing a share of the packets needs `iptables`")
        for address in (self.source, self.address):
            words = f"-w -A FORWARD -d {address} -m statistic --mode random --probability {rate} -j DROP"
            command = ["ip", "netns", "exec", self.row.middle, "iptables", *words.split()]
            done = await trio.run_process(command, check=False, capture_stderr=True)
            if done.returncode:
                raise UnavailableError(f"iptables: {done.stderr.decode().splitlines()[0]}")


@asynccontextmanager
async def closing(net: Net) -> AsyncIterator[Net]:
    """Close a net in the end, whatever happens."""
    try:
        yield net
    finally:
        await net.aclose()


def failed(error: Any) -> dict[str, str]:
    """Return what is kept of a case that an arm cannot do or that raised."""
    if isinstance(error, UnavailableError):
        return {"unavailable": str(error)}
    return {"raised": repr(error)}
