"""The console in a real browser, in front of a real gateway: what waits is shown, decided, resumed, replayed and killed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from playground.postgres import Postgres
from tests.peers.browser import Browser, absent
from tests.peers.console import ConsoleStage
from tests.peers.live import missing, until

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(bool(absent()), reason=absent()),
    pytest.mark.skipif(missing("curl"), reason="curl is not installed"),
]
REFUND = ("-X", "POST", "-H", "Content-Type: application/json", "http://billing.internal/v1/refunds")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[ConsoleStage]:
    stage = ConsoleStage(tmp_path_factory.mktemp("console"), postgres)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def window(live: ConsoleStage) -> Iterator[Browser]:
    """Alice's window: reviewer of everything, operator."""
    browser = Browser()
    try:
        browser.sign_in(live.link("alice", "dba", "finance", "ops"))
        yield browser
    finally:
        browser.close()


@pytest.fixture
def alice(window: Browser, live: ConsoleStage) -> Iterator[Browser]:
    window.resize(1280, 900)
    assert window.complaints is not None  # what earlier tests left
    yield window
    assert window.complaints == []


def test_a_held_request_appears_without_reload_and_goes_on_when_approved(live: ConsoleStage, alice: Browser) -> None:
    alice.open(f"{live.url}/approvals")
    alice.run("window.loadedOnce = true")
    token = live.token("refunder", "agents", "--claim", "run=ticket-4411")
    with ThreadPoolExecutor(1) as others:
        waiting = others.submit(live.curl, token, *REFUND, body='{"customer": 1, "amount": 940}')
        card = alice.find(".card", "refunder")
        assert "POST" in card.text
        assert "claims run ticket-4411" in card.text
        assert '"amount": 940' in card.text
        assert "refund" in card.find_element("css selector", ".why").text
        assert not waiting.done()
        card.find_element("css selector", ".approve").click()
        answered = waiting.result(30).stdout
    assert answered.splitlines()[-1] == "201"
    assert alice.run("return window.loadedOnce === true")
    alice.find(".card.settled", "refunder")


def test_a_held_delete_is_denied_with_guidance_that_reaches_psql(live: ConsoleStage, alice: Browser) -> None:
    alice.open(f"{live.url}/approvals")
    token = live.token("janitor", "agents")
    before = live.database.checksum()
    with live.psql_started(token, "DELETE FROM orders WHERE id < 3") as psql:
        card = alice.find(".card", "janitor")
        assert "DELETE FROM orders WHERE id < 3" in card.text
        card.find_element("css selector", "textarea").send_keys("archive them first")
        card.find_element("css selector", ".deny").click()
        assert psql.wait(30) != 0
        assert until(lambda: "archive them first" in live.told(psql))
    assert live.database.checksum() == before
    alice.find(".card.settled", "janitor")
