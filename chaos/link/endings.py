"""How a connection through a link ends: one table, and the state that it moves. Pure.

The bytes of each stream go from its source through its pipe to its target. An end of a stream is met twice: when it
is read from the source, and when it has left the pipe behind the bytes that were on their way. Faults cut
connections, targets are lost, and somebody outside may close or reset. For each of these endings, `TABLE` says what
the two sides are told, what becomes of the bytes that are on their way, and what the state of the stream is then.

For example, the server resets the connection: its stream is `downstream`, and `RST_READ` puts an RST into the pipe,
behind the bytes that are on their way to the client. Once it has left the pipe, `RST_PASSED` tells the client an RST
and discards what is on its way upstream. By the policy `toxiproxy` a FIN enters instead, and `FIN_PASSED` closes the
client's socket.

Everything that decides how a carried connection ends is in this file, and nothing in it knows a socket. (A connection
that could not be dialed is never carried: `link.py` tells its client an RST.) Who makes the link chooses the policy.
An ending that cannot happen in a state has no row: `Endings.move` raises IllegalEnding for it, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from chaos.faults.units import Cut, Fin, Rst, Unit
from chaos.trace import Side, Stream

# What the end of a stream does. `faithful`: a FIN is a half-close, an RST stays one. `toxiproxy`: either becomes the
# full close of the other socket, behind the bytes that are still on their way (toxiproxy 2.12.0, link.go).
EndPolicy = Literal["faithful", "toxiproxy"]
POLICIES: tuple[EndPolicy, EndPolicy] = ("faithful", "toxiproxy")
# the source and the target of each stream
SIDES: Mapping[Stream, tuple[Side, Side]] = {
    "upstream": ("client", "server"),
    "downstream": ("server", "client"),
}
OTHER: Mapping[Stream, Stream] = {"upstream": "downstream", "downstream": "upstream"}


class StreamState(Enum):
    """Where a stream is in its life."""

    # members are singletons: their identity is their hash, which is found without a call of Python code
    __hash__ = object.__hash__

    OPEN = "its source may send more"
    ENDING = "its end was read, and has not left the pipe"
    ENDED = "its target was told of the end, or is gone"
    OVER = "the connection is over, and so are both of its streams"


class Ending(Enum):
    """What ends a stream or the whole connection: who did it, and how."""

    # members are singletons: their identity is their hash, which is found without a call of Python code
    __hash__ = object.__hash__

    FIN_READ = auto()  # the source sends no more
    RST_READ = auto()  # the source has reset the connection
    CLOSE_READ = auto()  # we have closed the socket of the source ourselves
    FIN_PASSED = auto()  # a FIN has left the pipe
    RST_PASSED = auto()  # an RST has left the pipe
    CUT = auto()  # a fault closes the connection
    CUT_RST = auto()  # a fault resets the connection
    CUT_SOURCE = (
        auto()
    )  # a fault closes the socket of the source, and its target does not hear of it
    CUT_SOURCE_RST = auto()  # a fault resets the source, and its target does not hear of it
    CLOSED = auto()  # somebody outside closes the connection
    TARGET_LOST = auto()  # writing has failed, and the target has not said why yet
    TARGET_LOST_ENDED = (
        auto()
    )  # writing has failed: the target had ended its own stream, or we had closed it


READ: Mapping[Unit | None, Ending] = {
    Fin(): Ending.FIN_READ,
    Rst(): Ending.RST_READ,
    None: Ending.CLOSE_READ,
}
PASSED: Mapping[Unit, Ending] = {
    Fin(): Ending.FIN_PASSED,
    Rst(): Ending.RST_PASSED,
    Cut(): Ending.CUT,
    Cut(rst=True): Ending.CUT_RST,
    Cut(whom="source"): Ending.CUT_SOURCE,
    Cut(rst=True, whom="source"): Ending.CUT_SOURCE_RST,
}


class Tell(Enum):
    """What a side is told."""

    NOTHING = auto()
    FIN = auto()  # half-close: it may still send
    CLOSE = auto()  # FIN, and what it sends from now on is not read
    RST = auto()


class UnderWay(Enum):
    """What becomes of the bytes that are on their way in the other stream; DISCARD speaks of both streams."""

    PASS = auto()
    PASS_AND_END = auto()  # they pass, and the connection is over behind them
    PASS_AND_RST = auto()  # they pass, and an RST behind them
    DISCARD = auto()  # the connection is over at once


@dataclass(frozen=True, slots=True)
class Effect:
    """What follows from an ending: a row of the table.

    `enters` is what enters the pipe of the stream; `then` is the stream's next state, None if it stays.
    """

    then: StreamState | None = None
    enters: Fin | Rst | None = None
    target: Tell = Tell.NOTHING
    source: Tell = Tell.NOTHING
    other: UnderWay = UnderWay.PASS


OPEN, ENDING, ENDED, OVER = StreamState
_ALIVE = (OPEN, ENDING, ENDED)
_FAITHFUL: tuple[EndPolicy, ...] = ("faithful",)
_TOXIPROXY: tuple[EndPolicy, ...] = ("toxiproxy",)
_ANY_READ = (Ending.FIN_READ, Ending.RST_READ, Ending.CLOSE_READ)
_ANY_LOST = (Ending.TARGET_LOST, Ending.TARGET_LOST_ENDED)
_CLOSE_TARGET = Effect(then=ENDED, target=Tell.CLOSE)
_CUT_OFF_OTHER = Effect(then=ENDED, target=Tell.CLOSE, other=UnderWay.PASS_AND_END)
_CLOSE_BOTH = Effect(then=OVER, target=Tell.CLOSE, source=Tell.CLOSE, other=UnderWay.DISCARD)
_RESET_BOTH = Effect(then=OVER, target=Tell.RST, source=Tell.RST, other=UnderWay.DISCARD)
_RESET_TARGET = Effect(then=OVER, target=Tell.RST, other=UnderWay.DISCARD)
_ANSWER_RST = Effect(other=UnderWay.PASS_AND_RST)

_Row = tuple[tuple[EndPolicy, ...], Iterable[Ending], Iterable[StreamState], Effect]
_ROWS: tuple[_Row, ...] = (
    (_FAITHFUL, [Ending.FIN_READ], [OPEN], Effect(then=ENDING, enters=Fin())),
    (_FAITHFUL, [Ending.RST_READ], [OPEN], Effect(then=ENDING, enters=Rst())),
    (_FAITHFUL, [Ending.CLOSE_READ], _ALIVE, Effect()),
    (_FAITHFUL, [Ending.FIN_PASSED], [ENDING], Effect(then=ENDED, target=Tell.FIN)),
    (_FAITHFUL, [Ending.RST_PASSED], _ALIVE, _RESET_TARGET),
    (_FAITHFUL, [Ending.CUT], _ALIVE, _CLOSE_BOTH),
    # the reader of the target tells why
    (_FAITHFUL, [Ending.TARGET_LOST], _ALIVE, Effect()),
    # what was sent last is answered with an RST: without a link, the target would answer so
    (_FAITHFUL, [Ending.TARGET_LOST_ENDED], _ALIVE, _ANSWER_RST),
    # any end becomes a FIN
    (_TOXIPROXY, _ANY_READ, [OPEN], Effect(then=ENDING, enters=Fin())),
    # the target was lost before
    (_TOXIPROXY, _ANY_READ, [ENDED], Effect(enters=Fin())),
    # the closed socket of the target ends the other stream, behind its bytes
    (_TOXIPROXY, [Ending.FIN_PASSED], [ENDING, ENDED], _CLOSE_TARGET),
    (_TOXIPROXY, _ANY_LOST, _ALIVE, _CLOSE_TARGET),
    (_TOXIPROXY, [Ending.CUT], _ALIVE, _CUT_OFF_OTHER),
    (POLICIES, [Ending.CUT_RST], _ALIVE, _RESET_BOTH),
    (POLICIES, [Ending.CUT_SOURCE], _ALIVE, Effect(source=Tell.CLOSE)),
    (POLICIES, [Ending.CUT_SOURCE_RST], _ALIVE, Effect(source=Tell.RST)),
    (POLICIES, [Ending.CLOSED], _ALIVE, _CLOSE_BOTH),
    # what comes too late means nothing
    (POLICIES, Ending, [OVER], Effect()),
)

TABLE: Mapping[tuple[EndPolicy, Ending, StreamState], Effect] = {
    (policy, ending, state): outcome
    for policies, endings, states, outcome in _ROWS
    for policy in policies
    for ending in endings
    for state in states
}


_BOTH_OPEN: Mapping[Stream, StreamState] = dict.fromkeys(SIDES, OPEN)
_BOTH_OVER: Mapping[Stream, StreamState] = dict.fromkeys(SIDES, OVER)
_NO_STREAMS: frozenset[Stream] = frozenset()


class IllegalEnding(Exception):
    """An ending that cannot happen in the state of its stream: a mistake of ours."""


class Endings:
    """The state of one connection with regard to its end. Only `move` and `check_over` change it."""

    __slots__ = ("_cut_off", "_ended_sides", "_policy", "states")

    def __init__(self, policy: EndPolicy, *, silent: Iterable[Side] = ()) -> None:
        """Begin with both streams open; the sides in `silent` have nobody who could end anything."""
        self._policy: EndPolicy = policy
        # values that are replaced, never changed: the connections that are open share those they begin with
        self.states: Mapping[Stream, StreamState] = _BOTH_OPEN
        # they send no more, or we have closed them
        self._ended_sides: frozenset[Side] = frozenset(silent)
        self._cut_off: frozenset[Stream] = _NO_STREAMS  # they end with what is still in their pipes

    @property
    def over(self) -> bool:
        """Whether the connection is over."""
        return self.states is _BOTH_OVER

    def is_cut_off(self, stream: Stream) -> bool:
        """Return whether the connection is over once nothing of a stream is on its way."""
        return stream in self._cut_off

    def move(self, stream: Stream, ending: Ending) -> Effect:
        """Change the state by an ending of a stream, and return what is to be done. Raises IllegalEnding.

        If the target had already ended its own stream, TARGET_LOST is treated as TARGET_LOST_ENDED.
        """
        source, target = SIDES[stream]
        if ending is Ending.TARGET_LOST and target in self._ended_sides:
            ending = Ending.TARGET_LOST_ENDED
        outcome = TABLE.get((self._policy, ending, self.states[stream]))
        if outcome is None:
            state = self.states[stream].name
            raise IllegalEnding(f"{ending.name} of a stream that is {state}, {self._policy}")
        ended: set[Side] = set()
        if ending in _ANY_READ or outcome.source is not Tell.NOTHING:
            ended.add(source)
        if outcome.target in (Tell.CLOSE, Tell.RST):
            ended.add(target)
        self._ended_sides |= ended
        if outcome.then is not None:
            self.states = {**self.states, stream: outcome.then}
        if outcome.other is UnderWay.PASS_AND_END:
            cut_off: set[Stream] = {OTHER[stream]}
            self._cut_off |= cut_off
        elif outcome.other is UnderWay.DISCARD:
            self._end_all()
        return outcome

    def check_over(
        self,
        *,
        empty: Callable[[Stream], bool],
        dead: Callable[[Stream], bool],
        forgotten: Callable[[Stream], bool] = lambda _: False,
    ) -> bool:
        """Return whether nothing can be delivered any more; if so, the connection is over from now on.

        `empty` tells whether nothing is on its way in a stream, `dead` whether nothing can get through it for good.
        `forgotten` tells whether a stream is dead by what is no longer in force.
        """
        states = self.states
        told: list[Stream] = [one for one in states if states[one] is ENDED]
        if (
            len(told) == len(SIDES)
            or self._is_forgotten(told, forgotten)
            or any(states[one] is ENDING and empty(one) for one in self._cut_off)
            or (
                len(self._ended_sides) == len(SIDES)
                and all(one in told or dead(one) for one in states)
            )
        ):
            self._end_all()
        return self.over

    def _is_forgotten(self, told: Sequence[Stream], forgotten: Callable[[Stream], bool]) -> bool:
        """Return whether the client has ended unheard for good: then the server's side need not be kept.

        By the policy `toxiproxy` any end is that of the connection; else the other stream may still carry bytes.
        """
        if "client" not in self._ended_sides or not forgotten("upstream"):
            return False
        if self._policy == "toxiproxy":
            return True
        return all(one in told or forgotten(one) for one in self.states)

    def _end_all(self) -> None:
        self.states = _BOTH_OVER
