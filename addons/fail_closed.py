"""Any exception in a hook refuses: mitmproxy itself would log it and let the flow go on unchanged.

`REFUSALS` says for each hook how to make sure that nothing passes. The decorator `fail_closed` applies it to our own hooks;
`addons.dispatch` applies it to every addon's.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from mitmproxy import connection, http
from mitmproxy.proxy import commands, events, layer

from addons import problems
from addons.exchange import begin, find, refuse
from addons.transports import close_client, kill

_log = logging.getLogger("hopgate.addons")


class Closed(layer.Layer):
    """A layer that hangs up on the client at its first sign of life and forwards nothing."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start | events.DataReceived):
            yield commands.CloseConnection(self.context.client)


def _request(flow: http.HTTPFlow) -> None:
    refuse(flow, problems.failed(), "gateway failed")


def _connect(flow: http.HTTPFlow) -> None:
    refuse(flow, problems.failed(502), "gateway failed")


def _responseheaders(flow: http.HTTPFlow) -> None:
    # mitmproxy would append the target's body to a response put in place here
    (find(flow) or begin(flow)).refused = "gateway failed"
    kill(flow)


def _response(flow: http.HTTPFlow) -> None:
    streamed = flow.response is not None and bool(flow.response.stream)
    refuse(flow, problems.failed(502), "gateway failed")
    if streamed or flow.websocket is not None:
        flow.websocket = None
        kill(flow)


def _close_flow(flow: Any) -> None:
    close_client(flow.client_conn)


def _websocket_message(flow: http.HTTPFlow) -> None:
    if flow.websocket is not None and flow.websocket.messages:
        message = flow.websocket.messages[-1]
        message.content = b""
        message.drop()
    close_client(flow.client_conn)


def _message(flow: Any) -> None:
    if flow.messages:
        flow.messages[-1].content = b""
    close_client(flow.client_conn)


def _client(client: connection.Client) -> None:
    client.error = "refused"


def _server_connect(data: Any) -> None:
    data.server.error = "refused"


def _server(data: Any) -> None:
    data.server.error = "refused"
    close_client(data.client)


def _next_layer(data: layer.NextLayer) -> None:
    data.layer = Closed(data.context)


def _tls_start(data: Any) -> None:
    data.ssl_conn = None  # mitmproxy fails the handshake


def _tls(data: Any) -> None:
    if hasattr(data, "ignore_connection"):
        data.ignore_connection = False
    close_client(data.context.client)


def _dns(flow: Any) -> None:
    flow.error = None
    kill(flow)
    close_client(flow.client_conn)


def _socks(data: Any) -> None:
    data.valid = False


def _nothing_passes_any_more(data: Any) -> None:
    """The hook reports an end; there is nothing left to stop."""


REFUSALS: dict[str, Callable[[Any], None]] = {
    "client_connected": _client,
    "client_disconnected": _nothing_passes_any_more,
    "server_connect": _server_connect,
    "server_connected": _server,
    "server_connect_error": _nothing_passes_any_more,
    "server_disconnected": _nothing_passes_any_more,
    "http_connect": _connect,
    "http_connected": _close_flow,
    "http_connect_error": _close_flow,
    "http_connect_upstream": _close_flow,
    "requestheaders": _request,
    "request": _request,
    "responseheaders": _responseheaders,
    "response": _response,
    "error": _close_flow,
    "websocket_start": _close_flow,
    "websocket_message": _websocket_message,
    "websocket_end": _close_flow,
    "tcp_start": _close_flow,
    "tcp_message": _message,
    "tcp_end": _nothing_passes_any_more,
    "tcp_error": _nothing_passes_any_more,
    "udp_start": _close_flow,
    "udp_message": _message,
    "udp_end": _nothing_passes_any_more,
    "udp_error": _nothing_passes_any_more,
    "dns_request": _dns,
    "dns_response": _dns,
    "dns_error": _nothing_passes_any_more,
    "next_layer": _next_layer,
    "tls_clienthello": _tls,
    "tls_start_client": _tls_start,
    "tls_start_server": _tls_start,
    "tls_established_client": _tls,
    "tls_established_server": _tls,
    "tls_failed_client": _nothing_passes_any_more,
    "tls_failed_server": _nothing_passes_any_more,
    "quic_start_client": _nothing_passes_any_more,
    "quic_start_server": _nothing_passes_any_more,
    "socks5_auth": _socks,
}
LIFECYCLE = frozenset({"load", "configure", "running", "done", "update"})  # raise at start, carry no traffic afterwards

on_failure: list[Callable[[str], None]] = []  # told the hook's name; the gate counts them


def refuse_event(hook: str, data: Any, error: BaseException) -> None:
    """Make sure that nothing passes after `error` in `hook`. Never raises."""
    # only the type: the text of an unexpected error may quote a token or a body
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno}" if where is not None else "?"
    _log.error("hook %s failed and refused: %s at %s", hook, type(error).__name__, place)
    try:
        REFUSALS[hook](data)
        for tell in on_failure:
            tell(hook)
    except Exception as second:
        _log.critical("hook %s could not refuse: %s; closing the connection", hook, type(second).__name__)
        _last_resort(data)


def _last_resort(data: Any) -> None:
    client = getattr(data, "client_conn", None) or getattr(data, "client", None) or data
    try:
        close_client(client)
    except Exception:
        # not even the connection can be found: a gate that cannot refuse must not stay open
        raise SystemExit(70) from None


def fail_closed[H: Callable[..., Any]](hook: H) -> H:
    """Decorate a hook, sync or async, so that an exception in it refuses. The hook takes one argument besides self."""
    name = hook.__name__
    assert name in REFUSALS, f"{name} is no hook that can refuse"

    if inspect.iscoroutinefunction(hook):

        @functools.wraps(hook)
        async def guarded(self: Any, data: Any) -> None:
            await _finish(name, data, hook(self, data))

    else:

        @functools.wraps(hook)
        def guarded(self: Any, data: Any) -> Any:  # type: ignore[misc]
            # a sync hook may hand back a coroutine for its slow path
            try:
                rest = hook(self, data)
            except Exception as error:
                refuse_event(name, data, error)
                return None
            return None if rest is None else _finish(name, data, rest)

    guarded.fail_closed = True  # type: ignore[attr-defined]
    return guarded  # type: ignore[return-value]


async def _finish(name: str, data: Any, rest: Any) -> None:
    try:
        await rest
    except asyncio.CancelledError as error:
        refuse_event(name, data, error)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except Exception as error:
        refuse_event(name, data, error)
