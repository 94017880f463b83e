"""Socket options: what changes what a program sees, what is only remembered, and what accepted sockets inherit."""

from __future__ import annotations

import socket
import struct

import pytest

from chaos.networks.simulated.options import Options

TCP, SOCKET = socket.IPPROTO_TCP, socket.SOL_SOCKET


@pytest.mark.parametrize("as_bytes", [False, True])
def test_numbers_are_taken_as_they_are_or_as_the_kernels_bytes(as_bytes: bool) -> None:
    options = Options()
    for level, name, value in (
        (SOCKET, socket.SO_KEEPALIVE, 1),
        (TCP, socket.TCP_KEEPINTVL, 7),
        (TCP, socket.TCP_KEEPCNT, 3),
    ):
        options.set(level, name, struct.pack("i", value) if as_bytes else value)
    assert (options.keepalive, options.keepalive_interval_s, options.keepalive_count) == (
        True,
        7.0,
        3,
    )


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_a_user_timeout_is_milliseconds() -> None:
    options = Options()
    options.set(TCP, socket.TCP_USER_TIMEOUT, 1500)
    assert options.user_timeout_s == 1.5


@pytest.mark.parametrize(("value", "at_once"), [((1, 0), True), ((1, 5), False), ((0, 0), False)])
def test_only_a_linger_of_no_time_resets(value: tuple[int, int], at_once: bool) -> None:
    options = Options()
    options.set(SOCKET, socket.SO_LINGER, struct.pack("ii", *value))
    assert options.linger_0 is at_once


def test_what_changes_nothing_is_remembered() -> None:
    options = Options()
    assert options.get(SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert options.get(TCP, socket.TCP_NODELAY) == 0
    options.set(TCP, socket.TCP_NODELAY, 1)
    options.set(TCP, 13, b"bbr")  # TCP_CONGESTION
    assert (options.get(TCP, socket.TCP_NODELAY), options.get(TCP, 13)) == (1, b"bbr")


def test_an_accepted_socket_has_what_was_set_on_its_listener_until_it_is_set_anew() -> None:
    listener, accepted = Options(), Options()
    listener.set(SOCKET, socket.SO_KEEPALIVE, 1)
    accepted.inherit(listener)
    accepted.set(SOCKET, socket.SO_KEEPALIVE, 0)
    assert (listener.keepalive, accepted.keepalive) == (True, False)
