"""The live page in a real browser: Chromium, driven by Selenium."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium comes with the dev extra")

from selenium.webdriver.common.by import By  # noqa: E402 - where there is one
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paged(run_paged: Any) -> Iterator[Any]:
    with run_paged(True, "--page") as toxi:
        yield toxi


class Page:
    """What a user sees and does."""

    def __init__(self, browser: Any, toxi: Any) -> None:
        self._browser = browser
        browser.get_log("browser")  # what was told before
        browser.get(f"http://127.0.0.1:{toxi.port}/")
        self.until(lambda: self.text("state") == "live")

    def text(self, id_: str) -> str:
        return str(self._browser.find_element(By.ID, id_).text)

    def until(self, said: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not said():
            assert time.monotonic() < deadline, self._browser.find_element(By.TAG_NAME, "body").text
            time.sleep(0.02)

    def button(self, text: str) -> Any:
        path = f"//main//button[text()='{text}']"
        self.until(lambda: self._browser.find_elements(By.XPATH, path))
        return self._browser.find_element(By.XPATH, path)

    def field(self, name: str) -> Any:
        return self._browser.find_element(By.CSS_SELECTOR, f"main [name={name}]")

    def hold(self, node: Any) -> Any:
        webdriver.ActionChains(self._browser).click_and_hold(node).perform()
        return webdriver.ActionChains(self._browser).release()

    def complaints(self) -> list[str]:
        return [row["message"] for row in self._browser.get_log("browser")]


@pytest.fixture
def page(browser: Any, paged: Any) -> Iterator[Page]:
    paged.create(name="shown-here")
    yield Page(browser, paged)
    paged.clear()


def toxics(paged: Any) -> list[str]:
    return [toxic["name"] for toxic in paged.get("/proxies/shown-here/toxics")]


def test_a_toxic_is_added_and_removed_by_hand(page: Page, paged: Any) -> None:
    assert "shown-here" in page.text("proxies")
    assert page.text("none") == ""
    attributes = page.field("attributes")
    attributes.clear()
    attributes.send_keys('{"latency": 70}')
    page.button("Add").click()
    page.until(lambda: '{"latency":70,"jitter":0}' in page.text("proxies"))
    assert toxics(paged) == ["latency_downstream"]
    page.until(lambda: "toxic_added" in page.text("log"))
    page.button("Remove").click()
    page.until(lambda: '"jitter":0' not in page.text("proxies"))
    assert toxics(paged) == []
    page.until(lambda: "toxic_removed" in page.text("log"))
    assert page.complaints() == []


def test_a_fault_acts_both_ways_unless_told_otherwise_and_refusals_are_told(
    page: Page, paged: Any
) -> None:
    Select(page.field("type")).select_by_visible_text("idle_timeout")
    assert page.field("attributes").get_attribute("value") == '{"after": "30s"}'
    page.button("Add").click()
    page.until(lambda: toxics(paged) == ["idle_timeout_both"])
    page.button("Add").click()
    page.until(lambda: page.text("error") == "toxic already exists")
    Select(page.field("type")).select_by_visible_text("latency")
    assert page.field("stream").get_attribute("value") == "downstream"


def test_every_toxic_that_it_offers_is_taken_as_it_is_offered(page: Page, paged: Any) -> None:
    words = [option.text for option in Select(page.field("type")).options]
    described = paged.get("/openapi.json")["components"]["schemas"]["ToxicInput"]
    assert words == list(described["discriminator"]["mapping"])
    for number, word in enumerate(words, 1):
        Select(page.field("type")).select_by_visible_text(word)
        page.button("Add").click()
        page.until(lambda number=number: len(toxics(paged)) == number)


def test_a_proxy_is_disabled_and_enabled(page: Page, paged: Any) -> None:
    page.button("Disable").click()
    page.until(lambda: not paged.get("/proxies/shown-here")["enabled"])
    page.button("Enable").click()
    page.until(lambda: paged.get("/proxies/shown-here")["enabled"])


def test_a_connection_is_seen_and_reset(page: Page, paged: Any, peers: Any, wire: Any) -> None:
    paged.do("PATCH", "/proxies/shown-here", {"upstream": peers.address})
    client, _ = peers.warm_pair(wire.port_of(paged.get("/proxies/shown-here")["listen"]))
    name = "{}:{}".format(*client.getsockname())
    page.until(lambda: name in page.text("proxies") and "1 open" in page.text("proxies"))
    page.button("Reset").click()
    assert wire.end_of(client) == "rst"
    page.until(lambda: "0 open" in page.text("proxies"))


def test_a_button_that_is_held_is_still_there_when_it_is_let_go(page: Page, paged: Any) -> None:
    paged.toxic("noop", proxy="shown-here")
    release = page.hold(page.button("Remove"))
    time.sleep(1.5)  # the page asks once a second what there is
    assert toxics(paged) == ["noop_downstream"]
    release.perform()
    page.until(lambda: toxics(paged) == [])


def test_a_page_from_elsewhere_can_neither_read_nor_change(browser: Any, paged: Any) -> None:
    browser.get("data:text/html,elsewhere")
    ask = """const done = arguments[2];
    fetch(arguments[0], arguments[1]).then(answer => done("" + answer.status), refused => done("refused"));"""
    base = f"http://127.0.0.1:{paged.port}"
    told = browser.execute_async_script(ask, f"{base}/proxies", {})
    assert told == "refused"
    body = '{"name": "evil", "upstream": "127.0.0.1:9"}'
    simple = {"method": "POST", "body": body, "mode": "no-cors"}
    browser.execute_async_script(ask, f"{base}/proxies", simple)
    assert paged.get("/proxies") == {}


def test_without_a_proxy_it_says_so(browser: Any, paged: Any) -> None:
    page = Page(browser, paged)
    page.until(lambda: "no proxy yet" in page.text("none"))
