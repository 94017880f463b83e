"""Actions: what a peer does by itself, at a time that the scenario gives."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from chaos.vocabulary.base import Duration
from chaos.vocabulary.faults import retry_s
from chaos.vocabulary.word import Draw, Peer, Word


class Action(Word):
    """Something a peer does.

    `peers` may do it. `by_runner` means that the run does it to any callable
    subject (start, stop, kill); the others need a subject that declares the action. `needs_process` actions
    work on a child process only.
    """

    kind = "action"
    instant = deadly = True
    peers: ClassVar[tuple[Peer, ...]] = ("client", "server")
    by_runner: ClassVar[bool] = False
    needs_process: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    def shared(self, by: Peer | None) -> str | None:
        return "the server as a whole" if self.whole and by == "server" else None


class Close(Action):
    """Close every connection of this peer with a close code."""

    draws = (
        Draw(
            rank=10,
            by="server",
            strengths=tuple({"code": code} for code in (1001, 1012, 1011, 1013, 1000, 4200)),
        ),
    )
    code: int = Field(1000, ge=1000, le=4999, strict=True, description="close code (RFC 6455 §7.4)")
    reason: str = Field("", max_length=123, description="close reason")


class Drain(Action):
    """Stop taking connections, close each with `code`, wait `grace`, cut the rest; in its window stay down."""

    instant = False
    peers = ("server",)
    exclusive = whole = True
    draws = (
        Draw(
            rank=220,
            by="server",
            strengths=(
                {"code": 1001, "grace": "1s"},
                {"code": 1012, "grace": "1s"},
                {"code": 1012, "grace": "5s"},
            ),
        ),
    )
    code: int = Field(1001, ge=1000, le=4999, strict=True, description="close code, 1001 or 1012")
    grace_s: Duration = Field(5.0, alias="grace", description="wait for Close echoes")

    def added_s(self, window_s: float) -> float:
        return self.grace_s


class Reject(Action):
    """In its window refuse new connections: with an HTTP `status`, or accept and close with `code`."""

    instant = False
    peers = ("server",)
    exclusive = True
    draws = (
        Draw(
            rank=230,
            by="server",
            strengths=({"code": 1013}, {"status": 503}, {"status": 503, "retry_after": "3s"}),
            greets=True,
        ),
    )
    code: int | None = Field(
        None, ge=1000, le=4999, strict=True, description="accept, then close with this code"
    )
    status: int | None = Field(None, ge=300, le=599, strict=True, description="HTTP status")
    retry_after_s: Duration | None = Field(
        None, alias="retry_after", description="sent as Retry-After with the status"
    )

    def added_s(self, window_s: float) -> float:
        return retry_s(self.retry_after_s)


class Crash(Action):
    """The peer dies at once: its tasks are cancelled, its sockets closed by the kernel; it stays down."""

    by_runner = whole = True


class Restart(Action):
    """The peer dies at once, and starts again on the same port at the end of the window."""

    instant = False
    by_runner = window_needs_for = exclusive = whole = True
    draws = (
        Draw(rank=210, by="server"),
        Draw(rank=250, by="client", weight=2),
    )

    def starts_anew(self, by: Peer | None) -> Peer | None:
        return by


class Freeze(Action):
    """The peer's process stops running (SIGSTOP) for the window; its kernel still acknowledges."""

    instant = False
    needs_process = exclusive = silent = whole = True


class Offline(Action):
    """The platform tells the client that it is offline; at the end of the window, online again."""

    instant = False
    peers = ("client",)
    exclusive = True
    draws = (Draw(rank=240, by="client"),)


_BURSTS = ({"size": 1024}, {"size": 65536}, {"size": 1_048_576})


class Send(Action):
    """The peer sends one message of `size` bytes: an application's burst."""

    deadly = False
    draws = (
        Draw(rank=190, by="server", strengths=_BURSTS, chokes=True, weight=2),
        Draw(rank=200, by="client", strengths=_BURSTS, chokes=True, weight=2),
    )
    size: int = Field(64, ge=64, le=16_777_216, strict=True, description="bytes")
    binary: bool = Field(False, strict=True, description="in a binary frame")


ACTIONS: dict[str, type[Action]] = {
    kind.word: kind for kind in (Close, Drain, Reject, Crash, Restart, Freeze, Offline, Send)
}
