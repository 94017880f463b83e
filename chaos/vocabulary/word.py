"""What is true of a word of the timeline: of every toxic, fault and action.

A word is one class. Its fields are its parameters; its class variables and methods say everything else that the
rest of the project must know of it: whether it has a window, what it hides, delays and ends, which networks apply
it, and how a hunt draws it. Nothing else keeps a list of words. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from chaos.vocabulary.base import Parameters

Kind = Literal["toxic", "fault", "action"]
Peer = Literal["client", "server"]
Streams = Literal["upstream", "downstream", "both"]
Support = Literal["exact", "approximate", "unsupported"]
Network = Literal["embedded", "toxiproxy", "simulated"]

NETWORKS: tuple[Network, ...] = ("embedded", "toxiproxy", "simulated")
EXACT: tuple[Support, str] = ("exact", "")
How = tuple[Support, str]
EVERYWHERE: Mapping[str, How] = dict.fromkeys(NETWORKS, EXACT)
_NO_PATHS: How = ("unsupported", "acts below sockets: simulated TCP only")
# This is the support of faults below the link, and of a scenario's `paths`, which are no fault.
ON_PATHS: Mapping[str, How] = {"embedded": _NO_PATHS, "toxiproxy": _NO_PATHS, "simulated": EXACT}


def except_on(support: Mapping[str, How], **networks: How) -> Mapping[str, How]:
    """Return how well each network applies a word, with other values for some networks."""
    return {**support, **networks}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One way in which a hunt draws a word.

    `rank` is its place among all draws: what stands earlier says more about a bug than what stands later and does
    the same. `strengths` are its parameters and `streams` its streams, both from weak to strong. `by` is the peer
    that acts. `weight` is how often it is drawn. `silent`: only a heartbeat can notice what it does. `chokes`: it
    slows a path by an amount that depends on the traffic. `shared`: it can apply to a share of the connections
    (`toxicity`). `final`: a correct client may take it for a final refusal. `greets`: it meets connections that
    begin in its window, and no other.
    """

    rank: int
    strengths: tuple[Mapping[str, Any], ...] = field(default=({},))
    streams: tuple[str, ...] = ("both",)
    by: Peer | None = None
    silent: bool = False
    chokes: bool = False
    shared: bool = False
    final: bool = False
    greets: bool = False
    weight: int = 4


EACH_WAY = ("downstream", "upstream", "both")
EITHER_WAY = ("both", "downstream", "upstream")


class Word(Parameters):
    """A word of the timeline, with its parameters.

    Class variables, each true of the word whatever its parameters are:

    * `kind`: under which key scenarios write it;
    * `instant`: it acts at one moment and has no window; `window_needs_for`: it has one only where `for` is given;
    * `exclusive`: two windows of it on the same connections cannot both hold;
    * `silent`: no byte passes, in at least one direction, while it is in force;
    * `deadly`: it ends or dooms connections by itself;
    * `lasting`: a connection that met it stays harmed after its window;
    * `resent`: TCP sends again what it lost, at doubling intervals, also after its window;
    * `refuses`: it refuses new connections; `swallows`: a new connection falls into it before it is dialed on;
    * `shrinkable`: it does its work however short its window is; others need it for an inner timer, or to be met by
      an attempt;
    * `on_path`: it acts below the link, on simulated hosts and the packets between them;
    * `directed`: it takes a `stream`;
    * `served`: the drop-in Toxiproxy server offers it as a type of toxics;
    * `support`: how well each network applies it, and why not exactly;
    * `draws`: how hunts draw it; a word without any is never drawn.
    """

    kind: ClassVar[Kind]
    instant: ClassVar[bool] = False
    window_needs_for: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False
    silent: ClassVar[bool] = False
    deadly: ClassVar[bool] = False
    lasting: ClassVar[bool] = False
    resent: ClassVar[bool] = False
    refuses: ClassVar[bool] = False
    swallows: ClassVar[bool] = False
    shrinkable: ClassVar[bool] = False
    on_path: ClassVar[bool] = False
    directed: ClassVar[bool] = False
    served: ClassVar[bool] = False
    support: ClassVar[Mapping[str, How]] = EVERYWHERE
    draws: ClassVar[tuple[Draw, ...]] = ()

    @classmethod
    def has_window(cls, for_s: float | None) -> bool:
        """Whether it lasts for a time, given its `for`. Without one a window lasts to the end of the scenario."""
        return not cls.instant and not (cls.window_needs_for and for_s is None)

    def silences(self) -> bool:
        """Whether no byte passes, in at least one direction, while it is in force with these parameters."""
        return self.silent

    def round_trip_s(self, stream: Streams) -> float:
        """Return what it adds to a round trip at most, where it adds a known time."""
        return 0.0

    def answer_delay_s(self, stream: Streams) -> float:
        """Return by how much it may delay the answer to a ping, where that is a known time."""
        return self.round_trip_s(stream)

    def added_s(self, window_s: float) -> float:
        """Return for how long it may hold something back, beyond its window too, which is `window_s` long."""
        # TCP sends again at doubling intervals: the next time may be as far off as the loss was long
        return window_s + 1 if self.resent else 0.0

    def hides_client(self) -> bool:
        """Whether the link sees late, or never, what a client does."""
        return False

    def hides_server(self) -> bool:
        """Whether the link may never hear the server's answer to a dial."""
        return False

    def witnesses(self) -> tuple[Peer, ...]:
        """Return the peers that must notice it if it lasts, and that the link sees notice it."""
        return ()

    def starts_anew(self, by: Peer | None) -> Peer | None:
        """Return the peer that starts again from nothing after it, if one does; `by` is the entry's."""
        return None

    def shared(self, by: Peer | None) -> str | None:
        """Return on what all clients share it acts, if it does: then it cannot be limited to some of them."""
        return None
