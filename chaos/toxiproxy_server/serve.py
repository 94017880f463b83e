"""The server as a whole: proxies, the API over HTTP, the config file, and signals."""

from __future__ import annotations

import gc
import logging
import resource
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from chaos.errors import EXIT_PASSED, UsageError, first_message
from chaos.link.poller import start_poller
from chaos.networks.loopback import is_loopback
from chaos.running.interrupt import Interruption, signals, signals_noted
from chaos.toxiproxy_server.address import AddressError, bound, join, listen, resolve
from chaos.toxiproxy_server.api import Api, ServerOptions, make_app
from chaos.toxiproxy_server.collection import Collection
from chaos.toxiproxy_server.go.wire import ApiError, read_body, read_populate
from chaos.toxiproxy_server.http import serve_http
from chaos.toxiproxy_server.proxy import SharedState
from chaos.toxiproxy_server.timeline import Player

LOG = logging.getLogger("trio-chaos.toxiproxy-server")
# a client that takes nothing for so long is given up: Hypercorn would wait for it for ever, also at the end
STALLED_MS = 5_000


async def serve(
    options: ServerOptions,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; the API's address is given to `task_status.started`.

    No socket and no task is left when it returns. Cancelling is safe. Raises UsageError if the API's address
    cannot be had.
    """
    listener = await _listen(options)
    try:
        async with trio.open_nursery() as nursery:
            seed = secrets.randbits(63) if options.seed is None else options.seed
            shared = SharedState(
                nursery=nursery,
                seed=seed,
                end_policy=options.ends_are,
                dial_s=options.dial_s,
                poller=await start_poller(nursery),
            )
            collection = Collection(shared, options.limits)
            if options.config:
                await _load(collection, options.config)
            player = Player(collection)
            app = make_app(Api(collection=collection, player=player, options=options))
            address = bound(listener)
            try:
                await nursery.start(serve_http, app, listener, shared.shortage.note)
                task_status.started(address)
                await trio.sleep_forever()
            finally:
                player.close()
                shared.events.close()
                collection.stop()
                nursery.cancel_scope.cancel()
    finally:
        listener.close()


async def _listen(options: ServerOptions) -> socket.socket:
    """Listen for the API, on IPv4 where a name has it, as the original does."""
    try:
        listener = listen(await resolve(join(options.host, options.port)))
    except AddressError as error:
        raise UsageError(f"cannot serve the API: {error}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # what accepts hands it on to what it has accepted (tcp(7), Linux)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
    return listener


async def _load(collection: Collection, path: str) -> None:
    """Populate from a file. What is wrong with it is logged and the server starts all the same, as the original's."""
    try:
        text = await trio.Path(path).read_bytes()
    except OSError as error:
        LOG.warning("cannot read the config file %s: %s", path, error.strerror)
        return
    try:
        proxies, failed = await collection.populate(read_populate(read_body(text)))
    except ApiError as error:
        proxies, failed = [], error
    if failed is not None:
        LOG.warning("cannot populate proxies from %s: %s", path, failed)
        return
    LOG.info("populated %d proxies from %s", len(proxies), path)


def serve_command(options: ServerOptions, echo: Callable[[str], None]) -> int:
    """Serve until a signal (`chaos.running.interrupt`); return the exit code, which is 0 as the original's."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    _raise_limit_of_files()
    # modules are here to stay: the collector need not walk them again while calls and connections wait for it
    gc.collect()
    gc.freeze()
    try:
        with signals_noted() as interruption:
            trio.run(_until_signal, options, echo, interruption, strict_exception_groups=True)
    except* UsageError as group:
        raise UsageError(first_message(group)) from None
    return EXIT_PASSED


def _raise_limit_of_files() -> None:
    """Let this process open as many files as it may, as Go's programs do (os, since Go 1.19)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # macOS has a limit of its own below an unlimited one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _until_signal(
    options: ServerOptions, echo: Callable[[str], None], interruption: Interruption
) -> None:
    with trio.open_signal_receiver(*signals()) as coming:
        async with trio.open_nursery() as nursery:
            if interruption.has_come:  # before they were received here
                return
            address = await nursery.start(serve, options)
            echo(f"serving Toxiproxy's API on http://{address}")
            if options.page:
                echo(f"live page: http://{address}/")
            if not is_loopback(address.rpartition(":")[0].strip("[]")):
                echo(
                    f"WARNING: {address} can be reached from other machines, and the API asks nobody who they "
                    "are: whoever reaches it can make this machine listen and connect anywhere"
                )
            async for _ in coming:
                nursery.cancel_scope.cancel()
                break
