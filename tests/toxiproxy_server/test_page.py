"""The live page: what a browser may do with it, and what pages of others may not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.toxiproxy_server.guard import is_own_page

pytestmark = pytest.mark.slow
MOZILLA = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"
IN_NODE = Path(__file__).parent / "page_in_node.js"


@pytest.fixture(scope="module")
def paged(run_paged: Any) -> Iterator[Any]:
    with run_paged(True, "--page") as toxi:
        yield toxi


def ask(toxi: Any, method: str, path: str, body: Any = None, **headers: str) -> Any:
    return toxi.ask(method, path, body, User_Agent=MOZILLA, **headers)


def test_without_the_flag_there_is_no_page_and_no_browser(ours: Any) -> None:
    assert ours.ask("GET", "/").status == 404
    assert ask(ours, "GET", "/proxies").status == 403
    assert ask(ours, "GET", "/events").status == 403


def test_a_browser_loads_the_page_and_calls_the_api_from_it(paged: Any) -> None:
    answer = ask(paged, "GET", "/", Sec_Fetch_Site="none")
    assert (answer.status, answer.type) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    own = f"http://127.0.0.1:{paged.port}"
    body = {"name": "a", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"}
    answer = ask(paged, "POST", "/proxies", body, Origin=own, Sec_Fetch_Site="same-origin")
    assert answer.status == 201
    assert ask(paged, "DELETE", "/proxies/a", Origin=own).status == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "elsewhere.example"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/proxies", "/events"])
def test_pages_of_others_are_refused(paged: Any, headers: dict[str, str], path: str) -> None:
    assert ask(paged, "GET", path, **headers).status == 403
    assert ask(paged, "POST", "/proxies", {"name": "a"}, **headers).status == 403


def test_programs_are_served_as_ever(paged: Any) -> None:
    assert paged.get("/proxies") == {}
    assert is_own_page({})


def test_the_page_holds_all_it_needs(paged: Any) -> None:
    html = ask(paged, "GET", "/").body.decode()
    assert not re.findall(r"""(?:src|href)=|url\(|@import|https?://""", html)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", html)
    assert not re.findall(r"\son\w+=|\sstyle=", html)  # the policy would not let them act


def test_its_script_shows_and_changes_what_the_server_has(paged: Any) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on PATH")
    paged.create(name="shown-here")
    try:
        done = subprocess.run(
            [node, str(IN_NODE), f"http://127.0.0.1:{paged.port}"],
            input=ask(paged, "GET", "/").body,
            check=False,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        paged.clear()
    assert done.returncode == 0, done.stderr.decode()
