"""The server does what a client of it does first, whatever releases of its libraries are installed.

    python lowest.py

It needs nothing but this project: `.ci/lowest` runs it where only the lowest releases are installed.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import Any


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def ask(port: int, method: str, path: str, body: Any = None) -> Any:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as calls:
        calls.request(method, path, None if body is None else json.dumps(body))
        answer = calls.getresponse()
        text = answer.read()
        assert answer.status in (200, 201, 204), (answer.status, text)
        return json.loads(text) if text else None


def check(port: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(5)
        upstream = "{}:{}".format(*listener.getsockname())
        made = ask(
            port, "POST", "/proxies", {"name": "p", "upstream": upstream, "listen": "127.0.0.1:0"}
        )
        ask(port, "POST", "/proxies/p/toxics", {"type": "latency", "attributes": {"latency": 5}})
        through = int(made["listen"].rpartition(":")[2])
        with closing(socket.create_connection(("127.0.0.1", through), timeout=5)) as client:
            server, _ = listener.accept()
            client.sendall(b"ping")
            assert server.recv(4) == b"ping"
            server.sendall(b"pong")
            assert client.recv(4) == b"pong"
            client.shutdown(socket.SHUT_WR)
            assert server.recv(1) == b""
            assert client.recv(1) == b"", "any end closes both ways, unless --faithful is given"
            server.close()
        ask(port, "POST", "/reset")
        assert ask(port, "GET", "/proxies/p")["toxics"] == []


def main() -> None:
    port = free_port()
    command = [sys.executable, "-m", "chaos", "toxiproxy-server", "--port", str(port)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    ask(port, "GET", "/version")
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            check(port)
        finally:
            process.terminate()
    print("the server answers")


if __name__ == "__main__":
    main()
