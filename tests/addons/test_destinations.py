"""Authorities to connections, names to checked addresses, and the guard on every dial."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy.test import tflow

from addons.destinations import Destinations, PinnedHost, check_address, normalised
from hopgate.config import ConnectionConfig
from hopgate.errors import Denied, Misconfigured, Unavailable


def connection(name: str, target: str, *hosts: str, **more: Any) -> ConnectionConfig:
    return ConnectionConfig(name=name, kind="http", target=target, hosts=hosts, **more)


API = connection("api", "http://10.0.0.5:8080", "api.test:8080", "API.example")
WILD = connection("wild", "https://gate.corp.example", "*.corp.example:443")
DEEP = connection("deep", "https://deep.corp.example", "*.deep.corp.example:443")
EXACT = connection("exact", "https://10.1.1.1", "one.corp.example:443")


def destinations(*addresses: str) -> Destinations:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return Destinations([API, WILD, DEEP, EXACT], resolve)


@pytest.mark.parametrize(
    ("host", "port", "found"),
    [
        ("api.test", 8080, "api"),
        ("API.Test", 8080, "api"),
        ("api.test.", 8080, "api"),
        ("api.test", 80, None),
        ("api.example", 80, "api"),
        ("api.example", 443, "api"),
        ("api.example", 8080, None),
        ("x.corp.example", 443, "wild"),
        ("x.deep.corp.example", 443, "deep"),
        ("one.corp.example", 443, "exact"),
        ("corp.example", 443, None),
        ("evilcorp.example", 443, None),
        ("x.corp.example.evil.test", 443, None),
        ("10.0.0.5", 8080, None),
        ("169.254.169.254", 80, None),
    ],
)
def test_the_authority_names_the_connection(host: str, port: int, found: str | None) -> None:
    route = destinations().find(host, port)
    assert (route.connection.name if route else None) == found


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.1", "1.2.3.256"),
        *("", ".", "a..b", "a b", "a%2eb", "[::1", "::1%eth0", "ex\0ample", "x" * 254),
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError):
        destinations().find(host, 80)


@pytest.mark.parametrize(
    ("host", "same"),
    [
        ("EXAMPLE.com", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
    ],
)
def test_one_form_for_every_spelling(host: str, same: str) -> None:
    assert normalised(host) == same


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_normalising_is_stable(host: str) -> None:
    try:
        once = normalised(host)
    except ValueError:
        return
    assert normalised(once) == once
    assert once == once.lower()


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("8.8.8.8", True),
        ("fd00::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("::", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("not an address", False),
    ],
)
async def test_only_checked_addresses_are_dialled(address: str, allowed: bool) -> None:
    table = destinations(address)
    route = table.find("x.corp.example", 443)
    assert route is not None
    if not allowed:
        with pytest.raises(Denied):
            await table.pin(route)
        assert table.pinned(route) is None
        return
    pin = await table.pin(route)
    assert str(pin) == address
    assert pin.server_name == "gate.corp.example"
    assert table.pinned(route) is pin


async def test_one_forbidden_address_among_several_refuses_the_name() -> None:
    table = destinations("10.0.0.1", "169.254.169.254")
    route = table.find("x.corp.example", 443)
    assert route is not None
    with pytest.raises(Denied):
        await table.pin(route)


async def test_a_name_is_resolved_once_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["10.0.0.1"] if len(asked) == 1 else ["10.0.0.66"]

    table = Destinations([WILD], resolve)
    route = table.find("x.corp.example", 443)
    assert route is not None
    assert str(await table.pin(route)) == str(await table.pin(route)) == "10.0.0.1"
    assert asked == ["gate.corp.example"]


@pytest.mark.parametrize("error", [OSError(), TimeoutError(), None])
async def test_a_name_that_does_not_resolve(error: Exception | None) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        if error is not None:
            raise error
        return []

    table = Destinations([WILD], resolve)
    route = table.find("x.corp.example", 443)
    assert route is not None
    with pytest.raises(Unavailable):
        await table.pin(route)


def pin(address: str = "10.0.0.5", **more: Any) -> PinnedHost:
    return PinnedHost(address, **{"connection": "api", "server_name": "10.0.0.5", "ca": None, **more})


@pytest.mark.parametrize("other", [pin(connection="b"), pin(server_name="b"), pin(ca="b"), pin("10.0.0.6"), "10.0.0.5", None])
def test_a_pin_equals_only_itself(other: object) -> None:
    """mitmproxy takes an upstream connection again when its address is equal."""
    assert (pin(), 80) == (pin(), 80)
    assert hash(pin()) == hash(pin())
    assert (pin(), 80) != (other, 80)
    assert (other, 80) != (pin(), 80)


@pytest.mark.parametrize("address", [("10.0.0.5", 80), ("api.test", 80), None])
def test_a_dial_that_was_not_pinned_is_refused(address: Any) -> None:
    server = tflow.tserver_conn()
    server.address = address
    destinations().server_connect(SimpleNamespace(client=tflow.tclient_conn(), server=server))
    assert server.error


def test_a_pinned_dial_passes_and_names_the_target() -> None:
    server = tflow.tserver_conn()
    server.address, server.via, server.error = (pin(server_name="gate.corp.example"), 443), None, None
    destinations().server_connect(SimpleNamespace(client=tflow.tclient_conn(), server=server))
    assert server.error is None
    assert server.sni == "gate.corp.example"


def test_a_dial_through_another_proxy_is_refused() -> None:
    server = tflow.tserver_conn()
    server.address, server.via = (pin(), 443), ("https", ("evil.test", 443))
    destinations().server_connect(SimpleNamespace(client=tflow.tclient_conn(), server=server))
    assert server.error


async def test_after_a_failed_dial_the_next_address_is_tried() -> None:
    table = destinations("10.0.0.1", "10.0.0.2")
    route = table.find("x.corp.example", 443)
    assert route is not None
    first = await table.pin(route)
    server = tflow.tserver_conn()
    server.address = (first, 443)
    table.server_connect_error(SimpleNamespace(client=tflow.tclient_conn(), server=server))
    assert str(table.pinned(route)) == "10.0.0.2"


def test_tls_without_a_pin_is_refused() -> None:
    data = SimpleNamespace(conn=tflow.tserver_conn(), context=None, ssl_conn=object())
    destinations().tls_start_server(data)
    assert data.ssl_conn is None


def test_one_authority_has_one_connection() -> None:
    with pytest.raises(Misconfigured):
        Destinations([API, connection("b", "http://10.0.0.6", "api.test:8080")])


@pytest.mark.parametrize(
    ("how", "target", "header"),
    [
        ("auto", "http://10.0.0.5:8080", None),
        ("auto", "https://api.test", None),
        ("auto", "https://real.example", b"real.example"),
        ("auto", "http://real.example:8080", b"real.example:8080"),
        ("client", "https://real.example", None),
        ("target", "http://10.0.0.5:8080", b"10.0.0.5:8080"),
        ("target", "https://[fd00::1]", b"[fd00::1]"),
    ],
)
def test_the_host_header(how: Any, target: str, header: bytes | None) -> None:
    route = Destinations([connection("api", target, "api.test:443", host_header=how)]).find("api.test", 443)
    assert route is not None
    assert route.host_header == header


def test_a_checked_address_is_in_one_form() -> None:
    route = destinations().find("x.corp.example", 443)
    assert route is not None
    assert check_address("FD00:0::1", route) == "fd00::1"
