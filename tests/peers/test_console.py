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


def test_an_approved_delete_goes_on(live: ConsoleStage, alice: Browser) -> None:
    alice.open(f"{live.url}/approvals")
    with live.psql_started(live.token("cleaner", "agents"), "DELETE FROM orders WHERE id = -1") as psql:
        alice.find(".card", "cleaner").find_element("css selector", ".approve").click()
        assert psql.wait(30) == 0


def test_replay_shows_statements_and_masked_results(live: ConsoleStage, alice: Browser) -> None:
    token = live.token("reader", "agents")
    real = live.database.query("SELECT email FROM customers ORDER BY id LIMIT 1").strip()
    assert live.psql(token, "SELECT id, email FROM customers ORDER BY id LIMIT 2").returncode == 0
    assert live.curl(token, "http://billing.internal/v1/customers").stdout.splitlines()[-1] == "200"
    for connection, expected in (("orders-db", "SELECT id, email FROM customers"), ("billing", "/v1/customers")):
        alice.open(f"{live.url}/sessions?principal=local:reader&connection={connection}")
        alice.wait(lambda _: alice.run("return !!document.querySelector('tbody a') || (location.reload(), null)"), "the session")
        alice.click("tbody a")
        alice.find(".timeline", "allow")
        alice.click("a", "Replay")
        alice.find("#recorded", expected)
        page = alice.run("return document.body.innerText")
        assert real not in page
    viewed = [event for event in live.ledger_events("console-*") if event["event"] == "viewed"]
    assert {(event["by"], event["what"]) for event in viewed} >= {("local:alice", "timeline"), ("local:alice", "recording")}


def test_kill_ends_a_session_that_waits(live: ConsoleStage, alice: Browser) -> None:
    alice.open(f"{live.url}/approvals")
    with live.psql_started(live.token("runaway", "agents"), "DELETE FROM orders WHERE id < 2") as psql:
        alice.find(".card", "runaway").find_element("css selector", "a.danger").click()
        alice.find(".struck", "1 live session ends")
        alice.click(".struck button", "End now")
        alice.find(".notice.good", "1 session ends")
        assert psql.wait(30) != 0
        # which of the two psql hears first, that its request or that its session has ended, is nobody's promise
        assert until(lambda: "killed by local:alice" in live.told(psql) or "was cancelled" in live.told(psql)), live.told(psql)
    (ordered,) = [event for event in live.ledger_events("console-*") if event["event"] == "kill_ordered"]
    assert (ordered["by"], len(ordered["sessions"])) == ("local:alice", 1)
    # psql may be gone before the session is: then it was ended by psql's leaving, and the kill had nothing left to do
    assert until(lambda: ordered["value"] in {event["session"] for event in live.ledger_events() if event["event"] == "session_closed"})


def test_a_session_is_followed_while_it_lives(live: ConsoleStage, alice: Browser) -> None:
    token = live.token("worker", "agents")
    assert live.curl(token, "http://billing.internal/v1/customers").stdout.splitlines()[-1] == "200"
    alice.open(f"{live.url}/sessions?principal=local:worker")
    alice.wait(lambda _: alice.run("return !!document.querySelector('tbody a') || (location.reload(), null)"), "the session")
    alice.click("tbody a")
    alice.find(".following")
    assert live.curl(token, "http://billing.internal/v1/customers/2").stdout.splitlines()[-1] == "200"
    alice.find(".timeline", "/v1/customers/2")


def test_hops_rules_and_health_tell_of_this_gateway(live: ConsoleStage, alice: Browser) -> None:
    token = live.token("walker", "agents")
    assert live.curl(token, "http://billing.internal/v1/customers").stdout.splitlines()[-1] == "200"
    assert live.psql(token, "SELECT 1").returncode == 0
    alice.open(f"{live.url}/hops")
    reached = "return ['billing', 'orders-db'].every((each) => document.querySelector('svg.hops')?.textContent.includes(each))"
    alice.wait(lambda _: alice.run(reached) or alice.run("location.reload()"), "both connections in the graph")
    assert "orders-db" in alice.find("svg.hops").text
    alice.find(".fresh-hops", "orders-db")
    alice.open(f"{live.url}/rules")
    alice.find("tr", "delete-orders")
    alice.driver.find_element("id", "x-subject").send_keys("robot")
    alice.driver.find_element("id", "x-groups").send_keys("agents")
    alice.run("document.getElementById('x-connection').value = 'orders-db'")
    alice.driver.find_element("id", "x-text").send_keys("DELETE FROM orders WHERE id = 1")
    alice.click("button", "Explain")
    assert "delete-orders" in alice.find(".answer", "hold").text
    alice.open(f"{live.url}/health")
    for process in ("http-0", "relay-0", "console-0"):
        alice.find("tr", process)
    alice.click("button", "Verify now")
    alice.wait(
        lambda _: alice.run("return document.body.innerText.includes('unaltered') || (location.reload(), null)"), "what verification found"
    )


def test_a_viewer_may_look_and_not_decide(live: ConsoleStage, window: Browser) -> None:
    link = live.link("victor", "finance")  # a reviewer of refunds, and of nothing else
    other = Browser()
    try:
        other.sign_in(link)
        with live.psql_started(live.token("asker", "agents"), "DELETE FROM orders WHERE id < 1"):
            other.open(f"{live.url}/approvals")
            card = other.find(".card", "asker")
            assert "takes the group dba" in card.text
            assert not card.find_elements("css selector", ".approve")
        other.click("button", "Sign out")
        other.find("h1", "Sign in")
    finally:
        other.close()
