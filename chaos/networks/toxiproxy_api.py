"""Toxiproxy's API through toxiproxy-python, from trio: in worker threads, with timeouts, every answer checked.

toxiproxy-python 0.1.1 keeps its endpoint in class attributes, so a process can speak to one server only; it gives
requests no timeout, and neither a 5xx nor a missing server makes it raise anything of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import trio
from toxiproxy import Proxy, Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.errors import NetworkUnavailable, UsageError

DEFAULT_PORT = 8474
# the server's own handlers give up after 25 s (toxiproxy api.go); a healthy one answers within milliseconds
CALL_S = 10.0
Answer = TypeVar("Answer")


class ToxiproxyApi:
    """One Toxiproxy server. Methods raise NetworkUnavailable when it does not do what it is asked."""

    def __init__(self, url: str) -> None:
        """Point toxiproxy-python at a server. Raises UsageError if `url` is not `http://host[:port]`."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"{url!r} is no Toxiproxy URL; expected http://host:{DEFAULT_PORT}")
        self.host = parts.hostname
        self.port = parts.port or DEFAULT_PORT
        self._server = Toxiproxy()
        self._server.update_api_consumer(self.host, self.port)

    async def version(self) -> str:
        """Return what the server says of its version."""
        text = await self._call("version", lambda: APIConsumer.get("/version").text)
        return str(text).strip()

    async def create(self, name: str, listen: str, upstream: str) -> tuple[Proxy, int]:
        """Create a proxy; return it and the port on which it listens."""
        proxy = await self._call(
            f"create proxy {name}",
            lambda: self._server.create(upstream=upstream, name=name, listen=listen),
        )
        return proxy, int(str(proxy.listen).rpartition(":")[2])

    async def destroy(self, proxy: Proxy) -> None:
        """Delete a proxy and close its connections."""
        if not await self._call(f"delete proxy {proxy.name}", proxy.destroy):
            raise NetworkUnavailable(f"Toxiproxy did not delete the proxy {proxy.name}")

    async def add_toxic(self, proxy: Proxy, **toxic: Any) -> None:
        """Add a toxic, and see that it is there: add_toxic itself says nothing."""

        def add() -> bool:
            proxy.add_toxic(**toxic)
            there = proxy.get_toxic(toxic["name"])
            return there is not None and there.attributes == toxic["attributes"]

        if not await self._call(f"add toxic {toxic['name']}", add):
            raise NetworkUnavailable(f"Toxiproxy did not take the toxic {toxic['name']}")

    async def remove_toxic(self, proxy: Proxy, name: str) -> None:
        """Remove a toxic."""
        if not await self._call(f"remove toxic {name}", lambda: proxy.destroy_toxic(name)):
            raise NetworkUnavailable(f"Toxiproxy did not remove the toxic {name}")

    async def enable(self, proxy: Proxy, *, enabled: bool) -> None:
        """Enable or disable a proxy."""

        def switch() -> bool:
            (proxy.enable if enabled else proxy.disable)()
            now = self._server.get_proxy(proxy.name)
            return now is not None and bool(now.enabled) == enabled

        if not await self._call(f"switch proxy {proxy.name}", switch):
            raise NetworkUnavailable(f"Toxiproxy did not switch the proxy {proxy.name}")

    async def _call(self, what: str, function: Callable[[], Answer]) -> Answer:
        """Call in a thread; a call that hangs is left to its thread, which ends with the process."""
        try:
            with trio.fail_after(CALL_S):
                return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
        except trio.TooSlowError:
            raise NetworkUnavailable(
                f"Toxiproxy at {self.host}:{self.port} did not answer within {CALL_S:g} s: {what}"
            ) from None
        except (OSError, ValueError, KeyError, InvalidToxic, NotFound, ProxyExists) as error:
            # a 5xx shows as a body that is no JSON, or JSON without the expected keys
            raise NetworkUnavailable(
                f"Toxiproxy at {self.host}:{self.port} failed: {what}: {type(error).__name__}: {error}"
            ) from error
