"""The server without its poller, as on systems that have none: each connection has tasks that read.

Usage: python without_poller.py PORT
"""

from __future__ import annotations

import sys

from chaos.link import poller
from chaos.toxiproxy_server.api import ServerOptions
from chaos.toxiproxy_server.serve import serve_command

if __name__ == "__main__":
    poller.AVAILABLE = False
    sys.exit(serve_command(ServerOptions(port=sys.argv[1]), print))
