"""A link by itself, in front of any server: for tests of one's own, with faults that come and go in code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any, Literal

import trio
from pydantic import ValidationError

from chaos.errors import UsageError
from chaos.faults.pipe import Stage
from chaos.link.link import ClientLink
from chaos.link.transcript import Journal
from chaos.networks.base import dialer
from chaos.networks.embedded import BOTH_SIDES
from chaos.recorder import Recorder
from chaos.scenario.model import Entry
from chaos.scenario.plan import STREAMS
from chaos.trace import Event, Side
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import Streams, Word


class Link:
    """A link in front of a server: what connects to it reaches the server, through the faults that are in force.

        async with trio.open_nursery() as nursery:
            link = chaos.Link("127.0.0.1", 8765)
            port = await nursery.start(link.serve)
            ...  # connect to 127.0.0.1:port instead
            async with link.fault("blackhole"):
                ...  # the client has to notice
            nursery.cancel_scope.cancel()

    It works on the machine's sockets, and inside `chaos.simulate` on simulated ones.
    """

    def __init__(self, host: str, port: int, *, seed: int = 1) -> None:
        """Make a link to the server at an IPv4 address; nothing listens yet. Random choices derive from the seed."""
        self._server = host, port
        self._seed = seed
        self._link: ClientLink | None = None
        self._entries: list[Entry] = []
        self._recorder = Recorder(clock=trio.current_time)

    @property
    def events(self) -> list[Event]:
        """What the link has seen: the events of a trace, in order, in seconds since its start."""
        return list(self._recorder.events)

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on a free port of the loopback interface, and serve until cancelled.

        `task_status.started` is given the port. Cancelling is safe: every connection and socket is closed then.

        Raises:
            NetworkUnavailable: no port is to be had.
        """
        self._recorder.start()
        self._link = ClientLink(
            seed=self._seed,
            journal=Journal(
                recorder=self._recorder, client=1, sides=BOTH_SIDES, timeline=self._entries
            ),
            dial=dialer(*self._server, None),
        )
        async with trio.open_nursery() as nursery:
            task_status.started(await self._link.open(nursery))

    async def add(
        self,
        word: str,
        *,
        stream: Streams | None = None,
        toxicity: float = 1.0,
        **parameters: Any,
    ) -> int:
        """Put a toxic or a fault in force, for live and for later connections; return the number that removes it.

        Args:
            word: a toxic or a fault of streams, such as `latency` or `blackhole` (`trio-chaos list faults`).
            stream: `downstream`, `upstream` or `both`; toxics default to `downstream`, faults to `both`.
            toxicity: the share of connections that it applies to, from 0 to 1.
            parameters: as in scenario files: whole numbers for toxics, durations such as `"250ms"` for faults.

        Raises:
            UsageError: there is no such word or parameter, or the link is not open.
        """
        settings = _settings(word, parameters)
        way = stream or ("downstream" if settings.kind == "toxic" else "both")
        number = len(self._entries)
        entry = {"kind": settings.kind, "word": word, "stream": way, "parameters": parameters}
        self._entries.append(Entry.model_validate(entry))
        stage = Stage(key=number, settings=settings, toxicity=toxicity)
        await self._opened().add(stage, [row for row in STREAMS if way in (row, "both")])
        return number

    def remove(self, number: int) -> None:
        """End what `add` has put in force. Removing it twice is no mistake."""
        self._opened().remove(number)

    @asynccontextmanager
    async def fault(self, word: str, **more: Any) -> AsyncIterator[None]:
        """Keep a toxic or a fault in force inside an `async with`; see `add`."""
        number = await self.add(word, **more)
        try:
            yield
        finally:
            self.remove(number)

    def reset(self, side: Side | Literal["both"] = "both") -> None:
        """Send an RST on every live connection now, to one side or to both."""
        self._entries.append(Entry.model_validate({"kind": "fault", "word": "reset"}))
        self._opened().reset(len(self._entries) - 1, side)

    def _opened(self) -> ClientLink:
        if self._link is None:
            raise UsageError(
                "the link is not open: expected `await nursery.start(link.serve)` first"
            )
        return self._link


def _settings(word: str, parameters: dict[str, Any]) -> Word:
    words = {
        name: row
        for name, row in {**TOXICS, **FAULTS}.items()
        if not row.on_path and not row.instant
    }
    if word not in words:
        near = get_close_matches(word, words, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(words)}"
        raise UsageError(f"a link has no toxic or fault {word!r}; {hint}")
    try:
        return words[word].model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or word
        raise UsageError(f"{word}: {where}: {first['msg']}, got {first['input']!r}") from None
