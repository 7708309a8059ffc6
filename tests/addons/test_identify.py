"""Tokens out of headers, and from where they may come in clear text."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy.test import tflow

from addons.destinations import Destinations
from addons.gate import Gate
from addons.identify import Identify, parse_token
from addons.listener import Listener
from hopgate.config import load_config
from rules.model import Principal

BASE = "version: 1\nstate: ./var\nidentity:\n  issuers: [{name: local, local: true}]\n"
OPEN = BASE + 'listen: {http: {address: "10.0.0.2:8080", cleartext: [10.0.0.0/8]}}\n'
TLS = BASE + 'listen: {http: "10.0.0.2:8080"}\ntls: {cert: c.pem, key: k.pem}\n'


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer abc", "abc"),
        (b"Basic " + base64.b64encode(b"agent:abc"), "abc"),
        (b"basic " + base64.b64encode(b":abc"), "abc"),
        (b"Basic " + base64.b64encode(b"a:b:c"), "b:c"),
        (b"Basic " + base64.b64encode(b"a:b%2Ec"), "b.c"),
        (b"Basic " + base64.b64encode(b"agent"), None),
        (b"Basic " + base64.b64encode(b"agent:"), None),
        (b"Basic !!", None),
        (b"Basic " + base64.b64encode("a:ü".encode()), None),
        (b"Digest x", None),
        (b"Bearer", None),
        (b"Bearer a b", None),
        (b"Bearer \xff", None),
        (b"", None),
    ],
)
def test_tokens(value: bytes, token: str | None) -> None:
    assert parse_token(value) == token


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_value_gives_a_plain_token_or_none(value: bytes) -> None:
    for header in (value, b"Basic " + base64.b64encode(value), b"Bearer " + value):
        token = parse_token(header)
        assert token is None or (token.isascii() and token.isprintable() and " " not in token)


def listener(tmp_path: Path, text: str, now: float = 1000.0) -> Listener:
    (tmp_path / "hopgate.yaml").write_text(text)
    gate = Gate(load_config(tmp_path / "hopgate.yaml"))
    gate.services = SimpleNamespace(sessions=SimpleNamespace(clock=lambda: now))  # type: ignore[assignment]
    return Listener(gate)


def client(peer: str) -> Any:
    found = tflow.tclient_conn()
    found.peername, found.error = (peer, 50000), None
    return found


@pytest.mark.parametrize(
    ("text", "peer", "welcome"),
    [
        (OPEN, "10.1.2.3", True),
        (OPEN, "127.0.0.1", True),
        (OPEN, "192.168.1.1", False),
        (OPEN, "::ffff:10.1.2.3", True),
        (OPEN, "8.8.8.8", False),
        (TLS, "8.8.8.8", True),  # and then next_layer wants TLS
    ],
)
def test_who_may_connect(tmp_path: Path, text: str, peer: str, welcome: bool) -> None:
    found = client(peer)
    listener(tmp_path, text).client_connected(found)
    assert (not found.error) == welcome


@pytest.mark.parametrize(
    ("peer", "bound", "lifetime", "encrypted", "allowed"),
    [
        ("127.0.0.1", None, 86400, False, True),
        ("10.1.2.3", None, 600, False, False),
        ("10.1.2.3", "10.1.2.3/32", 600, False, True),
        ("10.1.2.3", "10.1.2.3/32", 3600, False, True),
        ("10.1.2.3", "10.1.2.3/32", 3601, False, False),
        ("10.1.2.3", None, 86400, True, True),
    ],
)
def test_tokens_in_clear_text_are_short_and_bound(
    tmp_path: Path, peer: str, bound: str | None, lifetime: int, encrypted: bool, allowed: bool
) -> None:
    gate = listener(tmp_path, OPEN)
    found = client(peer)
    if encrypted:
        gate._encrypted.add(found.id)
    principal = Principal("local", "a", claims={"iat": 500}, expires_at=500 + lifetime, peer=bound)
    assert gate.allows(found, principal) == allowed


@pytest.mark.parametrize("hook", ["requestheaders", "http_connect"])
def test_without_a_ledger_nobody_is_served(tmp_path: Path, hook: str) -> None:
    """Before anything else, the supervisor's probe included: it stays so until a restart."""
    gate = listener(tmp_path, OPEN).gate
    gate.services = SimpleNamespace(ledger=SimpleNamespace(failed="no space left on device"))  # type: ignore[assignment]
    flow = tflow.tflow()
    getattr(Identify(gate, Destinations(()), Listener(gate)), hook)(flow)
    assert flow.response is not None
    assert flow.response.status_code == 503
    assert b"ledger" in flow.response.content


def test_clear_text_from_elsewhere_is_closed_where_tls_is_configured(tmp_path: Path) -> None:
    from mitmproxy import options
    from mitmproxy.proxy import context, layers
    from mitmproxy.proxy.layers.http import HTTPMode
    from mitmproxy.proxy.layers.modes import HttpProxy

    from addons.fail_closed import Closed

    for peer, closed in (("8.8.8.8", True), ("127.0.0.1", False)):
        found = context.Context(client(peer), options.Options())
        found.client.tls = False
        HttpProxy(found)
        data = SimpleNamespace(context=found, layer=layers.HttpLayer(found, HTTPMode.regular))
        listener(tmp_path, TLS).next_layer(data)  # type: ignore[arg-type]
        assert isinstance(data.layer, Closed) == closed
