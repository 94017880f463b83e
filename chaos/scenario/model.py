"""Models the scenario file as frozen data. Its keys in YAML are the aliases; names here carry units.

What a single value may be stands here and in the vocabulary; what only holds between values (an expectation that
names an entry, a fault after the end) is checked in `rules.py`; where a mistake stands in the file is found in
`load.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from chaos.scenario.paths import Paths
from chaos.vocabulary.actions import Action
from chaos.vocabulary.base import Duration, Settings
from chaos.vocabulary.faults import Fault
from chaos.vocabulary.toxics import Toxic
from chaos.vocabulary.word import Kind, Network, Peer
from chaos.vocabulary.words import WORDS

# the words of `chaos.vocabulary.sometimes.STATES`, as a type; a test keeps the two alike
StateWord = Literal[
    "reconnected",
    "detected_by_client",
    "detected_by_server",
    "attempt_during_outage",
    "reconnected_during_drain",
    "two_faults_at_once",
    "reset_in_handshake",
    "refused",
    "died_before_first_message",
    "message_replayed",
    "backoff_at_cap",
    "closed_while_closing",
]

DURATION_S_MAX = 30 * 86_400.0
CLIENTS_MAX = 5_000
SECRET_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"}
)
REDACTED = "REDACTED"


class Heartbeat(Settings):
    """Ping `interval` after the last pong or miss, wait `timeout` for the pong."""

    interval_s: Duration = Field(
        alias="interval", description="from the last pong to the next ping"
    )
    timeout_s: Duration = Field(alias="timeout", description="wait for the pong")


class BackoffPlan(Settings):
    """The reconnection schedule of a client."""

    initial_s: Duration = Field(1.0, alias="initial", description="cap of the first delay")
    factor: float = Field(2.0, ge=1, le=10, description="growth per failed attempt")
    max_s: Duration = Field(30.0, alias="max", description="the cap never exceeds this")
    jitter: Literal["none", "full", "equal", "decorrelated"] = Field(
        "full", description="how a delay is drawn below its cap"
    )
    first_delay: Literal["random", "none"] = Field(
        "random",
        description="the first delay after a loss: random in [0, initial] (RFC 6455 §7.2.3), or none",
    )
    attempts_max: int | None = Field(
        None,
        ge=1,
        strict=True,
        description="failed attempts in a row before giving up; unset: never",
    )


class Storm(Settings):
    """How many connection attempts of one client are a storm: no run goes on under them."""

    per_outage_max: int = Field(
        1_000,
        ge=1,
        le=1_000_000,
        strict=True,
        description="attempts of a client without one that opens",
    )
    per_second_max: int = Field(
        200, ge=1, le=1_000_000, strict=True, description="attempts of a client in any one second"
    )


class Subject(Settings):
    """Keys that both subjects have. Exactly one of `use`, `command` and, for servers, `url` may be given."""

    use: str | None = Field(
        None, description="`reference`, `my.module:name` or `path/to/file.py:name`"
    )
    command: tuple[str, ...] | None = Field(
        None, min_length=1, description="a program and its arguments; {url} or {port} is filled in"
    )
    heartbeat: Heartbeat | None = Field(None, description="without it the peer has none")
    misses: int = Field(1, ge=1, le=100, strict=True, description="missed pongs until dead")
    close_timeout_s: Duration = Field(
        2.0, alias="close_timeout", description="wait for the closing handshake of a live peer"
    )
    options: Mapping[str, Any] = Field(
        default_factory=dict,
        description="further options, passed to a callable subject as they are",
    )


class Server(Subject):
    """Who accepts connections."""

    url: str | None = Field(None, description="a server that is already running: ws://… or wss://…")
    tls: bool = Field(False, strict=True, description="wss with a certificate made for the run")
    keep_host: bool = Field(
        False, strict=True, description="do not rewrite Host and Origin to those of `url`"
    )


class Client(Subject):
    """Who connects, and how it comes back."""

    count: int = Field(1, ge=1, le=CLIENTS_MAX, strict=True, description="how many clients")
    start_spread_s: Duration = Field(
        0.0, alias="start_spread", description="clients start evenly over this time"
    )
    backoff: BackoffPlan = Field(
        default_factory=lambda: BackoffPlan.model_validate({}), description="reconnection"
    )
    connect_timeout_s: Duration = Field(
        10.0, alias="connect_timeout", description="from SYN to 101"
    )
    stable_after_s: Duration = Field(
        5.0, alias="stable_after", description="a connection this old resets the backoff"
    )
    headers: Mapping[str, str] = Field(default_factory=dict, description="handshake headers")
    subprotocols: tuple[str, ...] = Field((), description="offered subprotocols")
    policy: str | Mapping[str, Any] = Field(
        "rfc",
        description="close-code policy: a name from `trio-chaos list policies`, or a mapping of close "
        "codes to reactions that extends `rfc`",
    )
    storm: Storm = Field(
        default_factory=lambda: Storm.model_validate({}),
        description="so many attempts end the run, and fail it",
    )
    pending: Literal["cancel", "resend"] = Field(
        "cancel", description="what becomes of sends that were waiting when the connection died"
    )


class Workload(Settings):
    """Messages that one side sends all the time."""

    sender: Peer = Field(alias="from", description="who sends")
    every_s: Duration = Field(alias="every", description="one message per")
    size: int = Field(64, ge=64, le=1_048_576, strict=True, description="bytes of each message")
    binary: bool = Field(False, strict=True, description="in binary frames")
    delivery: Literal["at_most_once", "resume"] = Field(
        "at_most_once", description="resume: the reference peers acknowledge and replay"
    )
    id_at: str | None = Field(
        None,
        alias="id",
        description="where the number of a message is: a JSON pointer such as `/data/id`, or a regular expression "
        "with one group; unset: `id` at the top of its JSON",
    )


class Trigger(Settings):
    """Start an entry at an event instead of a time."""

    event: Literal["open", "message", "ping", "attempt"] = Field(description="what is counted")
    number: int = Field(1, ge=1, strict=True, description="the nth of them, over all clients")


class Entry(Settings):
    """One timeline entry, resolved: what (`kind`, `word`, `parameters`), when, and its name.

    In YAML the word stands as the value of `toxic:`, `fault:` or `action:`, a toxic's parameters nest under
    `attributes`, and those of faults and actions are flat keys.
    """

    kind: Kind
    word: str
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    at_s: Duration | None = Field(None, alias="at", description="time from time zero")
    on: Trigger | None = Field(None, description="or: at an event")
    then_s: Duration = Field(0.0, alias="then", description="this long after the event")
    for_s: Duration | None = Field(None, alias="for", description="length of the window")
    every_s: Duration | None = Field(None, alias="every", description="repeat after this time")
    times: int = Field(1, ge=1, le=10_000, strict=True, description="how often in all")
    name: str | None = Field(None, max_length=60, description="how expectations speak of it")
    stream: Literal["upstream", "downstream", "both"] = Field(
        "both", description="toxics default to downstream, faults to both"
    )
    toxicity: float = Field(1.0, ge=0, le=1, description="share of connections that it applies to")
    by: Peer | None = Field(None, description="who acts (actions)")
    clients: tuple[int, ...] | None = Field(
        None, description="only these clients, counted from 1; unset: all"
    )
    allow_unfelt: bool = Field(
        False, strict=True, description="a run in which this touched nothing may still pass"
    )

    @property
    def has_window(self) -> bool:
        """Whether it lasts for a time, rather than acting at one moment."""
        return WORDS[self.kind][self.word].has_window(self.for_s)

    def starts_s(self) -> list[float]:
        """Return when each of its occurrences starts, in seconds from time zero or from its event."""
        first_s, every_s = self.at_s or 0.0, self.every_s or 0.0
        return [first_s + turn * every_s for turn in range(self.times)]

    def settings(self) -> Toxic | Fault | Action:
        """Return its word with its parameters. Raises pydantic's ValidationError if they are wrong."""
        settings = WORDS[self.kind][self.word].model_validate(self.parameters)
        assert isinstance(settings, (Toxic, Fault, Action))
        return settings


class Expectation(Settings):
    """One expectation, resolved: a check and its parameters, or a check of the user's own.

    `line` is where it stands in its file (0 when it does not come from one), for annotations and reports.
    """

    check: str
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    use: str | None = Field(None, description="`my.module:check` when check is `use`")
    tolerance_s: Duration | None = Field(None, alias="tolerance")
    line: int = 0


class Scenario(Settings):
    """A scenario with its variables filled in: one cell of its matrix."""

    version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$", description="lower case, dashes")
    description: str = Field("", description="what it shows, in a sentence or two")
    tags: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    duration_s: Annotated[Duration, Field(alias="duration", gt=0, le=DURATION_S_MAX)]
    networks: tuple[Network, ...] = ("embedded", "toxiproxy", "simulated")
    server: Server = Field(default_factory=lambda: Server.model_validate({"use": "reference"}))
    client: Client = Field(default_factory=lambda: Client.model_validate({"use": "reference"}))
    paths: Paths | None = Field(
        None, description="what the network is like without any fault; simulated network only"
    )
    workload: tuple[Workload, ...] = ()
    timeline: tuple[Entry, ...] = ()
    expect: tuple[Expectation, ...] = ()
    sometimes: tuple[StateWord, ...] = Field(
        (), description="states that a sweep must reach at least once; see `trio-chaos list states`"
    )
    steady_state: Literal["default", "none"] = "default"
    settle_s: Duration = Field(5.0, alias="settle", description="time at the end for late messages")
    tolerance_s: Duration = Field(
        0.5, alias="tolerance", description="added to each `within` on real clocks"
    )
    cell: str = Field("", description="matrix cell such as `beat=5s`; empty without a matrix")
    path: str = Field("", description="the file it came from")

    @property
    def title(self) -> str:
        """Return the name with its matrix cell, such as `half-open[beat=5s]`."""
        return f"{self.name}[{self.cell}]" if self.cell else self.name

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data from which `from_json` gives an equal scenario."""
        return self.model_dump(mode="json", by_alias=True)

    def redacted(self) -> Scenario:
        """Return the scenario without the client's secrets: what may be written into traces and reports."""
        headers = {
            name: REDACTED if name.lower() in SECRET_HEADERS else value
            for name, value in self.client.headers.items()
        }
        if headers == self.client.headers:
            return self
        return self.model_copy(
            update={"client": self.client.model_copy(update={"headers": headers})}
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scenario:
        """Return the scenario that `to_json` gave."""
        return cls.model_validate(data)
