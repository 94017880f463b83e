"""A page of another origin, in a real Chromium, that tries to change a server: none of its ways works.

Browsers send "simple" requests (Fetch, §3.2) to other origins without asking first, and forms and links go anywhere.
"""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow
# what would change a server if it were taken: the state is compared before and after
SETUP = """
const base = arguments[0], done = arguments[arguments.length - 1];
const evil = JSON.stringify({name: "evil", upstream: "127.0.0.1:9", listen: "127.0.0.1:0"});
const toxic = JSON.stringify({type: "reset_peer", name: "evil", attributes: {timeout: 0}});
const make = (tag, more) => Object.assign(document.createElement(tag), more);
const add = (tag, more) => document.body.appendChild(make(tag, more));
const soon = () => setTimeout(() => done("tried"), 400);
const ask = (path, more) => fetch(base + path, more).then(soon, soon);
const submit = (action, fields, more) => {
  const frame = add("iframe", {name: "f" + Math.random()});
  const form = add("form", {action: base + action, method: "post", target: frame.name, ...more});
  for (const [name, value] of Object.entries(fields)) form.appendChild(make("input", {name, value}));
  form.submit();
  soon();
};
"""
JSON_IN_A_FORM = (
    """{['{"name":"evil","upstream":"127.0.0.1:9","listen":"127.0.0.1:0","x":"']: '"}'}"""
)
WAYS = {
    "fetch-text": 'ask("/proxies", {method: "POST", mode: "no-cors", body: evil});',
    "fetch-text-with-cookies": 'ask("/reset", {method: "POST", mode: "no-cors", credentials: "include"});',
    "fetch-form": 'ask("/proxies/p/toxics", {method: "POST", mode: "no-cors", body: new URLSearchParams({a: 1})});',
    "fetch-toxic": 'ask("/proxies/p/toxics", {method: "POST", mode: "no-cors", body: toxic});',
    "fetch-json": """ask("/proxies", {method: "POST", body: evil,
        headers: {"Content-Type": "application/json"}});""",
    "fetch-as-curl": 'ask("/reset", {method: "POST", headers: {"User-Agent": "curl/8"}});',
    "fetch-same-origin": 'ask("/reset", {method: "POST", mode: "same-origin"});',
    "fetch-no-referrer": 'ask("/reset", {method: "POST", mode: "no-cors", referrerPolicy: "no-referrer"});',
    "fetch-delete": 'ask("/proxies/p", {method: "DELETE"});',
    "fetch-patch": 'ask("/proxies/p", {method: "PATCH", body: "{}"});',
    "fetch-override": """ask("/proxies/p?_method=DELETE", {method: "POST", mode: "no-cors",
        body: "_method=DELETE"});""",
    "fetch-keepalive": 'ask("/reset", {method: "POST", mode: "no-cors", keepalive: true});',
    "fetch-by-another-name": """fetch(base.replace("127.0.0.1", "localhost") + "/reset",
        {method: "POST", mode: "no-cors"}).then(soon, soon);""",
    "fetch-by-a-name-of-its-own": """fetch(base.replace("127.0.0.1", "evil.localhost") + "/reset",
        {method: "POST", mode: "no-cors"}).then(soon, soon);""",
    "xhr": """const x = new XMLHttpRequest(); x.open("POST", base + "/reset");
        x.onloadend = soon; x.send("");""",
    "xhr-delete": """const x = new XMLHttpRequest(); x.open("DELETE", base + "/proxies/p");
        x.onloadend = soon; x.send();""",
    "form": 'submit("/reset", {});',
    "form-text": f'submit("/proxies", {JSON_IN_A_FORM}, {{enctype: "text/plain"}});',
    "form-multipart": 'submit("/proxies/p", {enabled: "true"}, {enctype: "multipart/form-data"});',
    "form-get": 'submit("/proxies/p/toxics", {type: "reset_peer"}, {method: "get"});',
    "form-no-referrer": 'submit("/reset", {}, {rel: "noreferrer"});',
    "form-in-a-sandbox": """add("iframe", {sandbox: "allow-scripts allow-forms", srcdoc:
        `<form method=post action="${base}/reset"></form><script>document.forms[0].submit()</script>`}); soon();""",
    "fetch-in-a-sandbox": """add("iframe", {sandbox: "allow-scripts", srcdoc:
        `<script>fetch("${base}/reset", {method: "POST", mode: "no-cors"})</script>`}); soon();""",
    "form-in-a-data-url": """add("iframe", {src: "data:text/html," + encodeURIComponent(
        `<form method=post action="${base}/reset"></form><script>document.forms[0].submit()</script>`)}); soon();""",
    "beacon": 'navigator.sendBeacon(base + "/reset"); navigator.sendBeacon(base + "/proxies", evil); soon();',
    "beacon-json": """try { navigator.sendBeacon(base + "/proxies",
        new Blob([evil], {type: "application/json"})); } catch {} soon();""",
    "ping": 'const a = add("a", {href: "#here", ping: base + "/reset"}); a.click(); soon();',
    "image": 'add("img", {src: base + "/reset"}); add("img", {src: base + "/connections/1?how=rst"}); soon();',
    "script": 'add("script", {src: base + "/reset"}); soon();',
    "style": 'add("link", {rel: "stylesheet", href: base + "/reset"}); soon();',
    "prefetch": 'add("link", {rel: "prefetch", href: base + "/reset"}); soon();',
    "frame": 'add("iframe", {src: base + "/"}); add("object", {data: base + "/reset"}); soon();',
    "websocket": """const w = new WebSocket(base.replace("http", "ws") + "/reset");
        w.onopen = () => w.send(evil); soon();""",
    "events": 'new EventSource(base + "/events", {withCredentials: true}); soon();',
    "worker": """new Worker(URL.createObjectURL(new Blob([
        `fetch("${base}/reset", {method: "POST", mode: "no-cors"})`]))); soon();""",
    "window": 'window.open(base + "/reset"); soon();',
    "reports": """const meta = add("meta", {httpEquiv: "refresh", content: "9;url=" + base + "/reset"}); soon();""",
}
# these leave the page
LEAVING = {
    "form-on-top": """const form = add("form", {action: base + "/reset", method: "post"});
        done("tried"); form.submit();""",
    "form-text-on-top": """const form = add("form",
            {action: base + "/proxies/p", method: "post", enctype: "text/plain"});
        form.appendChild(make("input", {name: '{"enabled":true,"x":"', value: '"}'}));
        done("tried"); form.submit();""",
    "address": 'done("tried"); location = base + "/reset";',
    "beacon-at-the-end": """addEventListener("pagehide", () => navigator.sendBeacon(base + "/reset"));
        done("tried"); location = "about:blank";""",
}


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title><body>hello")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of a page that is not the server's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=[(), ("--page",)], ids=["plain", "page"])
def attacked(request: pytest.FixtureRequest, run_paged: Any) -> Iterator[Any]:
    with run_paged(True, *request.param) as toxi:
        toxi.create(name="p", enabled=False)  # a reset would enable it, and remove its toxic
        toxi.toxic("noop", name="kept")
        yield toxi


def state(toxi: Any) -> Any:
    return toxi.get("/proxies"), toxi.get("/connections"), toxi.get("/timeline")


@pytest.mark.parametrize("way", [*WAYS, *LEAVING])
def test_a_page_of_another_origin_changes_nothing(
    browser: Any, attacked: Any, elsewhere: str, way: str
) -> None:
    before = state(attacked)
    browser.get(elsewhere)
    script = SETUP + (WAYS | LEAVING)[way]
    assert browser.execute_async_script(script, f"http://127.0.0.1:{attacked.port}") == "tried"
    if way in LEAVING:
        time.sleep(0.4)
        browser.get("about:blank")
    assert state(attacked) == before
    assert attacked.get("/proxies/p/toxics")[0]["name"] == "kept"
    own = browser.current_window_handle
    for handle in browser.window_handles:
        if handle != own:
            browser.switch_to.window(handle)
            browser.close()
    browser.switch_to.window(own)


def test_the_ways_would_work_from_the_page_of_the_server(browser: Any, run_paged: Any) -> None:
    """The attacks are real ones: what they send is taken from the server's own page."""
    with run_paged(True, "--page") as toxi:
        toxi.create(name="p", enabled=False)
        browser.get(f"http://127.0.0.1:{toxi.port}/")
        for way in ("fetch-text", "fetch-delete"):
            browser.execute_async_script(SETUP + WAYS[way], f"http://127.0.0.1:{toxi.port}")
        assert list(toxi.get("/proxies")) == ["evil"]


MARKUP = (
    '<img src=x onerror="document.title=1">',
    "<script>document.title=1</script>",
    "\"><svg onload='document.title=1'>",
    "&lt;b&gt;&amp;",
    "javascript:document.title=1",
)


def test_names_with_markup_are_shown_as_text(browser: Any, run_paged: Any, peers: Any) -> None:
    with run_paged(True, "--page") as toxi:
        toxi.create(peers.address, name="proxy")
        for name in MARKUP:
            toxi.create(peers.address, name=name)
            toxi.toxic("latency", name=name, proxy="proxy")
        toxi.toxic("reject_upgrade", name="r", proxy="proxy", attributes={"body": MARKUP[0]})
        browser.get(f"http://127.0.0.1:{toxi.port}/")
        deadline = time.monotonic() + 10
        shown = ""
        while not all(name in shown for name in MARKUP):
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
            shown = browser.find_element("tag name", "body").text
        toxi.create(name=MARKUP[1] * 2)  # told as an event
        time.sleep(0.5)
        assert browser.title == "trio-chaos: proxies"
        assert (
            browser.execute_script(
                "return document.querySelectorAll('main img, main svg, main script, main b, #log script').length"
            )
            == 0
        )
