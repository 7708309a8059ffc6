"""Every hook of every addon of ours, made to raise: nothing reaches the target, no unmasked byte reaches the client."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import addonmanager, flow, hooks, websocket
from mitmproxy.test import taddons, tflow
from mitmproxy.tools import main as registers_every_hook  # noqa: F401

from addons import chain, fail_closed
from addons.dispatch import Dispatch
from addons.exchange import begin, find
from addons.gate import Gate
from hopgate.config import Config, load_config

CONFIG = """
version: 1
state: ./var
identity:
  issuers: [{name: local, local: true}]
listen: {http: "127.0.0.1:8080"}
connections:
  - {name: api, kind: http, hosts: ["api.test:80"], target: "http://127.0.0.1:1"}
"""
LIFECYCLE = {"load", "configure", "running", "done", "update"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "hopgate.yaml").write_text(CONFIG)
    return load_config(tmp_path / "hopgate.yaml")


def our_hooks(config: Config) -> Iterator[tuple[Any, str]]:
    for addon in chain.build(Gate(config), "gateway.py"):
        for name in hooks.all_hooks:
            if callable(getattr(addon, name, None)) and name not in LIFECYCLE:
                yield addon, name


def broken(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same decorated hook around a body that raises."""
    if inspect.iscoroutinefunction(function):

        async def fails(self: Any, data: Any) -> None:
            raise RuntimeError("hunter2-secret")

    else:

        def fails(self: Any, data: Any) -> None:  # type: ignore[misc]
            raise RuntimeError("hunter2-secret")

    fails.__name__ = function.__name__
    return fail_closed.fail_closed(fails)


def subject(hook: str) -> Any:
    """What mitmproxy passes to `hook`."""
    if hook in ("client_connected", "client_disconnected"):
        return tflow.tclient_conn()
    if hook.startswith("server_"):
        return SimpleNamespace(client=tflow.tclient_conn(), server=tflow.tserver_conn())
    if hook.startswith(("tls_", "quic_")):
        context = SimpleNamespace(client=tflow.tclient_conn(), server=tflow.tserver_conn())
        return SimpleNamespace(conn=context.client, context=context, ssl_conn=object(), ignore_connection=True)
    if hook == "next_layer":
        context = SimpleNamespace(client=tflow.tclient_conn(), layers=[], options=SimpleNamespace())
        return SimpleNamespace(context=context, layer=object())
    if hook == "socks5_auth":
        return SimpleNamespace(client_conn=tflow.tclient_conn(), valid=True)
    if hook.startswith("tcp_"):
        return tflow.ttcpflow()
    if hook.startswith("udp_"):
        return tflow.tudpflow()
    if hook.startswith("dns_"):
        return tflow.tdnsflow()
    found = tflow.twebsocketflow() if hook.startswith("websocket_") else tflow.tflow(resp=hook in ("responseheaders", "response", "error"))
    found.live = True
    found.error = None
    return found


def assert_refused(hook: str, data: Any, closed: list[Any]) -> None:
    """Nothing can pass after `hook` has left `data` like this."""
    match hook:
        case "client_connected":
            assert data.error
        case "server_connect":
            assert data.server.error
        case "http_connect" | "requestheaders" | "request" | "response":
            assert data.response.status_code in (500, 502)
            assert b"hunter2" not in data.response.content
            assert find(data).refused  # type: ignore[union-attr]
        case "responseheaders":
            assert data.error.msg == flow.Error.KILLED_MESSAGE
        case "websocket_message":
            assert data.websocket.messages[-1].dropped
            assert closed == [data.client_conn]
        case "tcp_message" | "udp_message":
            assert data.messages[-1].content == b""
            assert closed == [data.client_conn]
        case "dns_request" | "dns_response":
            assert data.error.msg == flow.Error.KILLED_MESSAGE
        case "next_layer":
            assert isinstance(data.layer, fail_closed.Closed)
        case "tls_start_client" | "tls_start_server":
            assert data.ssl_conn is None
        case "socks5_auth":
            assert data.valid is False
        case "tls_clienthello" | "tls_established_client" | "tls_established_server":
            assert data.ignore_connection is False
            assert closed == [data.context.client]
        case "server_connected":
            assert closed == [data.client]
        case _ if fail_closed.REFUSALS[hook] is fail_closed.REFUSALS["client_disconnected"]:
            assert closed == []  # it tells of an end; nothing is under way
        case _:
            assert closed == [data.client_conn]


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(fail_closed, "close_client", found.append)
    return found


def test_every_hook_of_ours_is_guarded(config: Config) -> None:
    found = list(our_hooks(config))
    assert {"request", "requestheaders", "responseheaders", "response", "error", "http_connect", "next_layer", "server_connect"} <= {
        n for _, n in found
    }
    unguarded = [f"{type(addon).__name__}.{name}" for addon, name in found if not getattr(getattr(addon, name), "fail_closed", False)]
    assert unguarded == []


def test_every_hook_of_mitmproxy_has_a_refusal() -> None:
    assert set(hooks.all_hooks) - LIFECYCLE - {"add_log"} <= set(fail_closed.REFUSALS)


async def test_every_hook_of_ours_refuses_when_it_raises(config: Config, closed: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    for addon, name in our_hooks(config):
        closed.clear()
        hook = broken(inspect.unwrap(getattr(type(addon), name)))
        data = subject(name)
        rest = hook(addon, data)
        if inspect.isawaitable(rest):
            await rest
        assert_refused(name, data, closed)
    assert "hunter2" not in caplog.text
    assert "RuntimeError at test_fail_closed.py" in caplog.text


@pytest.mark.parametrize("hook", sorted(fail_closed.REFUSALS))
async def test_a_hook_of_any_addon_refuses_when_it_raises(hook: str, closed: list[Any]) -> None:
    class Foreign:
        def __init__(self) -> None:
            setattr(self, hook, self._fail)

        def _fail(self, data: Any) -> None:
            raise ValueError("hunter2-secret")

    await _dispatched(hook, Foreign(), closed)


@pytest.mark.parametrize("hook", ["request", "requestheaders", "response", "next_layer", "server_connect"])
async def test_halting_the_chain_refuses_too(hook: str, closed: list[Any]) -> None:
    """AddonHalt would skip the gates that come after the addon that raised it."""

    class Halting:
        def __init__(self) -> None:
            setattr(self, hook, self._halt)

        async def _halt(self, data: Any) -> None:
            from mitmproxy.exceptions import AddonHalt

            raise AddonHalt

    await _dispatched(hook, Halting(), closed)


async def _dispatched(hook: str, addon: Any, closed: list[Any]) -> None:
    with taddons.context() as context:
        manager = addonmanager.AddonManager(context.master)
        manager.add(addon)
        dispatch = Dispatch(manager)
        dispatch.install()
        data = subject(hook)
        event_class = hooks.all_hooks.get(hook)
        if event_class is None:
            pytest.skip(f"this mitmproxy has no hook {hook}")
        await manager.handle_lifecycle(event_class(data))
        assert_refused(hook, data, closed)


async def test_a_slow_path_that_raises_refuses(closed: list[Any]) -> None:
    class Slow:
        @fail_closed.fail_closed
        def request(self, data: Any) -> Any:
            return self._rest(data)

        async def _rest(self, data: Any) -> None:
            raise KeyError("x")

    data = subject("request")
    await Slow().request(data)
    assert_refused("request", data, closed)


def test_a_stream_that_has_begun_is_cut(closed: list[Any]) -> None:
    data = subject("response")
    begin(data)
    data.response.stream = True
    fail_closed.refuse_event("response", data, ValueError())
    assert data.error.msg == flow.Error.KILLED_MESSAGE


def test_a_refusal_that_fails_closes_the_connection(closed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> None:
        raise RuntimeError

    monkeypatch.setitem(fail_closed.REFUSALS, "request", fails)
    data = subject("request")
    fail_closed.refuse_event("request", data, ValueError())
    assert closed == [data.client_conn]


def test_what_cannot_be_refused_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> None:
        raise RuntimeError

    monkeypatch.setitem(fail_closed.REFUSALS, "request", fails)
    monkeypatch.setattr(fail_closed, "close_client", fails)
    with pytest.raises(SystemExit):
        fail_closed.refuse_event("request", subject("request"), ValueError())


def test_websocket_messages_are_dropped(closed: list[Any]) -> None:
    data = subject("websocket_message")
    data.websocket.messages.append(websocket.WebSocketMessage(1, False, b"hunter2-secret"))
    fail_closed.refuse_event("websocket_message", data, ValueError())
    assert data.websocket.messages[-1].content == b""
