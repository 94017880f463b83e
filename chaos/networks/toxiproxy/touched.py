"""What a toxic in a real Toxiproxy has touched, concluded from what the links around it have seen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from chaos.scenario.model import Scenario
from chaos.trace import Event
from chaos.vocabulary.toxics import LimitData, ResetPeer, Slicer, SlowClose, Timeout, Toxic

_ENDS = ("fin", "rst")
# of a frame's header, at least (RFC 6455 section 5.2)
_HEADER_BYTES = 2


class Touches:
    """Says once per window and connection that an active toxic has acted."""

    KINDS: ClassVar[frozenset[str]] = frozenset(("frame", "request", "response", *_ENDS))

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._active: dict[int, Toxic] = {}
        self._reported: set[tuple[int, int | None, int | None]] = set()
        # how the peers themselves have ended each connection
        self._ended: dict[tuple[int | None, int | None], set[str]] = {}

    def begin(self, entry: int, toxic: Toxic) -> None:
        """Begin an entry's window: Toxiproxy has the toxic."""
        self._active[entry] = toxic
        self._reported = {key for key in self._reported if key[0] != entry}

    def end(self, entry: int) -> None:
        """End an entry's window."""
        self._active.pop(entry, None)

    def see(self, event: Event) -> Iterator[tuple[int, str]]:
        """Take an event, and yield each entry whose toxic has acted on it, and how."""
        if event.stream is None or event.kind not in self.KINDS:
            return
        ends = self._ended.setdefault((event.client, event.connection), set())
        if event.kind in _ENDS and event.is_sent:
            ends.add(event.kind)
        for entry, toxic in list(self._active.items()):
            key = (entry, event.client, event.connection)
            how = touched(toxic, event, ends)
            if how is not None and key not in self._reported and self._concerns(entry, event):
                self._reported.add(key)
                yield entry, how

    def _concerns(self, entry: int, event: Event) -> bool:
        row = self._scenario.timeline[entry]
        return row.stream in (event.stream, "both") and (
            row.clients is None or event.client in row.clients
        )


def touched(toxic: Toxic, event: Event, ended: set[str]) -> str | None:
    """Return how an event shows that an active toxic acted on its stream, or None.

    Args:
        toxic: the toxic, which is on the event's stream.
        event: what a link saw of this connection.
        ended: the ways in which the peers themselves have ended the connection: "fin", "rst".
    """
    if event.kind in _ENDS:
        return _touched_by_end(toxic, event, ended)
    if not event.is_sent or isinstance(toxic, (SlowClose, LimitData, ResetPeer)):
        return None
    if isinstance(toxic, Slicer) and not _slices(toxic, event):
        return None
    return f"a {event.kind} entered it"


def _touched_by_end(toxic: Toxic, event: Event, ended: set[str]) -> str | None:
    if event.is_sent:
        return "an end of stream entered it" if isinstance(toxic, SlowClose) else None
    cut = not ended and isinstance(toxic, (LimitData, ResetPeer, Timeout))
    # a peer's FIN comes out of reset_peer as an RST; anywhere else Toxiproxy makes FINs even of RSTs
    reset = isinstance(toxic, ResetPeer) and event.kind == "rst" and "rst" not in ended
    return "it ended the connection" if cut or reset else None


def _slices(toxic: Slicer, event: Event) -> bool:
    """Return whether a message is long enough to be cut in any case, or each piece of it is delayed."""
    size = event.get("bytes", 0) + _HEADER_BYTES if event.kind == "frame" else 64
    return toxic.delay > 0 or size > toxic.average_size + toxic.size_variation
