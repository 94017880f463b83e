"""The reference server: no client can take it down, and nothing of a client outlives it.

Each connection has its own nursery, and a catch-all around it. `ReferenceServer` is for programs and tests;
`serve` is the same as a subject of a run.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest

from chaos.recorder import report
from chaos.reference.connection import Connection
from chaos.reference.handshake import accept, secure
from chaos.reference.options import PeerOptions
from chaos.reference.outcome import format_retry_after
from chaos.reference.traffic import Traffic
from chaos.reference.workload import Session
from chaos.subject import Command, subject

# From the accepted connection to the 101; a client that says nothing is not kept longer.
HANDSHAKE_TIMEOUT_S = 10.0
# Between attempts to get the own port back after a drain, should someone else hold it.
LISTEN_AGAIN_S = 0.1

Parameters = Mapping[str, Any]


class ReferenceServer:
    """A server. Nothing happens before `run`, or `handle_stream` for a single connection.

    `connections` holds the traffic of every open connection, and is empty when there is none. `sessions` holds
    counters and replay buffers by client number; hand the same mapping to the next server after a crash, as a
    real one would keep them on disk.
    """

    def __init__(
        self,
        options: PeerOptions | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        sessions: dict[int, Session] | None = None,
    ) -> None:
        self.options = options or PeerOptions()
        self.ssl_context = ssl_context
        self.sessions = {} if sessions is None else sessions
        self.connections: set[Traffic] = set()
        self.rejecting: Parameters | None = None
        self.rejecting_some: dict[int, Parameters] = {}  # by client number, before `rejecting`
        self.draining = False
        self._of_client: dict[int, list[Connection]] = {}
        self._handshakes: set[trio.CancelScope] = set()
        self._accepting: trio.CancelScope | None = None
        self._listen_again = trio.Event()

    async def run(
        self,
        host: str | None,
        port: int,
        *,
        commands: trio.MemoryReceiveChannel[Command] | None = None,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, which cuts every connection; `started` gives the port, `commands` are obeyed.

        trio's accept loop waits when file descriptors run out, and goes on when there are some again.

        Raises:
            OSError: if the port cannot be had at first; after a drain it is asked for until it can.
        """
        listeners = await trio.open_tcp_listeners(port, host=host)
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as handlers:
            if commands is not None:
                handlers.start_soon(self.obey, commands, handlers)
            task_status.started(port)
            while True:
                with trio.CancelScope() as accepting:
                    self._accepting = accepting
                    if self.draining:
                        accepting.cancel()
                    await trio.serve_listeners(
                        self.handle_stream, listeners, handler_nursery=handlers
                    )
                await self._listen_again.wait()
                listeners = await self._get_port_back(host, port)

    async def _get_port_back(self, host: str | None, port: int) -> list[trio.SocketListener]:
        while True:
            try:
                return list(await trio.open_tcp_listeners(port, host=host))
            except OSError as error:
                report("note", text=f"cannot listen again yet: {error}")
            await trio.sleep(LISTEN_AGAIN_S)

    async def handle_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one client from its first byte to the closed socket. Raises nothing but what cancels it."""
        try:
            await self._handle(stream)
        except Exception as error:
            report("note", text=f"a connection failed: {error!r}")

    async def _handle(self, stream: trio.abc.Stream) -> None:
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S) as handshake:
            self._handshakes.add(handshake)
            try:
                if self.ssl_context is not None:
                    stream = await secure(stream, self.ssl_context)
                async with accept(
                    stream,
                    self._answer,
                    close_timeout_s=self.options.close_timeout_s,
                ) as connection:
                    self._handshakes.discard(handshake)
                    handshake.deadline = float("inf")
                    if connection is not None:
                        await self._live(connection)
            except trio.BrokenResourceError:
                report("note", text="a client went away in its handshake")
            finally:
                self._handshakes.discard(handshake)

    async def _answer(self, request: WebSocketRequest) -> WebSocketConnection | None:
        rule = {"status": 503} if self.draining else self._rejection_of(client_number(request.path))
        if rule is not None and rule.get("code") is None:
            status = rule.get("status") or 503
            headers = [(b"content-type", b"text/plain")]
            if rule.get("retry_after_s") is not None:
                headers.append((b"retry-after", format_retry_after(rule["retry_after_s"]).encode()))
            await request.reject(
                status, extra_headers=headers, body=f"refused: {status}\n".encode()
            )
            return None
        return await request.accept(subprotocol=next(iter(request.proposed_subprotocols), None))

    async def _live(self, connection: Connection) -> None:
        number = client_number(connection.websocket.path or "/")
        theirs = self._of_client.setdefault(number, [])
        traffic = Traffic(
            connection=connection,
            session=self._session(number),
            options=self.options,
            lines=self.options.lines_of("server"),
            to=number,
            # of several connections of one client only the newest is sent to: the others may be dead already; when
            # it was the newest that died, as of handshakes that a healed path delivers together, the one before it
            may_send=lambda: theirs[-1] is connection,
        )
        self.connections.add(traffic)
        theirs.append(connection)
        rule = self._rejection_of(number)
        if rule is not None and rule.get("code") is not None:
            connection.close_soon(rule["code"])
        elif self.draining:
            connection.close_soon(1001)
        try:
            await traffic.converse()
            # the closing handshake belongs to the connection, which is registered until its socket is closed
            await connection.finish()
        finally:
            self.connections.discard(traffic)
            theirs.remove(connection)
            if not theirs:
                del self._of_client[number]

    def _session(self, number: int) -> Session:
        if number not in self.sessions:
            self.sessions[number] = Session(
                sender="server",
                resume_out=self.options.resumes("server"),
                resume_in=self.options.resumes("client"),
            )
        return self.sessions[number]

    def _rejection_of(self, number: int) -> Parameters | None:
        return self.rejecting_some.get(number, self.rejecting)

    def _reject(self, rule: Parameters | None, clients: Sequence[int] | None) -> None:
        """Refuse new connections by a rule, of some clients or of all, or take them again."""
        if clients is None:
            self.rejecting = rule
        elif rule is not None:
            self.rejecting_some |= dict.fromkeys(clients, rule)
        else:
            for number in clients:
                self.rejecting_some.pop(number, None)

    def _concerned(self, command: Command) -> list[Traffic]:
        """Return the open connections of the clients that an action concerns."""
        return [row for row in self.connections if row.to is None or command.concerns(row.to)]

    def close_all(self, code: int, reason: str = "", *, timeout_s: float | None = None) -> None:
        """Close every connection with this code; each has `timeout_s` to answer."""
        for traffic in tuple(self.connections):
            traffic.connection.close_soon(code, reason, timeout_s=timeout_s)

    def drain(self, code: int = 1001, *, grace_s: float = 5.0) -> None:
        """Stop listening and close every connection; what has not answered after `grace_s` is cut."""
        self.draining = True
        self._listen_again = trio.Event()
        if self._accepting is not None:
            self._accepting.cancel()
        for handshake in tuple(self._handshakes):
            handshake.cancel()
        self.close_all(code, "going down", timeout_s=grace_s)

    def reopen(self) -> None:
        """Listen again after a drain, on the same port."""
        self.draining = False
        self._listen_again.set()

    async def obey(
        self, commands: trio.MemoryReceiveChannel[Command], nursery: trio.Nursery
    ) -> None:
        """Carry out the timeline's actions until the channel is closed; what takes time runs in `nursery`."""
        async for command in commands:
            self._obey_command(command, nursery)

    def _obey_command(self, command: Command, nursery: trio.Nursery) -> None:
        parameters = command.parameters
        match command.action, command.ends:
            case "close", False:
                for traffic in self._concerned(command):
                    code, reason = parameters.get("code", 1000), parameters.get("reason", "")
                    traffic.connection.close_soon(code, reason)
            case "drain", False:
                self.drain(parameters.get("code", 1001), grace_s=parameters.get("grace_s", 5.0))
            case "drain", True:
                self.reopen()
            case "reject", ends:
                self._reject(None if ends else parameters, command.clients)
            case "send", False:
                for traffic in self._concerned(command):
                    nursery.start_soon(traffic.send_asked, parameters)


def client_number(path: str) -> int:
    """Return the number that a client gives in its query, as in `/?client=3`; 1 if it gives none."""
    value = parse_qs(urlsplit(path).query).get("client", ["1"])[-1]
    return int(value) if value.isascii() and value.isdigit() else 1


@subject(sends=True, actions=("close", "drain", "reject", "send"), tells_clients=True)
async def serve(
    host: str | None,
    port: int,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    **options: Any,
) -> None:
    """Run the reference server as a subject, until cancelled. `started` gives the port.

    Options are those of `PeerOptions` as plain values, and `commands` (not read where `actions` says that none will
    come), `ssl_context` (wss), `sessions`.
    """
    server = ReferenceServer(
        PeerOptions.parse(options),
        ssl_context=options.get("ssl_context"),
        sessions=options.get("sessions"),
    )
    commands = options.get("commands") if options.get("actions", True) else None
    await server.run(host, port, commands=commands, task_status=task_status)
