"""Only HTTP and TLS are let in, whatever mitmproxy would choose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import options
from mitmproxy.proxy import context, layers
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.modes import HttpProxy, ReverseProxy, Socks5Proxy, TransparentProxy
from mitmproxy.test import tflow

from addons import tunnels
from addons.exchange import begin
from addons.fail_closed import Closed


def chosen(
    layer: Any, *, outer: Any = HttpProxy, tunnel: bool = True, data: bytes = b"GET / HTTP/1.1", udp: bool = False, mode: Any = None
) -> Any:
    found = context.Context(tflow.tclient_conn(), options.Options())
    found.client.transport_protocol = "udp" if udp else "tcp"
    outer(found)
    if tunnel:
        layers.HttpLayer(found, HTTPMode.regular)
    arguments = [mode or (HTTPMode.transparent if tunnel else HTTPMode.regular)] if layer is layers.HttpLayer else []
    event = SimpleNamespace(context=found, layer=layer(found, *arguments), data_client=lambda: data)
    tunnels.Tunnels().next_layer(event)  # type: ignore[arg-type]
    return event.layer


@pytest.mark.parametrize("layer", [layers.TCPLayer, layers.UDPLayer, layers.DNSLayer, layers.modes.Socks5Proxy])
@pytest.mark.parametrize("tunnel", [True, False])
def test_raw_layers_are_replaced(layer: Any, tunnel: bool) -> None:
    assert isinstance(chosen(layer, tunnel=tunnel), Closed)


@pytest.mark.parametrize("layer", [layers.HttpLayer, layers.ServerTLSLayer])
def test_judged_layers_stay(layer: Any) -> None:
    assert isinstance(chosen(layer), layer)
    assert isinstance(chosen(layers.HttpLayer, tunnel=False), layers.HttpLayer)


@pytest.mark.parametrize("outer", [ReverseProxy, TransparentProxy, Socks5Proxy])
def test_other_modes_are_closed(outer: Any) -> None:
    assert isinstance(chosen(layers.HttpLayer, outer=outer), Closed)


def test_the_proxy_protocol_inside_a_tunnel_is_closed() -> None:
    assert isinstance(chosen(layers.HttpLayer, mode=HTTPMode.regular), Closed)
    assert isinstance(chosen(layers.HttpLayer, tunnel=False, mode=HTTPMode.transparent), Closed)


def test_udp_is_closed() -> None:
    assert isinstance(chosen(layers.HttpLayer, udp=True), Closed)


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"\x05\x01\x00", b"1.0 x y", b""])
def test_what_does_not_begin_like_http_is_closed(data: bytes) -> None:
    assert isinstance(chosen(layers.HttpLayer, data=data), Closed)


def test_no_choice_yet_stays_none() -> None:
    event = SimpleNamespace(context=None, layer=None)
    tunnels.Tunnels().next_layer(event)  # type: ignore[arg-type]
    assert event.layer is None


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_messages_of_raw_flows_are_emptied(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(tunnels, "close_client", closed.append)
    flow: Any = tflow.ttcpflow() if kind == "tcp" else tflow.tudpflow()
    addon: Any = tunnels.Tunnels()
    getattr(addon, f"{kind}_start")(flow)
    getattr(addon, f"{kind}_message")(flow)
    assert flow.messages[-1].content == b""
    assert closed == [flow.client_conn] * 2


def test_a_switch_that_was_refused_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "close_server", lambda *_: None)
    flow = tflow.tflow(resp=True)
    exchange = begin(flow)
    exchange.upgrade, exchange.refused, exchange.client_fields = b"websocket", "denied", ((b"Sec-WebSocket-Version", b"13"),)
    flow.response.status_code = 101  # type: ignore[union-attr]
    flow.response.headers["upgrade"] = "websocket"  # type: ignore[union-attr]
    tunnels.Tunnels().responseheaders(flow)
    assert flow.error is not None
