"""Bulk is moved on another processor than the one that makes it, and afterwards all is as it was."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from chaos.link.ends import KernelEnd
from chaos.link.splice import stay_off_sender

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2,
    reason="a choice of processors is Linux's, and takes two",
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            yield client, server


def test_it_leaves_the_processor_of_who_sends_and_may_come_back(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    allowed = os.sched_getaffinity(0)
    with stay_off_sender(KernelEnd(server)) as look_again:
        for processor in sorted(allowed):
            os.sched_setaffinity(0, {processor})
            client.sendall(b"x")  # over loopback the sender's processor handles the packet
            assert server.recv(1) == b"x"
            look_again()
            assert os.sched_getaffinity(0) == allowed - {processor}
    assert os.sched_getaffinity(0) == allowed


def test_a_second_one_at_a_time_does_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    allowed = os.sched_getaffinity(0)
    with stay_off_sender(KernelEnd(client)), stay_off_sender(KernelEnd(server)) as look_again:
        client.sendall(b"x")
        look_again()
        assert os.sched_getaffinity(0) == allowed


def test_what_went_wrong_inside_leaves_nothing_behind(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, server = pair
    allowed = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), stay_off_sender(KernelEnd(server)) as look_again:
        client.sendall(b"x")
        look_again()
        raise RuntimeError
    assert os.sched_getaffinity(0) == allowed
    with stay_off_sender(KernelEnd(server)) as look_again:
        look_again()
        assert os.sched_getaffinity(0) != allowed, "the next one works"
