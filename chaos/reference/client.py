"""The reference client: a WebSocket client that notices, recovers and leaks nothing.

One loop: attempt, live, decide, pause. Everything of a connection, its tasks, its timers and its waiting sends,
belongs to the attempt's nursery and is gone before the loop goes on. `ReferenceClient` is for programs and tests;
`client` is the same as a subject of a run.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any

import trio

from chaos.recorder import report
from chaos.reference.backoff import Backoff
from chaos.reference.connection import Connection, ConnectionLost
from chaos.reference.handshake import HandshakeRefused, OpenStream, connect, open_tcp, parse_url
from chaos.reference.options import ClientOptions
from chaos.reference.outcome import Ended, Refused, reaction_to
from chaos.reference.states import State, StateMachine
from chaos.reference.traffic import Traffic
from chaos.reference.workload import Session
from chaos.subject import Command, subject
from chaos.vocabulary.policies import Reaction


class ReferenceClient:
    """A client of one URL. Nothing happens before `run`.

    Args:
        open_stream: gives the stream of each attempt, TLS handshake done; by default TCP to the URL's host.
        on_message: gets every frame that is not the workload's. It is called from the loop that reads, so it must
            return quickly: hand the message over where handling it takes time.
        on_resume: awaited after each opening but the first, before any message is sent: subscribe again here.
        on_auth: awaited when the server refuses the credentials; change `headers` here. One retry follows.
        session: counters and replay buffer, where they are to outlive this object.
    """

    def __init__(
        self,
        url: str,
        options: ClientOptions | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        open_stream: OpenStream | None = None,
        on_message: Callable[[str | bytes], None] | None = None,
        on_resume: Callable[[], Awaitable[None]] | None = None,
        on_auth: Callable[[], Awaitable[None]] | None = None,
        session: Session | None = None,
    ) -> None:
        self.target = parse_url(url)
        self.options = options or ClientOptions()
        self.open_stream = open_stream or partial(open_tcp, self.target, ssl_context)
        self.on_message, self.on_resume, self.on_auth = on_message, on_resume, on_auth
        self.headers = dict(self.options.headers)
        self.states = StateMachine(changed=lambda state: report("state", state=state.value))
        number, seed = self.options.number, self.options.seed
        self.backoff = Backoff(self.options.backoff, Random(f"{seed}/client/{number}"))
        self.session = session or Session(
            sender=f"client-{number}",
            resume_out=self.options.resumes("client"),
            resume_in=self.options.resumes("server"),
        )
        self.attempts = 0
        self.openings = 0
        self.traffic: Traffic | None = None
        self.opened = trio.Event()
        self._kept: list[str | bytes] = []
        self._stable = False
        self._refreshed = False
        self._leaving = False
        self._repeated: tuple[object, int] = (None, 0)
        self._online = trio.Event()
        self._online.set()
        self._running: trio.CancelScope | None = None
        self._resting: trio.CancelScope | None = None

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self.states.state

    async def run(self) -> str:
        """Connect, and reconnect as the policy says; return the reason why there will be no further attempt.

        The first attempt starts at once. Cancelling cuts the connection without a Close; `close` is the polite
        way. What a hook raises comes out of here, in an exception group.
        """
        with trio.CancelScope() as self._running:
            while not self._leaving:
                if not self._online.is_set():  # else it would cost a turn of the event loop
                    await self._online.wait()
                outcome = await self._attempt()
                final = await self._decide(outcome)
                if final is not None:
                    return final
        return "closed by the application"

    async def send(self, message: str | bytes) -> None:
        """Send a message of the application's own. Raises ConnectionLost unless the connection is open.

        A send that was waiting when the connection died raises too, or, with `pending: resend`, returns: it is
        then sent first on the next connection, after `on_resume`.
        """
        traffic = self.traffic
        if traffic is None:
            raise ConnectionLost("expected an open connection")
        try:
            await traffic.connection.send(message)
        except ConnectionLost:
            if self.options.pending == "cancel":
                raise
            self._kept.append(message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close for good: `run` returns once the closing handshake is done, or its time is over."""
        self._leaving = True
        if self.traffic is not None:
            self.traffic.connection.close_soon(code, reason)
        elif self._running is not None and self.state is not State.CLOSING:
            self._running.cancel()

    def offline(self) -> None:
        """The platform says that there is no network: keep the connection, but make no attempts."""
        if self._online.is_set():
            self._online = trio.Event()

    def online(self) -> None:
        """The platform says that there is a network: try at once, except before a server's Retry-After."""
        self._online.set()
        if self._resting is not None:
            self._resting.cancel()

    async def _attempt(self) -> Ended | Refused:
        self.attempts += 1
        self._stable = False
        self.states.move(State.CONNECTING)
        try:
            async with connect(
                self.open_stream,
                self.target,
                headers=self.headers,
                subprotocols=self.options.subprotocols,
                connect_timeout_s=self.options.connect_timeout_s,
                close_timeout_s=self.options.close_timeout_s,
            ) as connection:
                dead = await self._live(connection)
            return (
                Ended(code=1006, reason="heartbeat timeout", by="us") if dead else connection.ended
            )
        except HandshakeRefused as error:
            return error.refused
        finally:
            if self.state is not State.CLOSED:
                self.states.move(State.CLOSED)

    async def _live(self, connection: Connection) -> bool:
        """Use the connection until it ends; return whether it was the heartbeat that ended it."""
        opened_s = trio.current_time()
        traffic = Traffic(
            connection=connection,
            session=self.session,
            options=self.options,
            lines=self.options.lines_of("client"),
            keep=self.options.pending == "resend" and not self.session.resume_out,
            before=self._before_sending if self.on_resume is not None or self._kept else None,
            on_message=self.on_message,
        )
        self.traffic = traffic
        self.openings += 1
        self.states.move(State.OPEN)
        self.opened.set()
        try:
            await traffic.converse()
        finally:
            self.traffic = None
            self.opened = trio.Event()
            # a path that was dead from the start was open for long, but never stable
            until_s = traffic.heard_s if traffic.dead else trio.current_time()
            self._stable = until_s - opened_s >= self.options.stable_after_s
        # with a dead peer there is no closing handshake to wait for
        closing = connection.tap.usable and not traffic.dead
        self.states.move(State.CLOSING if closing else State.CLOSED)
        return traffic.dead

    async def _before_sending(self) -> None:
        if self.openings > 1 and self.on_resume is not None:
            await self.on_resume()
        while self._kept and self.traffic is not None:
            await self.traffic.connection.send(self._kept[0])
            del self._kept[0]

    async def _decide(self, outcome: Ended | Refused) -> str | None:
        """Pause as the policy says and return None, or return why there is nothing to wait for."""
        if self._leaving:
            return "closed by the application"
        if self._stable:
            self.backoff.reset()
            self._refreshed = False
        else:
            self.backoff.failed()
        reaction = reaction_to(outcome, self.options.policy, self._times(outcome))
        if reaction is Reaction.AUTH:
            reaction = await self._refresh()
        if reaction is Reaction.NEVER:
            return f"{outcome}; the policy {self.options.policy.name} says never"
        if self.backoff.exhausted:
            return f"{outcome}; gave up after {self.backoff.failures} failed attempts in a row"
        retry_after_s = outcome.retry_after_s if isinstance(outcome, Refused) else None
        delay_s = self.backoff.delay_s(reaction, retry_after_s)
        report("note", text=f"{outcome}; {reaction.value}: next attempt in {delay_s:.3f} s")
        await self._pause(delay_s, retry_after_s or 0.0)
        return None

    def _times(self, outcome: Ended | Refused) -> int:
        """Count this outcome; return how often in a row this kind of refusal has now been met."""
        kind = (outcome.kind, outcome.status) if isinstance(outcome, Refused) else None
        before, times = self._repeated
        self._repeated = (kind, times + 1 if kind == before else 1)
        return self._repeated[1]

    async def _refresh(self) -> Reaction:
        """Get new credentials, once; refused again before a stable connection, they will not get better."""
        if self._refreshed:
            return Reaction.NEVER
        self._refreshed = True
        if self.on_auth is not None:
            await self.on_auth()
        return Reaction.BACKOFF

    async def _pause(self, delay_s: float, floor_s: float) -> None:
        await trio.sleep(floor_s)
        with trio.CancelScope() as self._resting:
            await trio.sleep(delay_s - floor_s)
        self._resting = None

    async def obey(
        self, commands: trio.MemoryReceiveChannel[Command], nursery: trio.Nursery
    ) -> None:
        """Carry out the timeline's actions until the channel is closed; what takes time runs in `nursery`."""
        async for command in commands:
            parameters = command.parameters
            match command.action, command.ends:
                case "close", False:
                    self.close(parameters.get("code", 1000), parameters.get("reason", ""))
                case "offline", False:
                    self.offline()
                case "offline", True:
                    self.online()
                case "send", False if self.traffic is not None:
                    nursery.start_soon(self.traffic.send_asked, parameters)
                case "send", False:
                    report("note", text="nothing sent: not open")


@subject(sends=True, actions=("close", "offline", "send"))
async def client(url: str, **options: Any) -> None:
    """Run the reference client as a subject, until cancelled.

    Options are those of `ClientOptions` as plain values, and `commands` (not read where `actions` says that none will
    come), `ssl_context`, `sessions`: a dict in which its counters and replay buffer outlive it. After a final refusal
    it notes the reason and stays, with nothing open; with `exit_on_final` it returns.
    """
    sessions: dict[int, Session] = options.get("sessions", {})
    number = int(options.get("number", 1))
    reference = ReferenceClient(
        url,
        ClientOptions.parse(options),
        ssl_context=options.get("ssl_context"),
        session=sessions.get(number),
    )
    sessions[number] = reference.session
    stays = not options.get("exit_on_final", False)
    if options.get("commands") is None or not options.get("actions", True):
        await _run_to_end(reference, stays=stays)
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reference.obey, options["commands"], nursery)
        await _run_to_end(reference, stays=stays)
        nursery.cancel_scope.cancel()


async def _run_to_end(reference: ReferenceClient, *, stays: bool) -> None:
    reason = await reference.run()
    report("note", text=f"final: {reason}")
    if stays:
        await trio.sleep_forever()
