"""What every network does, and the dial that all of them use.

A network is made once per run, when the port of the server is known. `chaos.networks.make_network` chooses which.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import trio

from chaos.link.ends import End, TlsEnd, end_of
from chaos.link.link import TLS_HANDSHAKE_S, ClientLink, Dial
from chaos.recorder import Recorder
from chaos.scenario.plan import Plan, Step
from chaos.trace import Event
from chaos.vocabulary.faults import Reset

# Longer than any accept queue on loopback takes. The link that dials has no other timeout.
DIAL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The contexts of a run with wss: how links answer clients, and how they dial the server."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    name: str


class Network(Protocol):
    """A network between one server and its clients. `KINDS` are the kinds of event that it wants to see."""

    KINDS: ClassVar[frozenset[str]] = frozenset()

    async def open(self, nursery: trio.Nursery) -> Sequence[int]:
        """Return a port for each client, client 1 first; what serves them runs in `nursery` until that is cancelled.

        Raises:
            NetworkUnavailable: the network cannot be had. If it fails later, the nursery's tasks raise it.
        """
        ...

    async def apply(self, step: Step) -> None:
        """Apply a toxic or fault now; returns when it is in effect.

        Raises:
            NetworkUnavailable: the network itself failed.
        """

    def see(self, event: Event) -> None:
        """Take an event of the run as it is recorded, and do not wait. A network that needs none does nothing."""
        return


class MakeNetwork(Protocol):
    """Makes the network of a run, once the server's port is known."""

    def __call__(
        self,
        *,
        plan: Plan,
        recorder: Recorder,
        host: str,
        port: int,
        tls: Tls | None,
    ) -> Network:
        """Return a network that serves nothing yet."""
        ...


async def apply_step(link: ClientLink, plan: Plan, step: Step) -> None:
    """Apply a step to a link; returns when it is in effect."""
    settings = plan.settings[step.entry]
    if step.change == "on":
        stages = plan.stages(step.entry)
        await link.add(next(iter(stages.values())), tuple(stages))
    elif step.change == "off":
        link.remove(step.entry)
    else:
        assert isinstance(settings, Reset), f"{settings} is not an instant fault of a link"
        toxicity = plan.scenario.timeline[step.entry].toxicity
        link.reset(step.entry, settings.side, toxicity=toxicity)


def affected(plan: Plan, step: Step) -> Sequence[int]:
    """Return the clients that a step's entry acts on."""
    chosen = plan.scenario.timeline[step.entry].clients
    return chosen or range(1, plan.scenario.client.count + 1)


def dialer(host: str, port: int, tls: Tls | None) -> Dial:
    """Return a dial to the server at an IPv4 address. It raises OSError when the server cannot be reached."""

    async def dial(_number: int) -> End:
        with trio.move_on_after(DIAL_S):
            # not by `open_tcp_stream`, which does much for names and several addresses
            sock = trio.socket.socket()
            try:
                await sock.connect((host, port))
                return await _make_end(trio.SocketStream(sock), tls)
            except BaseException:
                sock.close()
                raise
        raise TimeoutError(f"no answer from {host}:{port} within {DIAL_S:g} s")

    return dial


async def _make_end(stream: trio.SocketStream, tls: Tls | None) -> End:
    """Return the link's end of a connection, after the TLS handshake if there is to be one."""
    if tls is None:
        return end_of(stream)
    secure = trio.SSLStream(stream, tls.client, server_hostname=tls.name, https_compatible=True)
    with trio.fail_after(TLS_HANDSHAKE_S):
        await secure.do_handshake()
    return TlsEnd(secure)
