"""Linux in figures: which options change something, the kernel's timer wheel, and how long TCP waits for what."""

from __future__ import annotations

import socket
import struct

import pytest

from chaos.networks.simulated.linux import (
    SocketOptions,
    connecting_s_max,
    expiry_s,
    jiffies,
    retransmission_timeout_s,
    retransmitting_s_max,
    syn_wait_s,
)

TCP, SOCKET = socket.IPPROTO_TCP, socket.SOL_SOCKET


@pytest.mark.parametrize("as_bytes", [False, True])
def test_numbers_are_taken_as_they_are_or_as_the_kernels_bytes(as_bytes: bool) -> None:
    options = SocketOptions()
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
    options = SocketOptions()
    options.set(TCP, socket.TCP_USER_TIMEOUT, 1500)
    assert options.user_timeout_s == 1.5


@pytest.mark.parametrize(("value", "at_once"), [((1, 0), True), ((1, 5), False), ((0, 0), False)])
def test_only_a_linger_of_no_time_resets(value: tuple[int, int], at_once: bool) -> None:
    options = SocketOptions()
    options.set(SOCKET, socket.SO_LINGER, struct.pack("ii", *value))
    assert options.resets_on_close is at_once


def test_what_changes_nothing_is_remembered() -> None:
    options = SocketOptions()
    assert options.get(SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert options.get(TCP, socket.TCP_NODELAY) == 0
    options.set(TCP, socket.TCP_NODELAY, 1)
    options.set(TCP, 13, b"bbr")  # TCP_CONGESTION
    assert (options.get(TCP, socket.TCP_NODELAY), options.get(TCP, 13)) == (1, b"bbr")


def test_an_accepted_socket_has_what_was_set_on_its_listener_until_it_is_set_anew() -> None:
    listener, accepted = SocketOptions(), SocketOptions()
    listener.set(SOCKET, socket.SO_KEEPALIVE, 1)
    accepted.inherit(listener)
    accepted.set(SOCKET, socket.SO_KEEPALIVE, 0)
    assert (listener.keepalive, accepted.keepalive) == (True, False)


def test_a_timer_is_never_early_and_at_most_an_eighth_and_a_tick_late() -> None:
    for wait in (0.0, 0.004, 0.2, 0.252, 1.0, 2.016, 3.3, 16.128, 75.0, 120.0, 7200.0):
        for start in range(50):
            now = start * 0.37
            fires = expiry_s(now, wait)
            assert fires > now + wait
            assert fires - now <= max(wait, 0.004) * 1.128 + 0.0081


def test_a_timer_at_the_moment_of_a_tick_waits_for_the_whole_of_it() -> None:
    # sums of floats must not lose a tick, or a timer might fire at the time at which it was set
    now = 0.0
    for _ in range(10_000):
        later = expiry_s(now, 0.004)
        assert later > now + 0.0039
        now = later


@pytest.mark.parametrize(("seconds", "ticks"), [(0.2, 50), (0.20005, 51), (0.204, 51), (1.0, 250)])
def test_waits_are_rounded_up_to_ticks(seconds: float, ticks: int) -> None:
    assert jiffies(seconds) == ticks


def test_the_least_timeout_is_a_tick_above_200_ms_on_a_fast_path() -> None:
    assert retransmission_timeout_s(0.000_05) == pytest.approx(0.204)
    assert retransmission_timeout_s(0.3) == pytest.approx(0.5)


@pytest.mark.parametrize(("retries", "seconds"), [(3, 3.0), (5, 12.6), (8, 102.2), (15, 924.6)])
def test_retransmissions_go_on_for_the_time_that_linux_documents(
    retries: int, seconds: float
) -> None:
    # 15 → 924.6 s: Documentation/networking/ip-sysctl.rst, tcp_retries2
    assert retransmitting_s_max(retries) == pytest.approx(seconds)


def test_syns_are_sent_as_linux_documents() -> None:
    # Documentation/networking/ip-sysctl.rst, tcp_syn_retries: the last one at 67 s, the end at 131 s
    times = [sum(syn_wait_s(before) for before in range(number)) for number in range(12)]
    sent = [at_s for at_s in times if at_s < connecting_s_max(6)]
    assert sent == [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]
    assert min(at_s for at_s in times if at_s >= connecting_s_max(6)) == 131
