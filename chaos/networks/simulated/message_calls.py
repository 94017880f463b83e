"""The calls of a socket that are meant for datagrams, on a TCP connection: bytes, and no address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio


class MessageCalls(trio.socket.SocketType):
    """Adds them to a socket that has `recv`, `recv_into` and `send`, which say what is raised and when."""

    async def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, None]:
        """Receive; Linux names no address for a stream."""
        return await self.recv(bufsize, flags), None

    async def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, None]:
        """Receive into a buffer."""
        return await self.recv_into(buffer, nbytes, flags), None

    async def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Any], int, None]:
        """Receive; there are no ancillary data."""
        return await self.recv(bufsize, flags), [], 0, None

    async def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, None]:
        """Receive into several buffers, one after the other."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        left = await self.recv(sum(map(len, views)), flags)
        count = len(left)
        for view in views:
            part, left = left[: len(view)], left[len(view) :]
            view[: len(part)] = part
        return count, [], 0, None

    async def sendto(self, data: Any, *flags_and_address: Any) -> int:
        """Send; Linux ignores the address on a connection."""
        flags = flags_and_address[0] if len(flags_and_address) > 1 else 0
        return await self.send(data, flags)

    async def sendmsg(
        self,
        buffers: Iterable[Any],
        ancdata: Iterable[Any] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        """Send several buffers as one. Raises ValueError for ancillary data: a simulation has none to send."""
        if list(ancdata):
            raise ValueError("expected no ancillary data, which only real sockets can send")
        return await self.send(b"".join(bytes(buffer) for buffer in buffers), flags)
