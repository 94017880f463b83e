"""The fork server's program: imports everything once, so that each worker starts with it in memory.

What is there is set aside from the garbage collector: a run would walk and copy all of it, to find nothing.
"""

import gc
import signal
import socket
import sys

import chaos.networks.embedded
import chaos.networks.simulated.network
import chaos.networks.toxiproxy.network
import chaos.reference.client
import chaos.reference.server
import chaos.running.process  # noqa: F401
from chaos.running.pool.forks import Server
from chaos.running.pool.worker import serve

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    Server(socket.socket(fileno=int(sys.argv[1])), serve).run()
