"""Toxiproxy's API through toxiproxy-python, from trio: in worker threads, with timeouts, every answer checked.

toxiproxy-python 0.1.1 keeps its endpoint in class attributes, so a process can speak to one server only; it gives
requests no timeout, and neither a 5xx nor a missing server makes it raise anything of its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import trio
from toxiproxy import Proxy, Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.errors import NetworkUnavailable, UsageError
from chaos.networks.loopback import is_loopback

DEFAULT_PORT = 8474
# the server's own handlers give up after 25 s (toxiproxy api.go); a healthy one answers within milliseconds
CALL_S = 10.0
Answer = TypeVar("Answer")
# what toxiproxy-python raises when an answer is not the JSON that it expects: a 5xx, or another server's page
# (its JSONDecodeError is an OSError as well)
_NOT_ITS_ANSWER = (ValueError, KeyError, TypeError, AttributeError)


def parse_url(url: str) -> tuple[str, int]:
    """Return the host and port of a Toxiproxy. Raises UsageError if `url` is not `http://host[:port]`."""
    expected = f"expected http://host:{DEFAULT_PORT}, got {url!r}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"no Toxiproxy URL ({error}); {expected}") from None
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"no Toxiproxy URL; {expected}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise UsageError(f"a Toxiproxy URL has a host and a port only; {expected}")
    return parts.hostname, DEFAULT_PORT if port is None else port


class ToxiproxyApi:
    """One Toxiproxy server. Methods raise NetworkUnavailable when it does not do what it is asked."""

    def __init__(self, url: str) -> None:
        """Point toxiproxy-python at a server. Raises UsageError if `url` is not `http://host[:port]`."""
        self.host, self.port = parse_url(url)
        if is_loopback(self.host):
            _bypass_http_proxies(self.host)
        self._server = Toxiproxy()
        name = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{name}:{self.port}"
        self._server.update_api_consumer(name, self.port)

    async def version(self) -> str:
        """Return the server's version. A server that is not a Toxiproxy is recognised by this call."""
        status, text = await self._call("version", _get_version)
        version = read_version(text) if status == 200 else None
        if version is None:
            raise NetworkUnavailable(
                f"no Toxiproxy at {self.address}: expected its version from GET /version, "
                f"got status {status}: {text[:60]!r}"
            )
        return version

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
        """Add a toxic, and check that it is there: the library's `add_toxic` returns nothing."""

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
        """Call a function in a thread; if it hangs, it is left to that thread, which ends with the process."""
        try:
            with trio.fail_after(CALL_S):
                return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
        except trio.TooSlowError:
            raise NetworkUnavailable(
                f"Toxiproxy at {self.address} did not answer within {CALL_S:g} s: {what}"
            ) from None
        except _NOT_ITS_ANSWER as error:
            raise NetworkUnavailable(
                f"Toxiproxy at {self.address} failed: {what}: its answer is an error or none of Toxiproxy's "
                f"({type(error).__name__}: {error})"
            ) from error
        except (OSError, InvalidToxic, NotFound, ProxyExists) as error:
            raise NetworkUnavailable(
                f"Toxiproxy at {self.address} failed: {what}: {_innermost(error)}"
            ) from error


def _get_version() -> tuple[int, str]:
    try:
        answer = APIConsumer.get("/version")
    except NotFound as error:
        return 404, str(error)
    except InvalidToxic as error:
        return 400, str(error)
    return answer.status_code, answer.text.strip()


def read_version(text: str) -> str | None:
    """Return the version in an answer of /version: JSON since 2.5, plain text before; None if it is neither."""
    if re.fullmatch(r"v?\d+\.\d+[\w.+-]*|git", text):
        return text
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return str(row["version"]) if isinstance(row, dict) and "version" in row else None


def _innermost(error: BaseException) -> str:
    """Return the message of the operating system: requests wraps a refused connection five times."""
    found: BaseException = error
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:
            found = seen
        seen = seen.__cause__ or seen.__context__
    return str(found) if found is not error else f"{type(error).__name__}: {error}"


def _bypass_http_proxies(host: str) -> None:
    """Keep `requests` from sending loopback calls to the proxy that HTTP_PROXY names."""
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name, "")
        if host not in known.split(","):
            os.environ[name] = f"{known},{host}".lstrip(",")
