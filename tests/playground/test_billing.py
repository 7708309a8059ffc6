"""The API that everything else is demonstrated on: it must refuse without a key and tell the truth in its log."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground import billing

KEY = "bk_" + "live_0123456789abcdef"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[billing.Billing]:
    running = billing.start(KEY, tmp_path / "access.ndjson")
    yield running
    running.shutdown()
    running.server_close()


def call(server: billing.Billing, method: str, path: str, body: object = None, key: str | None = KEY) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", method=method)
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, data, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(("key", "said"), [(None, "missing"), ("guess", "wrong"), ("é", "wrong")])
def test_nothing_is_served_without_the_key(server: billing.Billing, tmp_path: Path, key: str | None, said: str) -> None:
    assert call(server, "GET", "/v1/customers", key=key)[0] == 401
    (line,) = (tmp_path / "access.ndjson").read_text().splitlines()
    assert json.loads(line)["key"] == said


def test_a_refund_changes_the_books(server: billing.Billing, tmp_path: Path) -> None:
    assert json.loads(call(server, "GET", "/v1/refunds")[1]) == {"refunds": []}
    status, text = call(server, "POST", "/v1/refunds", {"customer": 1, "amount": 250})
    assert (status, json.loads(text)) == (201, {"id": "r1", "status": "paid", "customer": 1, "amount": 250})
    assert len(json.loads(call(server, "GET", "/v1/refunds")[1])["refunds"]) == 1
    assert [json.loads(line)["status"] for line in (tmp_path / "access.ndjson").read_text().splitlines()] == [200, 201, 200]


@pytest.mark.parametrize("body", [None, [], {}, {"customer": "x", "amount": 1}])
def test_a_refund_needs_customer_and_amount(server: billing.Billing, body: object) -> None:
    assert call(server, "POST", "/v1/refunds", body)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/customers/1", 200),
        ("GET", "/v1/customers/9", 404),
        ("DELETE", "/v1/customers/1", 200),
        ("GET", "/v1/nothing", 404),
        ("GET", "/admin/users", 200),
        ("POST", "/admin/close-books", 200),
        ("GET", "/v1/api-keys", 200),
    ],
)
def test_resources(server: billing.Billing, method: str, path: str, status: int) -> None:
    assert call(server, method, path)[0] == status


def test_exports_lines_and_streams_events(server: billing.Billing) -> None:
    lines = call(server, "GET", "/v1/export/customers")[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2, 3]
    events = call(server, "GET", "/v1/events")[1].split("\n\n")
    assert [json.loads(event.partition("data: ")[2])["customer"] for event in events if event] == [1, 2, 3]


def test_the_log_never_holds_the_key(server: billing.Billing, tmp_path: Path) -> None:
    assert KEY in call(server, "GET", "/v1/diagnostics")[1]
    assert KEY not in (tmp_path / "access.ndjson").read_text()
