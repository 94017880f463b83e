"""Actions: what a peer does by itself, at a time that the scenario gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from chaos.vocabulary.base import Duration, Parameters

Peer = Literal["client", "server"]


class Action(Parameters):
    """Something a peer does.

    `instant` actions have no window. `peers` may do it. `by_runner` means that the run does it to any callable
    subject (start, stop, kill); the others need a subject that declares the action. `needs_process` actions
    work on a child process only.
    """

    instant: ClassVar[bool] = True
    peers: ClassVar[tuple[Peer, ...]] = ("client", "server")
    by_runner: ClassVar[bool] = False
    needs_process: ClassVar[bool] = False


class Close(Action):
    """Close every connection of this peer with a close code."""

    word: ClassVar[str] = "close"
    code: int = Field(1000, ge=1000, le=4999, strict=True, description="close code (RFC 6455 §7.4)")
    reason: str = Field("", max_length=123, description="close reason")


class Drain(Action):
    """Stop taking connections, close each with `code`, wait `grace`, cut the rest; in its window stay down."""

    word: ClassVar[str] = "drain"
    instant: ClassVar[bool] = False
    peers: ClassVar[tuple[Peer, ...]] = ("server",)
    code: int = Field(1001, ge=1000, le=4999, strict=True, description="close code, 1001 or 1012")
    grace_s: Duration = Field(5.0, alias="grace", description="wait for Close echoes")


class Reject(Action):
    """In its window refuse new connections: with an HTTP `status`, or accept and close with `code`."""

    word: ClassVar[str] = "reject"
    instant: ClassVar[bool] = False
    peers: ClassVar[tuple[Peer, ...]] = ("server",)
    code: int | None = Field(
        None, ge=1000, le=4999, strict=True, description="accept, then close with this code"
    )
    status: int | None = Field(None, ge=300, le=599, strict=True, description="HTTP status")
    retry_after_s: Duration | None = Field(
        None, alias="retry_after", description="sent as Retry-After with the status"
    )


class Crash(Action):
    """The peer dies at once: its tasks are cancelled, its sockets closed by the kernel; it stays down."""

    word: ClassVar[str] = "crash"
    by_runner: ClassVar[bool] = True


class Restart(Action):
    """The peer dies at once, and starts again on the same port at the end of the window."""

    word: ClassVar[str] = "restart"
    instant: ClassVar[bool] = False
    by_runner: ClassVar[bool] = True


class Freeze(Action):
    """The peer's process stops running (SIGSTOP) for the window; its kernel still acknowledges."""

    word: ClassVar[str] = "freeze"
    instant: ClassVar[bool] = False
    needs_process: ClassVar[bool] = True


class Offline(Action):
    """The platform tells the client that it is offline; at the end of the window, online again."""

    word: ClassVar[str] = "offline"
    instant: ClassVar[bool] = False
    peers: ClassVar[tuple[Peer, ...]] = ("client",)


class Send(Action):
    """The peer sends one message of `size` bytes: an application's burst."""

    word: ClassVar[str] = "send"
    size: int = Field(64, ge=64, le=16_777_216, strict=True, description="bytes")
    binary: bool = Field(False, strict=True, description="in a binary frame")


ACTIONS: Mapping[str, type[Action]] = {
    kind.word: kind for kind in (Close, Drain, Reject, Crash, Restart, Freeze, Offline, Send)
}
