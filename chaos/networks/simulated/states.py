"""The states of a TCP connection and how they change: the table of RFC 9293 (sections 3.3.2, 3.6 and 3.10).

Everything that changes the state of a connection is a row here. An event that has no row in a state raises
`IllegalTransition`, and changes nothing. This file knows nothing of time, packets or sockets: `endpoint` says which
event has occurred.

What the simulation leaves out, and what a program could notice of it:

* Simultaneous open (SYN_SENT to SYN_RECEIVED): it does not happen, since two programs would have to connect to each
  other from known ports at the same instant.
* The wait in LISTEN and SYN_RECEIVED: the end that accepts passes through both at the instant at which the connection
  is established, as if its SYN-ACK carried all that it has to remember (a SYN cookie). No program sees these states.
* The end of TIME_WAIT after two maximum segment lifetimes: the state lasts as long as the socket is remembered, and
  holds no port, so that a program can use the port again at once.
"""

from __future__ import annotations

from enum import Enum, auto


class TcpState(Enum):
    """The states of RFC 9293 section 3.3.2, each with what it allows.

    `may_send`: the program may still send; its CLOSE has not been called.
    `may_receive`: more bytes may arrive from the peer; its FIN has not arrived.
    """

    # members are singletons: their identity is their hash, which is found without a call of Python code
    __hash__ = object.__hash__

    CLOSED = "closed", False, False
    LISTEN = "listen", False, False
    SYN_SENT = "SYN sent", False, True
    SYN_RECEIVED = "SYN received", False, True
    ESTABLISHED = "established", True, True
    FIN_WAIT_1 = "FIN wait 1", False, True
    FIN_WAIT_2 = "FIN wait 2", False, True
    CLOSE_WAIT = "close wait", True, False
    CLOSING = "closing", False, False
    LAST_ACK = "last ACK", False, False
    TIME_WAIT = "time wait", False, False

    def __init__(self, _: str, may_send: bool, may_receive: bool) -> None:
        self.may_send = may_send
        self.may_receive = may_receive


class TcpEvent(Enum):
    """What can change a state: a call of the program, a segment that arrives, or a timer (RFC 9293 section 3.10)."""

    # members are singletons: their identity is their hash, which is found without a call of Python code
    __hash__ = object.__hash__

    # calls of the program; CLOSE is the RFC's word for what sockets call shutdown(SHUT_WR)
    ACTIVE_OPEN = auto()
    PASSIVE_OPEN = auto()
    CLOSE = auto()
    ABORT = auto()
    # segments that have arrived
    SYN = auto()
    SYN_ACK = auto()
    ACK_OF_SYN = auto()
    FIN = auto()
    ACK_OF_FIN = auto()
    RST = auto()
    # no acknowledgement has come for too long
    USER_TIMEOUT = auto()
    # not of the RFC: the host has lost its power, and with it all that it knew of the connection
    POWER_LOSS = auto()


class IllegalTransition(Exception):
    """An event has occurred in a state in which it cannot. It is a mistake of the simulation, never of a program."""


_ENDING: dict[TcpEvent, TcpState] = {
    TcpEvent.ABORT: TcpState.CLOSED,
    TcpEvent.RST: TcpState.CLOSED,
    TcpEvent.USER_TIMEOUT: TcpState.CLOSED,
    TcpEvent.POWER_LOSS: TcpState.CLOSED,
}
TRANSITIONS: dict[TcpState, dict[TcpEvent, TcpState]] = {
    TcpState.CLOSED: {
        TcpEvent.ACTIVE_OPEN: TcpState.SYN_SENT,
        TcpEvent.PASSIVE_OPEN: TcpState.LISTEN,
    },
    TcpState.LISTEN: {TcpEvent.SYN: TcpState.SYN_RECEIVED},
    TcpState.SYN_SENT: {TcpEvent.SYN_ACK: TcpState.ESTABLISHED} | _ENDING,
    TcpState.SYN_RECEIVED: {TcpEvent.ACK_OF_SYN: TcpState.ESTABLISHED} | _ENDING,
    TcpState.ESTABLISHED: {
        TcpEvent.CLOSE: TcpState.FIN_WAIT_1,
        TcpEvent.FIN: TcpState.CLOSE_WAIT,
    }
    | _ENDING,
    TcpState.FIN_WAIT_1: {
        TcpEvent.ACK_OF_FIN: TcpState.FIN_WAIT_2,
        TcpEvent.FIN: TcpState.CLOSING,
    }
    | _ENDING,
    TcpState.FIN_WAIT_2: {TcpEvent.FIN: TcpState.TIME_WAIT} | _ENDING,
    TcpState.CLOSE_WAIT: {TcpEvent.CLOSE: TcpState.LAST_ACK} | _ENDING,
    TcpState.CLOSING: {TcpEvent.ACK_OF_FIN: TcpState.TIME_WAIT} | _ENDING,
    TcpState.LAST_ACK: {TcpEvent.ACK_OF_FIN: TcpState.CLOSED} | _ENDING,
    TcpState.TIME_WAIT: _ENDING,
}


def next_state(state: TcpState, event: TcpEvent) -> TcpState:
    """Return the state in which a connection is after an event.

    Raises:
        IllegalTransition: the table has no row for this event in this state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        expected = ", ".join(row.name for row in TRANSITIONS[state])
        raise IllegalTransition(
            f"{event.name} in {state.name}; expected one of {expected}"
        ) from None
