"""The program of the processes that runs take place in: imports everything once, and then serves its owner.

It is a fork server, each of whose workers starts with everything in memory, or one worker. What is there by then is
set aside from the garbage collector: a run would walk and copy all of it, to find nothing.
"""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from chaos.running.pool.forks import AS_FORK_SERVER, Server, owner_watched


def main(kind: str, descriptor: int) -> None:
    """Serve the owner at the other end of a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with owner_watched(descriptor):
        _import_everything()
        from chaos.running.pool.worker import serve  # noqa: PLC0415
    if kind == AS_FORK_SERVER:
        Server(socket.socket(fileno=descriptor), serve).run()
    else:
        serve(Connection(descriptor))


def _import_everything() -> None:
    import gc  # noqa: PLC0415

    import chaos.networks.embedded  # noqa: PLC0415
    import chaos.networks.simulated.network  # noqa: PLC0415

    with suppress(ImportError):  # an extra
        import chaos.networks.toxiproxy.network  # noqa: PLC0415
    import chaos.reference.client  # noqa: PLC0415
    import chaos.reference.server  # noqa: PLC0415
    import chaos.running.process  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
