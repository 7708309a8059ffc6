"""The credential on its way: in place of the caller's own, to its own target only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.test import tflow

from addons.destinations import Destinations, PinnedHost
from addons.exchange import Exchange, Fields
from addons.inject import inject
from hopgate.config import ConnectionConfig
from hopgate.credentials import Lease
from hopgate.errors import Denied

CONNECTION = ConnectionConfig(name="api", kind="http", target="https://real.example:8443", hosts=("api.test:80",))
PIN = PinnedHost("10.0.0.5", connection="api", server_name="real.example", ca=None)
HOST = (b"Host", b"api.test")


def injected(fields: Fields, *, path: bytes = b"/x", pin: PinnedHost = PIN, session: str = "api", **lease: Any) -> Any:
    exchange = Exchange()
    exchange.connection = CONNECTION
    exchange.route = Destinations([CONNECTION]).find("api.test", 80)
    exchange.session = SimpleNamespace(connection=SimpleNamespace(name=session))  # type: ignore[assignment]
    exchange.client_fields = fields
    exchange.lease = Lease("api", 1, **lease) if lease else None
    flow = tflow.tflow()
    flow.request.data.path = path
    inject(flow, exchange, pin)
    return flow.request.data


def test_the_callers_credentials_go_and_ours_come() -> None:
    fields = (
        HOST,
        (b"authorization", b"a"),
        (b"Authorization", b"b"),
        (b"Cookie", b"c"),
        (b"X-Key", b"d"),
        (b"x-key", b"e"),
        (b"X-Other", b"f"),
    )
    data = injected(fields, headers={"Authorization": "Bearer ours", "X-Key": "k"})
    sent = [(name.lower(), value) for name, value in data.headers.fields]
    assert sorted(value for name, value in sent if name in (b"authorization", b"x-key")) == [b"Bearer ours", b"k"]
    assert b"cookie" not in dict(sent)
    assert dict(sent)[b"x-other"] == b"f"


def test_where_the_connection_has_no_credential_the_callers_own_is_sent() -> None:
    fields = dict(injected((HOST, (b"Authorization", b"a"), (b"Cookie", b"c"))).headers.fields)
    assert (fields[b"Authorization"], fields[b"Cookie"]) == (b"a", b"c")


def test_the_request_goes_to_the_pinned_address_of_the_target() -> None:
    data = injected((HOST,))
    assert (data.scheme, data.host, data.port, data.authority) == (b"https", PIN, 8443, b"")
    assert dict(data.headers.fields)[b"Host"] == b"real.example:8443"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (b"/x", b"/x?key=s%26t"),
        (b"/x?a=1", b"/x?a=1&key=s%26t"),
        (b"/x?key=mine&a=1&key=mine", b"/x?a=1&key=s%26t"),
        (b"/x?", b"/x?key=s%26t"),
        (b"/x?%6bey=mine&%6B%65%79&a=1", b"/x?a=1&key=s%26t"),
        (b"/x?a=1;b=2", b"/x?a=1;b=2&key=s%26t"),
    ],
)
def test_a_credential_in_the_query(path: bytes, sent: bytes) -> None:
    assert injected((HOST,), path=path, query={"key": "s&t"}).path == sent


@pytest.mark.parametrize("path", [b"/x?a=1;key=mine", b"/x?a=1;k%65y=mine", b"/x?a;key;b"])
def test_a_credential_in_the_query_is_not_shadowed_behind_a_semicolon(path: bytes) -> None:
    with pytest.raises(Denied):
        injected((HOST,), path=path, query={"key": "s&t"})


@pytest.mark.parametrize("name", [b"X_Key", b"x_key", b"AUTHORIZATION", b"Proxy", b"proxy"])
def test_no_other_spelling_of_ours_goes_along(name: bytes) -> None:
    """For CGI and WSGI `X_Key` is `X-Key`; `Proxy` would set the target's own proxy."""
    data = injected((HOST, (name, b"mine")), headers={"X-Key": "k"})
    assert b"mine" not in dict(data.headers.fields).values()
    assert (b"X-Key", b"k") in data.headers.fields


@pytest.mark.parametrize("wrong", ["pin", "session"])
def test_a_credential_never_goes_to_another_connection(wrong: str) -> None:
    other = PinnedHost("10.0.0.5", connection="other", server_name="real.example", ca=None)
    with pytest.raises(Denied):
        injected(
            (HOST,), pin=other if wrong == "pin" else PIN, session="other" if wrong == "session" else "api", headers={"Authorization": "x"}
        )
