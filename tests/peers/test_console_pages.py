"""Every page in a real browser, at a desk's width and a phone's, light and dark: screenshots kept, axe asked, keys pressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hopgate.console.served import Served
from tests.peers.browser import SIZES, Browser, absent

pytestmark = [pytest.mark.peer, pytest.mark.skipif(bool(absent()), reason=absent())]
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
PAGES = {
    "approvals": "/approvals",
    "approval": "/approvals/{approval}",
    "past": "/approvals/past",
    "grants": "/grants",
    "sessions": "/sessions",
    "session": "/sessions/{session}",
    "replay": "/sessions/{session}/replay",
    "terminal": "/sessions/{terminal}/replay",
    "hops": "/hops",
    "rules": "/rules",
    "health": "/health",
    "audit": "/audit",
    "stop": "/stop?kind=connection&value=orders-db",
    "login": "/login",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    it = Served(tmp_path_factory.mktemp("pages"))
    try:
        yield it
    finally:
        it.close()


@pytest.fixture(scope="module")
def names(served: Served) -> dict[str, str]:
    import httpx

    found = httpx.get(f"{served.url}/api/v1/approvals", headers=served.bearer()).json()["approvals"]
    of = {each["requester"].partition(":")[2]: each for each in found}
    (terminal,) = [each["session"] for name, each in of.items() if name.startswith("deploy")]
    return {"approval": of["report-writer"]["id"], "session": of["report-writer"]["session"], "terminal": terminal}


@pytest.fixture(scope="module", params=["light", "dark"])
def window(served: Served, request: pytest.FixtureRequest) -> Iterator[Browser]:
    browser = Browser(dark=request.param == "dark")
    browser.scheme = request.param
    try:
        browser.sign_in(served.link("alice", "dba", "ops", "finance"))
        yield browser
    finally:
        browser.close()


def violations(window: Browser) -> list[str]:
    """What axe finds wrong by WCAG 2.2 A and AA."""
    window.run(AXE.read_text())
    script = """
      const done = arguments[arguments.length - 1];
      axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}).then((found) => done(found.violations));
    """
    found: list[Any] = window.driver.execute_async_script(script)
    return [f"{each['id']}: {node['html'][:160]} {node['failureSummary'][:200]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_legible_and_usable_by_all(page: str, served: Served, names: dict[str, str], window: Browser) -> None:
    # dark has other colours and the same layout
    for width, height in SIZES if window.scheme == "light" else SIZES[:1]:
        window.resize(width, height)
        window.open(served.url + PAGES[page].format(**names))
        window.find("h1")
        window.run("document.getAnimations().forEach((each) => each.cancel())")
        if page == "replay":
            window.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        if page == "terminal":
            window.find(".ap-player", "") if width > 500 else window.find(".player")
        window.screenshot(f"{page}-{width}-{window.scheme}")
        assert window.run("return document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        if page != "terminal" or width > 500:
            assert violations(window) == [], f"{page} at {width} in {window.scheme}"
    assert window.complaints == []


def test_keys_alone_are_enough(served: Served, window: Browser) -> None:
    window.resize(*SIZES[0])
    window.open(f"{served.url}/approvals")
    window.find(".card")
    keys = window.driver.switch_to.active_element.send_keys
    window.driver.find_element("tag name", "body").send_keys("j")
    assert window.run("return document.querySelector('.card.current .exact') === document.activeElement")
    reached = set()
    for _ in range(14):
        window.driver.switch_to.active_element.send_keys("\ue004")  # Tab
        active = window.driver.switch_to.active_element
        reached.add(active.get_attribute("value") or active.get_attribute("name") or active.tag_name)
        outline = window.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", active.get_attribute("outerHTML")[:200]
    assert {"approve", "deny", "comment"} <= reached or {"approve", "deny"} <= reached
    assert keys is not None


def test_a_terminal_plays(served: Served, names: dict[str, str], window: Browser) -> None:
    window.resize(*SIZES[0])
    window.open(f"{served.url}/sessions/{names['terminal']}/replay")
    window.find(".ap-player")
    window.run("document.querySelector('.ap-player .ap-overlay-start, .ap-player .ap-start-prompt, .ap-overlay')?.click()")
    window.wait(lambda _: "uptime" in window.run("return document.querySelector('.ap-player').textContent") or None, "the terminal's text")
    assert window.complaints == []
