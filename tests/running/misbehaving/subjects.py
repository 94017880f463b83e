"""Clients that do to their process, to trio or to the machine what no client should, one second after they start."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio_websocket import open_websocket_url

AFTER_S = 1.0


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


async def live(url: str) -> None:
    async with open_websocket_url(url) as connection:
        while True:
            await connection.get_message()


def then(do: Callable[[], object]) -> Callable[..., Awaitable[None]]:
    async def client(url: str, **_: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live, url)
            await trio.sleep(AFTER_S)
            do()
            await trio.sleep_forever()

    return client


def fail(error: BaseException) -> None:
    raise error


def spin() -> None:
    while True:
        pass


def recurse() -> None:
    recurse()


def detach() -> None:
    subprocess.Popen(["sh", "-c", "setsid sleep 600 & exit 0"])


def ignore_and_stay() -> None:
    subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; sleep 600; sleep 600"])


def fork_itself() -> None:
    if os.fork() == 0:
        time.sleep(600)


def write_everywhere() -> None:
    for descriptor in range(3, 64):
        try:
            os.set_blocking(descriptor, False)
            os.write(descriptor, b"\0\0\0\x05hello" * 20)
        except OSError:
            continue


def cancel_trio() -> None:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    root.child_nurseries[0].cancel_scope.cancel()


def grow_threads() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


def take_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def hold_interpreter() -> None:
    ctypes.PyDLL(None).usleep(600_000_000)


KEPT: list[Any] = []

exits = then(lambda: sys.exit(3))
exits_well = then(lambda: sys.exit(0))
interrupts = then(lambda: fail(KeyboardInterrupt()))
generator_exit = then(lambda: fail(GeneratorExit()))
is_mute = then(lambda: fail(Mute()))
leaves = then(lambda: os._exit(3))
kills_itself = then(lambda: os.kill(os.getpid(), signal.SIGKILL))
segfaults = then(lambda: os.kill(os.getpid(), signal.SIGSEGV))
stops_itself = then(lambda: os.kill(os.getpid(), signal.SIGSTOP))
kills_its_parent = then(lambda: os.kill(os.getppid(), signal.SIGKILL))
alarms = then(lambda: signal.alarm(1))
ignores_sigterm = then(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
closes = then(lambda: os.closerange(3, 4096))
closes_output = then(lambda: [os.close(1), os.close(2)])
writes_everywhere = then(write_everywhere)
floods = then(lambda: sys.stdout.write("x" * 5_000_000))
spawns = then(lambda: subprocess.Popen(["sleep", "600"]))
detaches = then(detach)
spawns_stubborn = then(ignore_and_stay)
forks = then(fork_itself)
threads = then(grow_threads)
sleeps = then(lambda: time.sleep(600))
spins = then(spin)
holds_interpreter = then(hold_interpreter)
changes_folder = then(lambda: os.chdir("/"))
recurses = then(recurse)
fills_memory = then(lambda: KEPT.extend(bytearray(1_000_000) for _ in range(200)))
cancels_trio = then(cancel_trio)
takes_descriptors = then(take_descriptors)
stops_collecting = then(lambda: gc.disable())
times_out_sockets = then(lambda: socket.setdefaulttimeout(0.001))
shallow = then(lambda: sys.setrecursionlimit(60))


async def shields(url: str, **_: Any) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def swallows(url: str, **_: Any) -> None:
    while True:
        try:
            await live(url)
        except BaseException:
            pass


async def creeps(url: str, **_: Any) -> None:
    while True:
        await trio.sleep(1e-9)


async def returns(url: str, **_: Any) -> int:
    return 5


async def needs_asyncio(url: str, **_: Any) -> None:
    import asyncio

    await asyncio.sleep(1)


async def takes_nothing() -> None:
    pass


def is_no_coroutine(url: str, **_: Any) -> None:
    pass
