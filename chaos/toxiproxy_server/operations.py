"""What the API can do: each operation with its handler and all that the OpenAPI description says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.toxiproxy_server.handling import JSON, Handler

EVENT_STREAM = "text/event-stream"
HTML = "text/html"
TEXT = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route.

    `takes` and `gives` name schemas of `schemas.components`; without them there is no body. `refuses` has the
    statuses of its errors beside those that every operation has.
    """

    handler: Handler
    does: str
    status: int = 200
    gives: str | None = None
    media: str = JSON
    takes: str | None = None
    refuses: tuple[int, ...] = ()
    refused_as_json: bool = False
    deprecated: bool = False
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # parameters and their words


Table = Mapping[str, Mapping[str, Operation]]  # path → method → operation
