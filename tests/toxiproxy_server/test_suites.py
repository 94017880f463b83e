"""Suites that others wrote, run unchanged against this project's server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, ProxyExists

pytestmark = pytest.mark.slow

# a checkout of toxiproxy-python: its source distribution leaves the tests out
CHECKOUT = "TRIO_CHAOS_TOXIPROXY_PYTHON"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    path = Path(__file__).parent / "go_suite.py"
    spec = importlib.util.spec_from_file_location("go_suite", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_originals_own_go_tests_pass(suite: ModuleType, tmp_path: Path, alone: None) -> None:
    try:
        every, failures = suite.run(tmp_path)
    except suite.Unavailable as reason:
        pytest.skip(str(reason))
    assert len(every) == 34
    assert failures == {}
    # the tests do speak to our server: they notice when it says something else
    with suite.server(suite.PORT, "--api-version", "other"):
        done = subprocess.run(
            [
                tmp_path / "source" / "suite.test",
                "-test.run",
                "^TestVersionEndpointReturnsVersion$",
            ],
            check=False,
            capture_output=True,
        )
    assert done.returncode != 0


def test_toxiproxy_pythons_own_tests_pass(suite: ModuleType, alone: None) -> None:
    folder = os.environ.get(CHECKOUT)
    if not folder:
        pytest.skip(f"no checkout of toxiproxy-python: set {CHECKOUT} to its folder")
    with suite.server(8474):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
             "test/toxiproxy_test.py", "test/toxiproxy_api_test.py"],
            check=False, capture_output=True, text=True, cwd=folder,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^25 passed", done.stdout, re.MULTILINE)


@pytest.fixture
def client(toxi: Any) -> Iterator[Toxiproxy]:
    """toxiproxy-python, pointed at each server in turn; its endpoint is class-level state."""
    before = APIConsumer.host, APIConsumer.port
    made = Toxiproxy()
    made.update_api_consumer("127.0.0.1", toxi.port)
    yield made
    APIConsumer.host, APIConsumer.port = before


def test_toxiproxy_python_creates_lists_and_destroys(client: Toxiproxy, peers: Any) -> None:
    proxy = client.create(upstream=peers.address, name="one")
    assert proxy.enabled is True
    peers.warm_pair(int(proxy.listen.rpartition(":")[2]))
    with pytest.raises(ProxyExists):
        client.create(upstream=peers.address, name="one")
    assert list(client.proxies()) == ["one"]
    assert client.running()
    assert client.get_proxy("one").upstream == peers.address
    assert client.get_proxy("two") is None
    assert proxy.destroy()
    assert client.proxies() == {}


def test_toxiproxy_python_handles_toxics(client: Toxiproxy, peers: Any, wire: Any) -> None:
    proxy = client.create(upstream=peers.address, name="one")
    proxy.add_toxic(type="latency", attributes={"latency": 200, "jitter": 0})
    toxic = proxy.get_toxic("latency_downstream")
    assert toxic.attributes == {"latency": 200, "jitter": 0}
    assert toxic.toxicity == 1
    with pytest.raises(InvalidToxic):
        proxy.add_toxic(type="nonsense")
    client_end, server = peers.pair(int(proxy.listen.rpartition(":")[2]))
    server.sendall(b"x")
    assert wire.took(lambda: client_end.recv(1)) > 0.15
    proxy.destroy_toxic("latency_downstream")
    proxy.disable()
    assert client.get_proxy("one").enabled is False
    assert client.reset()
    assert client.get_proxy("one").enabled is True


def test_toxiproxy_python_populates(client: Toxiproxy) -> None:
    rows = [{"name": name, "upstream": "u:1", "listen": "127.0.0.1:0"} for name in ("a", "b")]
    assert [proxy.name for proxy in client.populate(rows)] == ["a", "b"]
    client.destroy_all()
    assert client.proxies() == {}
