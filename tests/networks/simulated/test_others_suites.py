"""Tests that others wrote for real sockets pass in the simulation: trio's own, and those of trio-websocket."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
RUN_S = 120
IPV4_TCP = "the simulation has TCP over IPv4 only"
INSIDE = "looks into trio's own socket class"
# what of trio's own tests of sockets cannot pass, and why
TRIO = {
    "test_highlevel_open_tcp_stream": {},
    "test_highlevel_open_tcp_listeners": {},
    "test_highlevel_socket": {
        "test_SocketStream_basics": IPV4_TCP,
        "test_SocketListener": IPV4_TCP,
    },
    "test_socket": {
        "test_getaddrinfo": "asks the real resolver",
        "test_getnameinfo": "asks the real resolver",
        "test_idna": "asks the real resolver",
        "test_from_stdlib_socket": IPV4_TCP,
        "test_socket_v6": IPV4_TCP,
        "test_unix_domain_socket": IPV4_TCP,
        "test_send_recv_variants": IPV4_TCP,
        "test_SocketType_simple_server[::1-10]": IPV4_TCP,
        "test_SocketType_resolve[10-addrs1]": IPV4_TCP,
        "test_interrupted_by_close": IPV4_TCP,
        "test_from_fd": "a simulated socket cannot be duplicated",
        "test_many_sockets": INSIDE,
        "test_sniff_sockopts": "the simulation has TCP only",
        "test_SocketType_dup": "a simulated socket cannot be duplicated",
        "test_SocketType_resolve[2-addrs0]": INSIDE,
        "test_SocketType_is_readable": INSIDE,
        "test_SocketType_non_blocking_paths": INSIDE,
        "test_resolve_address_exception_in_connect_closes_socket": INSIDE,
        "test_custom_hostname_resolver": INSIDE,
        "test_custom_socket_factory": INSIDE,
    },
}
BUSY = (
    "sends 1,000 times without waiting: packets arrive once 2,000 turns of the loop have passed so"
)
# what of anyio's 98 tests of TCP cannot pass, and why
ANYIO = {
    "test_connect_tcp_with_tls": "puts TLS on a blocking socket of the standard library",
    "test_connect_tcp_with_tls_cert_check_fail": "puts TLS on a blocking socket of the standard library",
    "test_from_socket_wrong_socket_type": "needs UDP",
    "test_bind_link_local": "needs the machine's link-local address",
}
# of 64. The first has it that a packet is there after one turn of the event loop. The second has it that MockClock is
# faster than a packet: with real sockets on the real clock it does what it does in the simulation.
TRIO_WEBSOCKET = {"test_open_websocket_internal_exc", "test_client_open_timeout"}


def run(folder: Path, *arguments: str, plugin: str = "in_world") -> tuple[set[str], set[str], str]:
    """Run tests in the simulation; return which passed, which did not, and the output."""
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider",
         "-c", os.devnull, f"--rootdir={folder}", f"--junitxml={report}", *arguments],
        check=False, capture_output=True, text=True, timeout=RUN_S, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    passed, failed = set(), set()
    for row in ET.parse(report).iter("testcase"):
        if row.find("skipped") is None:
            bad = row.find("failure") is not None or row.find("error") is not None
            (failed if bad else passed).add(row.attrib["name"])
    return passed, failed, done.stdout


def assert_nothing_real(said: str) -> None:
    summary = re.search(r"(\d+) simulated sockets, escapes: (.*)", said)
    assert summary is not None, said
    assert int(summary[1]) > 0
    assert summary[2] == "[]"


@pytest.mark.parametrize("module", TRIO)
def test_trios_own_tests_of_sockets_pass(module: str, tmp_path: Path) -> None:
    passed, failed, said = run(
        tmp_path, "-p", "trio._tests.pytest_plugin", "--pyargs", f"trio._tests.{module}"
    )
    assert failed <= TRIO[module].keys(), said
    assert len(passed) >= 5
    assert_nothing_real(said)


@pytest.mark.skipif(
    "ANYIO_CHECKOUT" not in os.environ, reason="ANYIO_CHECKOUT names no checkout of anyio"
)
def test_anyios_own_tests_of_tcp_pass(tmp_path: Path) -> None:
    passed, failed, said = run(
        tmp_path, "-o", "anyio_mode=auto",
        str(Path(os.environ["ANYIO_CHECKOUT"]) / "tests/test_sockets.py"),
        "-k", "TestTCPStream or TestTCPListener",
        plugin="anyio_suite",
    )  # fmt: skip
    assert {name.partition("[")[0] for name in failed} <= ANYIO.keys(), said
    assert len(passed) >= 83  # 91, of which eight have the name of another


def test_trio_websockets_own_tests_pass(tmp_path: Path) -> None:
    wanted = f"trio-websocket=={importlib.metadata.version('trio-websocket')}"
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--no-binary", ":all:", "--dest", str(tmp_path), wanted],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if fetched.returncode:
        pytest.skip(f"the source of {wanted} cannot be had: {fetched.stderr.strip()[-200:]}")
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    [tests] = tmp_path.glob("*/tests")
    passed, failed, said = run(tmp_path, "-o", "trio_mode=true", str(tests))
    assert failed <= TRIO_WEBSOCKET, said
    assert len(passed) >= 62
    assert_nothing_real(said)
