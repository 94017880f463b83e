"""Hosts callable subjects: starts, stops, kills and restarts them, and tells them what the timeline asks.

Child processes and servers at a URL will have hosts of their own with the same verbs.
"""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from chaos.recorder import Recorder, Reporter, as_json, current_reporter
from chaos.scenario.model import Scenario, Subject
from chaos.subject import Command
from chaos.subjects.ledger import Ledger
from chaos.subjects.load import accepted_options
from chaos.trace import Side

# A subject is told of an action at once or not at all: a queue this long means that it does not listen.
COMMANDS_MAX = 64


class _Listens(trio.TaskStatus[Any]):
    """Hears on which port a server listens; one that is started again may say it again."""

    def __init__(self) -> None:
        self.said = False
        self.port: Any = None
        self.known = trio.Event()  # or never will be

    def started(self, value: Any = None) -> None:
        """Take the port."""
        self.said, self.port = True, value
        self.known.set()


@dataclass(slots=True, kw_only=True)
class Host:
    """One callable subject: the server, or one client. It runs in the task of `run`."""

    side: Side
    client: int | None
    function: Callable[..., Awaitable[Any]]
    recorder: Recorder
    ledger: Ledger
    options: dict[str, Any]
    _scope: trio.CancelScope | None = field(default=None, init=False)  # while it runs
    _again: trio.Event | None = field(default=None, init=False)
    _downs: int = field(default=0, init=False)  # crashes in force
    _stopped: bool = field(default=False, init=False)
    _idle: trio.Event = field(default_factory=trio.Event, init=False)  # set once it has stopped
    _listens: _Listens = field(default_factory=_Listens, init=False)
    _commands: trio.MemorySendChannel[Command] | None = field(default=None, init=False)

    async def run(self, *arguments: Any) -> None:
        """Run the subject, and again after each restart, until it is cancelled or ends by itself.

        Its positional arguments are the URL, or host and port. A server that is started again is given the port that
        it said it had.
        """
        try:
            while not self._stopped:
                await self._run_once(arguments)
                again = self._again  # set by `crash` meanwhile
                if again is None:
                    return
                while again is not None:
                    await again.wait()
                    # it may have been killed once more since this was set
                    again = self._again if self._again is not again else None
                if self._listens.said:
                    arguments = (arguments[0], self._listens.port)
        finally:
            self._listens.known.set()

    async def wait_listening(self) -> Any:
        """Return what a server gives to its `task_status.started`. Raises RuntimeError if it ends without a word."""
        await self._listens.known.wait()
        if not self._listens.said:
            raise RuntimeError("the server ended without saying on which port it listens")
        return self._listens.port

    async def run_later(self, delay_s: float, *arguments: Any) -> None:
        """Run the subject after a while; see `run`."""
        if delay_s:
            await trio.sleep(delay_s)
        await self.run(*arguments)

    async def _run_once(self, arguments: tuple[Any, ...]) -> None:
        self._again = None
        commands, receiver = trio.open_memory_channel[Command](COMMANDS_MAX)
        self._commands = commands
        options = accepted_options(self.function, self.options | {"commands": receiver})
        if self.side == "server":
            options["task_status"] = self._listens
        token = current_reporter.set(Reporter(self.recorder, self.side, self.client))
        try:
            with commands, receiver, trio.CancelScope() as self._scope:
                self._record("subject_start")
                await self._guarded(arguments, options)
        except RuntimeError as error:
            # the scope's own: the subject has left another open inside it, and trio has put that right by now
            self.recorder.record(
                "warning", text=as_json(f"{self.side}: {error}".partition("\n")[0])
            )
        finally:
            current_reporter.reset(token)
            self._scope = self._commands = None
            self._idle.set()

    async def _guarded(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Run the subject; what it raises ends it, never the run."""
        try:
            await self.function(*arguments, **options)
        except trio.Cancelled:
            raise
        except BaseExceptionGroup as group:
            # killed while several of its tasks were busy: some were cancelled, some found their socket closed
            rest, errors = group.split(trio.Cancelled)
            try:
                if errors is not None:
                    self._record("subject_exit", error=describe_error(errors))
                if rest is not None:
                    raise rest from None
            finally:
                # their tracebacks lead here: a cycle, in which all that the subject had would wait for the collector
                del errors, rest
        except BaseException as error:
            # what stops a program stops the subject as well, and not the run
            self._record("subject_exit", error=describe_error(error))
        else:
            self._record("subject_exit", error=None)

    def command(self, command: Command) -> None:
        """Tell the subject of a timeline action."""
        if self._commands is None:
            return
        try:
            self._commands.send_nowait(command)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.recorder.record(
                "warning", text=f"the {self.side} does not listen to {command.action!r}"
            )

    def crash(self) -> None:
        """Kill the subject: its sockets are closed first, as by the kernel, so that it can say nothing more."""
        self._downs += 1
        if self._again is None or self._again.is_set():
            self._again = trio.Event()
        self.ledger.kill(self.side, self.client)
        if self._scope is not None:
            self._scope.cancel()

    def stop(self) -> None:
        """Cancel the subject for good; its own clean-up runs."""
        self._stopped = True
        if self._scope is None:
            self._idle.set()
        else:
            self._idle = trio.Event()
            self._scope.cancel()

    async def wait_stopped(self) -> None:
        """Wait until the subject is gone that `stop` was called for."""
        await self._idle.wait()

    def start_again(self) -> None:
        """Take back one crash; the subject starts once all are."""
        self._downs = max(0, self._downs - 1)
        if self._again is not None and not self._downs:
            self._again.set()

    @property
    def is_running(self) -> bool:
        """Whether the subject has started and not ended, though it may have been cancelled."""
        return self._scope is not None

    def _record(self, kind: str, **fields: Any) -> None:
        self.recorder.record(kind, client=self.client, subject=self.side, **fields)


def describe_error(error: BaseException) -> str:
    """Return what an error says, and where it was raised, in one line."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    try:
        text = str(error)
    except Exception:  # it is the subject's own code that says it
        text = "(an error that cannot say what it is)"
    return str(as_json(f"{type(error).__name__}: {text}{place}"))


def client_options(
    scenario: Scenario, number: int, seed: int, ssl_context: ssl.SSLContext | None
) -> dict[str, Any]:
    """Return the options of a client, as plain values."""
    client = scenario.client
    return {
        "number": number,
        "backoff": _plain(client.backoff),
        "connect_timeout_s": client.connect_timeout_s,
        "stable_after_s": client.stable_after_s,
        "headers": dict(client.headers),
        "subprotocols": client.subprotocols,
        "policy": client.policy,
        "pending": client.pending,
        **_options(scenario, client, seed, ssl_context),
    }


def server_options(
    scenario: Scenario, seed: int, ssl_context: ssl.SSLContext | None
) -> dict[str, Any]:
    """Return the options of the server, as plain values."""
    return _options(scenario, scenario.server, seed, ssl_context)


def _options(
    scenario: Scenario, subject: Subject, seed: int, ssl_context: ssl.SSLContext | None
) -> dict[str, Any]:
    heartbeat = subject.heartbeat
    return {
        "seed": seed,
        "heartbeat": _plain(heartbeat),
        "misses": subject.misses,
        "close_timeout_s": subject.close_timeout_s,
        "workload": [_plain(row) for row in scenario.workload],
        "ssl_context": ssl_context,
        # what a subject would keep on disk: message counters and replay buffers outlive a restart
        "sessions": {},
        **subject.options,
    }


def _plain(settings: Any) -> dict[str, Any] | None:
    """Return settings by their names in code, durations in seconds."""
    if settings is None:
        return None
    return {name: getattr(settings, name) for name in type(settings).model_fields}
