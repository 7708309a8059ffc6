"""Decisions through a live gateway: what callers read, holds and their release, the end of sessions and tokens."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hopgate.approvals import Approvals
from hopgate.store import Store
from rules.model import Principal
from tests.addons.live import SECRET, Gateway, Reply, quiet
from tests.addons.origin import Connection, Origin, response

REVIEWER = Principal("local", "reviewer-1", frozenset({"finance"}), expires_at=time.time() + 3600, token_id="r" * 64)


def beside(gateway: Gateway, work: Callable[[Store, Approvals], Coroutine[Any, Any, Any]]) -> Any:
    """Do `work` on the gateway's state from another process's point of view."""

    async def run() -> Any:
        config = gateway.config
        store = await Store.open(config.state)
        try:
            return await work(store, Approvals(store, config.approvals, process="test", epoch="test"))
        finally:
            await store.close()

    return asyncio.run(run())


def decide(gateway: Gateway, approval: str, verdict: Any, comment: str = "") -> None:
    beside(gateway, lambda _, approvals: approvals.decide(approval, REVIEWER, verdict, comment=comment))


def refund(gateway: Gateway, number: int, headers: bytes = b"", body: bytes = b'{"amount":5}', credential: bytes | None = None) -> Reply:
    return gateway.request(
        "POST",
        f"http://api.test/refunds/{number}",
        headers=b"Content-Type: application/json\r\n" + headers,
        body=body,
        credential=credential,
    )


def test_a_denial_says_why(gateway: Gateway, origin: Origin) -> None:
    problem = gateway.get("http://api.test/admin/x").problem
    assert problem["detail"] == "admins only"
    assert problem["rule"] == "no-admin"
    assert problem["operation"].startswith(problem["session"])
    assert any(line.get("operation") == problem["operation"] and line["effect"] == "deny" for line in gateway.ledger())


def test_a_refused_session_says_why(gateway: Gateway) -> None:
    problem = gateway.get("http://closed.test/").problem
    assert (problem["type"].rpartition(":")[2], problem["detail"]) == ("session-refused", "nobody opens this")


def test_who_is_in_no_group_has_no_session(gateway: Gateway, origin: Origin) -> None:
    stranger = b"Proxy-Authorization: Bearer " + gateway.token("stranger", "others").encode() + b"\r\n"
    assert gateway.get("http://api.test/items", credential=stranger).status == 403
    assert bytes(origin.seen) == b""


def test_a_refusal_before_any_session_is_in_the_ledger(gateway: Gateway) -> None:
    assert gateway.get("http://nowhere-else.test/").status == 403
    found = lambda: [line for line in gateway.ledger() if line["event"] == "refused" and "nowhere-else.test:80" in line["title"]]  # noqa: E731
    assert gateway.eventually(lambda: len(found()) == 1)
    assert found()[0]["subject"] == "agent-1"


def test_who_is_not_known_learns_nothing_of_what_is_configured(gateway: Gateway) -> None:
    for url in ("http://api.test/", "http://nowhere.test/", "http://127.0.0.1/"):
        assert gateway.get(url, credential=b"").status == 407
        assert gateway.get(url, credential=b"Proxy-Authorization: Bearer x.y.z\r\n").status == 407


# --- holds


def test_a_held_request_is_pending_then_passes_once(gateway: Gateway, origin: Origin) -> None:
    pending = refund(gateway, 1, b"Prefer: respond-async\r\n")
    problem = pending.problem
    assert problem["type"].endswith(":pending")
    assert int(pending.headers["retry-after"]) > 0
    assert refund(gateway, 1, b"Prefer: wait=0\r\n").problem["approval"] == problem["approval"]
    assert bytes(origin.seen) == b""
    decide(gateway, problem["approval"], "approve")
    assert refund(gateway, 1).status == 200
    assert [path for path, _ in origin.requests] == ["/refunds/1"]
    assert b"Prefer" not in origin.seen
    again = refund(gateway, 1, b"Prefer: wait=0\r\n").problem
    assert again["approval"] != problem["approval"]
    assert len(origin.requests) == 1


@pytest.mark.parametrize("change", ["body", "header", "principal"])
def test_an_approval_is_for_the_exact_request_of_that_caller(gateway: Gateway, origin: Origin, change: str) -> None:
    number = {"body": 21, "header": 22, "principal": 23}[change]
    approval = refund(gateway, number, b"Prefer: wait=0\r\n").problem["approval"]
    decide(gateway, approval, "approve")
    other = b"Proxy-Authorization: Bearer " + gateway.token("agent-2").encode() + b"\r\n"
    no_wait = b"Prefer: wait=0\r\n"
    reply = {
        "body": lambda: refund(gateway, number, no_wait, body=b'{"amount":6}'),
        "header": lambda: refund(gateway, number, no_wait + b"X-Account: other\r\n"),
        "principal": lambda: refund(gateway, number, no_wait, credential=other),
    }[change]()
    assert reply.problem["type"].endswith(":pending")
    assert bytes(origin.seen) == b""


def test_a_waiting_request_is_released_by_the_decision(gateway: Gateway, origin: Origin) -> None:
    for number in (3, 31, 32):  # on a loaded machine the reviewer may be slower than the second that the gateway waits
        approval = refund(gateway, number, b"Prefer: wait=0\r\n").problem["approval"]
        reviewer = threading.Timer(0.2, decide, (gateway, approval, "approve"))
        reviewer.start()
        reply = refund(gateway, number)
        reviewer.join()
        if reply.status == 200:
            break
    assert reply.status == 200
    assert len(origin.requests) == 1


def test_a_denied_approval_says_so(gateway: Gateway, origin: Origin) -> None:
    for number in (4, 41, 42):  # on a loaded machine the reviewer may be slower than the second that the gateway waits
        approval = refund(gateway, number, b"Prefer: wait=0\r\n").problem["approval"]
        threading.Timer(0.2, decide, (gateway, approval, "deny", "ask billing first")).start()
        problem = refund(gateway, number).problem
        if not problem["type"].endswith(":pending"):
            break
    assert problem["type"].endswith(":denied")
    assert "ask billing first" in problem["detail"]
    assert bytes(origin.seen) == b""


def test_who_left_while_waiting_is_not_served_after_approval(gateway: Gateway, origin: Origin) -> None:
    approval = refund(gateway, 5, b"Prefer: wait=0\r\n").problem["approval"]
    with gateway.connect() as client:
        body = b'{"amount":5}'
        client.send(
            b"POST http://api.test/refunds/5 HTTP/1.1\r\nHost: api.test\r\nContent-Type: application/json\r\n"
            + gateway.credential
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        time.sleep(0.3)
    time.sleep(0.1)
    decide(gateway, approval, "approve")
    time.sleep(0.3)
    assert bytes(origin.seen) == b""
    # the approval outlives the connection: the same request, repeated, goes through
    assert refund(gateway, 5).status == 200


def test_other_requests_go_on_while_one_is_held(gateway: Gateway, origin: Origin) -> None:
    for _ in range(10):  # on a busy machine the second that the one is held may be over before the other is answered
        with gateway.connect() as held:
            held.send(b"POST http://api.test/refunds/6 HTTP/1.1\r\nHost: api.test\r\n" + gateway.credential + b"Content-Length: 0\r\n\r\n")
            assert gateway.get("http://api.test/items").status == 200
            still_held = quiet(held.sock, 0)
            assert held.read().problem["type"].endswith(":pending")
        if still_held:
            return
    pytest.fail("the other request waited for the one that is held")


# --- the end


def fresh(gateway: Gateway, subject: str, **more: Any) -> bytes:
    return b"Proxy-Authorization: Bearer " + gateway.token(subject, **more).encode() + b"\r\n"


def test_a_revoked_token_ends(gateway: Gateway, origin: Origin) -> None:
    from hopgate.tokens import token_id

    token = gateway.token("revoked-1")
    credential = b"Proxy-Authorization: Bearer " + token.encode() + b"\r\n"
    assert gateway.get("http://api.test/items", credential=credential).status == 200
    beside(gateway, lambda store, _: store.revoke(token_id(token), time.time() + 3600, "test"))
    assert gateway.eventually(lambda: gateway.get("http://api.test/items", credential=credential).status == 407)


def test_a_tunnel_ends_with_its_token(gateway: Gateway, origin: Origin) -> None:
    from hopgate.tokens import token_id

    token = gateway.token("revoked-2")
    credential = b"Proxy-Authorization: Bearer " + token.encode() + b"\r\n"
    with gateway.connect() as client:
        client.send(b"CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\nProxy-Authorization: Bearer " + token.encode() + b"\r\n\r\n")
        assert client.read().status == 200
        client.send(b"GET /items HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert client.read().status == 200
        beside(gateway, lambda store, _: store.revoke(token_id(token), time.time() + 3600, "test"))
        assert gateway.eventually(lambda: gateway.get("http://api.test/items", credential=credential).status == 407)
        origin.clear()
        try:
            client.send(b"GET /items HTTP/1.1\r\nHost: api.test\r\n\r\n")
            assert client.read().status == 0
        except OSError:
            pass  # closed already
    assert bytes(origin.seen) == b""


def test_a_killed_session_drops_its_connections(gateway: Gateway, origin: Origin) -> None:
    with gateway.connect(4) as client:
        client.send(b"GET http://api.test/items HTTP/1.1\r\nHost: api.test\r\n" + fresh(gateway, "killed-1") + b"\r\n")
        assert client.read().status == 200
        beside(gateway, lambda store, _: store.lock("subject", "local:killed-1", "test", "enough"))
        assert client.sock.recv(1) == b""


def test_an_expired_token_is_refused(gateway: Gateway, origin: Origin) -> None:
    from hopgate.tokens import issue_token

    old = issue_token(gateway.config, "late", ["agents"], 60, now=time.time() - 3600)
    reply = gateway.get("http://api.test/items", credential=b"Proxy-Authorization: Bearer " + old.encode() + b"\r\n")
    assert reply.status == 407
    assert "expired" in reply.problem["detail"]
    assert bytes(origin.seen) == b""


def test_a_token_bound_elsewhere_is_refused(gateway: Gateway, origin: Origin) -> None:
    assert gateway.get("http://api.test/items", credential=fresh(gateway, "bound", peer="10.0.0.0/8")).status == 407
    assert gateway.get("http://api.test/items", credential=fresh(gateway, "bound", peer="127.0.0.0/8")).status == 200


def test_basic_works_with_any_user(gateway: Gateway, origin: Origin) -> None:
    import base64

    for user in ("agent", "x", ""):
        given = base64.b64encode(f"{user}:{gateway.token()}".encode())
        assert gateway.get("http://api.test/items", credential=b"Proxy-Authorization: Basic " + given + b"\r\n").status == 200


def test_the_challenge_names_both_schemes(gateway: Gateway) -> None:
    raw = gateway.get("http://api.test/items", credential=b"").raw
    assert b'Proxy-Authenticate: Basic realm="hopgate"' in raw
    assert b'Proxy-Authenticate: Bearer realm="hopgate"' in raw


# --- the token endpoint


TYPE = b"urn%3Aietf%3Aparams%3Aoauth%3A"
FORM = b"grant_type=" + TYPE + b"grant-type%3Atoken-exchange&subject_token_type=" + TYPE + b"token-type%3Ajwt&subject_token="


def exchange(gateway: Gateway, form: bytes) -> Reply:
    with gateway.connect() as client:
        head = b"POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        client.send(head + b"Content-Length: %d\r\n\r\n" % len(form) + form)
        return client.read()


def test_a_token_is_exchanged_for_a_short_one(gateway: Gateway, origin: Origin) -> None:
    reply = exchange(gateway, FORM + gateway.token("short").encode())
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    short = json.loads(reply.body)["access_token"]
    assert gateway.get("http://api.test/items", credential=b"Proxy-Authorization: Bearer " + short.encode() + b"\r\n").status == 200
    assert short.encode() not in gateway.everything_written()


@pytest.mark.parametrize("form", [b"", b"grant_type=password", FORM, FORM + b"x.y.z", b"\xff"])
def test_a_bad_exchange_is_refused_as_oauth_does(gateway: Gateway, form: bytes) -> None:
    reply = exchange(gateway, form)
    assert reply.status == 400
    assert "error" in json.loads(reply.body)


# --- the target


def test_a_target_that_is_not_there(gateway: Gateway) -> None:
    reply = gateway.get("http://dead.test/")
    assert reply.problem["status"] == 502
    assert "127.0.0.1" not in reply.body.decode()


def test_a_target_that_hangs_up(gateway: Gateway, origin: Origin) -> None:
    def hang_up(connection: Connection) -> None:
        connection.sock.close()

    origin.answers["/gone"] = hang_up
    assert gateway.get("http://api.test/gone").problem["status"] == 502


def test_the_credential_goes_to_its_own_target_only(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/items"] = response()
    gateway.get("http://other.test/items")
    assert SECRET.encode() not in origin.seen
    gateway.get("http://api.test/items")
    assert SECRET.encode() in origin.seen
