"""`/api/v1` against its own OpenAPI document, by schemathesis over a real socket; and what programs rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hopgate.console.api.table import OPERATIONS, PREFIX, Operation, document
from tests.hopgate.console.conftest import console
from tests.hopgate.console.seed import fill
from tests.hopgate.console.served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    it = Served(tmp_path_factory.mktemp("api"))
    try:
        yield it
    finally:
        it.close()


@pytest.fixture(scope="module")
def schema(served: Served) -> Any:
    return schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")


# streams do not end, and a verification is a process of its own
@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if not each.path.endswith("/approvals/events") and (each.method, each.path) != ("POST", "/verify")],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_every_operation_answers_as_it_is_described(operation: Operation, schema: Any, served: Served) -> None:
    cases = schema[PREFIX + operation.path][operation.method].as_strategy()

    # what two fields must be together, JSON Schema does not say; and 3.0 is no integer here
    stricter = [positive_data_acceptance] if operation.method == "POST" else []

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=cases)
    def check(case: Any) -> None:
        case.call_and_validate(headers=served.bearer(), excluded_checks=stricter)

    check()


def test_the_document_describes_every_operation() -> None:
    described = document()
    assert described["openapi"].startswith("3.1")
    assert sum(len(methods) for methods in described["paths"].values()) == len(OPERATIONS)
    for operation in OPERATIONS:
        assert operation.run.__doc__, operation.path


def test_decisions_sessions_and_kill_over_the_api(tmp_path: Path) -> None:
    async def run() -> None:
        async with console(tmp_path, fill=fill) as it:
            headers = it.bearer("alice", "dba", "ops")
            client = it.client
            client.headers.update(headers)
            pending = (await client.get("/api/v1/approvals")).json()["approvals"]
            assert {each["requester"] for each in pending} >= {"local:report-writer", "local:schema-bot"}
            (one,) = [each for each in pending if each["requester"] == "local:report-writer"]
            card = (await client.get(f"/api/v1/approvals/{one['id']}")).json()
            assert card["may_decide"] is True
            assert card["last_actions"][0]["effect"] == "deny"
            seen = {"fingerprint": one["fingerprint"], "version": one["version"]}
            url = f"/api/v1/approvals/{one['id']}/decisions"
            stale = await client.post(url, json={"verdict": "approve", **seen, "version": 99})
            assert (stale.status_code, stale.headers["content-type"]) == (409, "application/problem+json")
            done = await client.post(url, json={"verdict": "approve", **seen, "comment": "fine"})
            assert (done.status_code, done.json()["state"]) == (200, "approved")
            assert [each["id"] for each in (await client.get("/api/v1/grants")).json()["approvals"]] == [one["id"]]
            assert (await client.delete(f"/api/v1/grants/{one['id']}")).status_code == 204
            found = (await client.get("/api/v1/sessions", params={"rule": "no-unbounded-delete", "effect": "deny"})).json()["sessions"]
            assert found
            events = (await client.get(f"/api/v1/sessions/{one['session']}/events", params={"limit": 3})).json()
            assert len(events["events"]) == 3
            more = (await client.get(f"/api/v1/sessions/{one['session']}/events", params={"after": events["after"]})).json()
            assert more["events"][0]["line"] > events["events"][-1]["line"]
            killed = await client.post("/api/v1/kill", json={"kind": "connection", "value": "orders-db"})
            assert one["session"] in killed.json()["sessions"]
            rules = (await client.get("/api/v1/rules")).json()
            assert {each["rule"]: each["matches"] for each in rules["rules"]}["restarts"] == 0
            asked = {"connection": "orders-db", "subject": "x", "groups": ["agents"], "text": "DELETE FROM orders"}
            explained = (await client.post("/api/v1/rules/explain", json=asked)).json()
            assert (explained["effect"], explained["rules"]) == ("deny", ["no-unbounded-delete"])
            assert any(hop["is_new"] for hop in (await client.get("/api/v1/hops", params={"since": 1})).json()["hops"])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"kind": "planet", "value": "x"}', "application/json", 400),
        (b'{"kind": "all", "value": "", "more": 1}', "application/json", 400),
        (b'{"kind": "run", "value": "\\u0000"}', "application/json", 400),
        (b'{"kind": "run", "value": "\\ud800"}', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"kind": "all"}', "text/plain", 415),
        (b'{"kind": "all"}', "application/x-www-form-urlencoded", 415),
        (b'{"kind": "session", "value": "s0"}', "application/json", 404),
        (b'{"kind": "subject", "value": "alice"}', "application/json", 403),
    ],
)
def test_what_is_malformed_is_a_problem(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    async def run() -> httpx.Response:
        async with console(tmp_path) as it:
            headers = {**it.bearer("olga", "ops"), "Content-Type": kind}
            return await it.client.post("/api/v1/kill", content=body, headers=headers)

    answer = asyncio.run(run())
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
