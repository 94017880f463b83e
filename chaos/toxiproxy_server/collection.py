"""All proxies of a server by name, and what the API does to them. Only looking up a name ever waits."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from chaos.toxiproxy_server.address import Address, AddressError, resolve
from chaos.toxiproxy_server.go.wire import ApiError, ProxyInput, Toxic, require
from chaos.toxiproxy_server.proxy import ProxiedConnection, Proxy, SharedState


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes before it says that it is enough; the original takes everything."""

    proxies: int = 10_000
    toxics: int = 1_000  # of one proxy
    name_bytes: int = 128 * 1024
    body_bytes: int = 1 << 20


class Collection:
    """The proxies. Every change is made in one go, so that no other call sees half of it."""

    def __init__(self, shared: SharedState, limits: Limits) -> None:
        self.shared = shared
        self.limits = limits
        self.proxies: dict[str, Proxy] = {}

    def get(self, name: str) -> Proxy:
        """Return a proxy. Raises ApiError (404)."""
        if name not in self.proxies:
            raise ApiError("proxy not found", 404)
        return self.proxies[name]

    async def create(self, wanted: ProxyInput) -> Proxy:
        """Add a proxy. Raises ApiError, and then nothing is kept of it."""
        require(wanted)
        self._check_room(wanted)
        if wanted.name in self.proxies:
            raise ApiError("proxy already exists", 409)
        starts = wanted.enabled is not False
        address = await _resolve_to_listen(wanted.listen or "") if starts else None
        if wanted.name in self.proxies:
            raise ApiError("proxy already exists", 409)  # by a call that came in meanwhile
        proxy = self._make(wanted)
        if address is not None:
            _start(proxy, address)
        self.proxies[proxy.name] = proxy
        self.shared.events.tell("proxy_created", proxy=proxy.body())
        return proxy

    async def populate(self, rows: list[ProxyInput]) -> tuple[list[Proxy], ApiError | None]:
        """Add or replace proxies in this order; return those that are done, and the error at which it stopped."""
        done: list[Proxy] = []
        for row in rows:
            await trio.lowlevel.checkpoint()  # thousands would keep connections waiting
            try:
                done.append(await self._add_or_replace(row))
            except ApiError as error:
                return done, error
        return done, None

    async def update(self, proxy: Proxy, wanted: ProxyInput) -> None:
        """Change where a proxy listens, where it leads, and whether it runs. Raises ApiError.

        A proxy whose new address cannot be had stays with it, disabled.
        """
        listen = proxy.listen if wanted.listen is None else wanted.listen
        upstream = proxy.upstream if wanted.upstream is None else wanted.upstream
        enabled = proxy.enabled if wanted.enabled is None else wanted.enabled
        address = await _resolve(listen)
        if self.proxies.get(proxy.name) is not proxy:
            raise ApiError("proxy not found", 404)  # deleted meanwhile
        if str(address) != proxy.listen or upstream != proxy.upstream:
            proxy.stop()
            proxy.listen, proxy.upstream = listen, upstream
        if not enabled:
            proxy.stop()
        elif not proxy.enabled:
            _start(proxy, address)
        self.shared.events.tell("proxy_changed", proxy=proxy.body())

    def delete(self, name: str) -> None:
        """Stop and remove a proxy. Raises ApiError (404)."""
        self.get(name).stop()
        del self.proxies[name]
        self.shared.events.tell("proxy_deleted", name=name)

    async def reset(self) -> None:
        """Start all proxies and remove all toxics. Raises ApiError at the first that does not start."""
        for proxy in list(self.proxies.values()):
            if not proxy.enabled:
                address = await _resolve_to_listen(proxy.listen)
                if self.proxies.get(proxy.name) is proxy:
                    _start(proxy, address)
                    self.shared.events.tell("proxy_changed", proxy=proxy.body())
            proxy.clear()

    def add_toxic(self, proxy: Proxy, toxic: Toxic) -> None:
        """Add a toxic to a proxy. Raises ApiError beyond the limits."""
        self._check_name(toxic.name)
        if len(proxy.toxics()) >= self.limits.toxics:
            raise self._too_many_toxics()
        proxy.add(toxic)

    def connection(self, id_: str) -> ProxiedConnection:
        """Return an open connection. Raises ApiError (404)."""
        number = int(id_) if id_.isascii() and id_.isdigit() and len(id_) < 19 else -1
        if number not in self.shared.connections:
            raise ApiError("connection not found", 404)
        return self.shared.connections[number]

    def stop(self) -> None:
        """Stop all proxies."""
        for proxy in self.proxies.values():
            proxy.stop()

    async def _add_or_replace(self, row: ProxyInput) -> Proxy:
        self._check_room(row)
        if len(row.toxics) > self.limits.toxics:
            raise self._too_many_toxics()
        for toxic in row.toxics:
            self._check_name(toxic.name)
        address = None
        existing = self.proxies.get(row.name)
        if existing is not None:
            address = await _resolve(row.listen or "")
            if str(address) == existing.listen and row.upstream == existing.upstream:
                return existing
            existing.stop()
        starts = row.enabled is not False
        if starts and address is None:
            address = await _resolve_to_listen(row.listen or "")
        other = self.proxies.get(row.name)
        if other is not None:
            other.stop()
        proxy = self._make(row)
        for toxic in row.toxics:
            proxy.add(toxic)
        if starts and address is not None:
            _start(proxy, address)
        self.proxies[row.name] = proxy
        self.shared.events.tell("proxy_created", proxy=proxy.body())
        return proxy

    def _make(self, wanted: ProxyInput) -> Proxy:
        return Proxy(
            name=wanted.name,
            listen=wanted.listen or "",
            upstream=wanted.upstream or "",
            shared=self.shared,
        )

    def _too_many_toxics(self) -> ApiError:
        return ApiError(f"too many toxics, expected at most {self.limits.toxics}", 400)

    def _check_room(self, wanted: ProxyInput) -> None:
        self._check_name(wanted.name)
        if wanted.name not in self.proxies and len(self.proxies) >= self.limits.proxies:
            raise ApiError(f"too many proxies, expected at most {self.limits.proxies}", 400)

    def _check_name(self, name: str) -> None:
        if len(name.encode()) > self.limits.name_bytes:
            raise ApiError(f"name too long, expected at most {self.limits.name_bytes} bytes", 400)


async def _resolve(listen: str, *, before_error: str = "") -> Address:
    try:
        return await resolve(listen)
    except AddressError as error:
        raise ApiError(f"{before_error}{error}", 500) from None


async def _resolve_to_listen(listen: str) -> Address:
    return await _resolve(listen, before_error="listen tcp: ")


def _start(proxy: Proxy, address: Address) -> None:
    try:
        proxy.start(address)
    except AddressError as error:
        raise ApiError(str(error), 500) from None
