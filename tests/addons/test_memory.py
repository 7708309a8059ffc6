"""One caller does not fill the gateway's memory for all the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.proxy.layers.http import RequestData, ResponseData
from mitmproxy.test import tflow

from addons import http1, memory
from addons.exchange import Exchange, begin
from addons.memory import Memory
from rules.model import Principal

AGENT, OTHER = Principal("local", "agent-1", token_id="a"), Principal("local", "agent-2")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_HELD", 100)


def exchange_of(principal: Principal | None) -> tuple[Any, Exchange]:
    flow = tflow.tflow()
    exchange = begin(flow)
    exchange.principal = principal
    return flow, exchange


def test_what_a_caller_holds_is_bounded_over_all_of_its_tokens_and_connections() -> None:
    held = Memory()
    assert held.take(*exchange_of(AGENT), 60)
    assert not held.take(*exchange_of(Principal("local", "agent-1", token_id="b")), 41)
    assert held.take(*exchange_of(AGENT), 40)
    assert not held.take(*exchange_of(AGENT), 1)
    assert held.take(*exchange_of(OTHER), 100)
    assert held.take(*exchange_of(None), 1000)


@pytest.mark.parametrize("end", ["response", "error", "client_disconnected"])
def test_what_was_held_is_given_back_once(end: str) -> None:
    held = Memory()
    flow, exchange = exchange_of(AGENT)
    rest = exchange_of(AGENT)
    assert held.take(flow, exchange, 30)
    assert held.take(flow, exchange, 30)
    assert held.take(*rest, 40)
    for _ in range(2):
        getattr(held, end)(flow.client_conn if end == "client_disconnected" else flow)
    assert exchange.held == 0
    assert held.take(*exchange_of(AGENT), 60)
    assert not held.take(*exchange_of(AGENT), 1)


def consume(monkeypatch: pytest.MonkeyPatch, way: Any, event: Any, held: Memory) -> tuple[Any, Exchange, bytearray, list[Any]]:
    flow, exchange = exchange_of(AGENT)
    closed: list[Any] = []
    monkeypatch.setattr(http1, "_memory", lambda: held)
    monkeypatch.setattr(http1, "close_client", closed.append)
    buffer = bytearray(b"before")
    flow.response = None
    assert list(way(SimpleNamespace(flow=flow, request_body_buf=buffer, response_body_buf=buffer), event)) == []
    return flow, exchange, buffer, closed


def test_a_request_beyond_it_is_answered_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, exchange, buffer, closed = consume(monkeypatch, http1._consume_wanted, RequestData(1, b"x" * 101), Memory())
    assert flow.response.status_code == 429
    assert (exchange.refused, bytes(buffer), closed) == ("too much in memory", b"", [])


def test_a_response_beyond_it_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, exchange, buffer, closed = consume(monkeypatch, http1._consume_answered, ResponseData(1, b"x" * 101), Memory())
    assert (exchange.refused, bytes(buffer), closed) == ("too much in memory", b"", [flow.client_conn])
