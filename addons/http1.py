"""Repairs to mitmproxy's HTTP/1 wire code, for which it has no hook. Each is small, checked at start, and pinned by a test.

- A message with chunked trailers crashes the connection's layer and leaves the peer hanging: refuse it as a protocol error.
- Heads, chunk headers and pipelined requests are buffered without bound: bound them.
- Bodies have a bound, their number has none: count what is held for each caller.
- The body of a request that is refused already is kept all the same: read it to its end, and drop it.
- Error pages quote what the target sent, unmasked: say only the status.
- A crash of the layers leaves the client hanging: hang up.
- Some servers leave a body unread and take it for the next request, which nobody judged: they get no next request.
- Whether a request was in origin-form is lost before the first hook: remember it.
"""

from __future__ import annotations

import logging
from typing import Any

import h11
from mitmproxy import ctx, http
from mitmproxy.proxy import commands, events, layer, server
from mitmproxy.proxy.layers.http import HttpEvent, HttpStream, RequestData, RequestHeaders, ResponseData, _http1, _http2

from addons import known, problems, token_endpoint
from addons.exchange import find, refuse
from addons.memory import Memory
from addons.transports import close_client
from hopgate.errors import Misconfigured

MAX_HEAD = 256 * 1024  # bytes of a request or response head; nginx allows 32 KiB, tokens may be long
MAX_DROPPED = 64 << 20  # bytes of a refused request's body that are read until its client may see the answer
MAX_PIPELINED = 1 << 20  # bytes that a client may send ahead while its last request is still being decided

_code: Any = _http1  # what it imported is replaced where it looks it up
_read_request_head: Any = _code.http1.read_request_head
_ChunkedReader: Any = _code.ChunkedReader
_server_read_headers = _http1.Http1Server.read_headers
_client_read_headers = _http1.Http1Client.read_headers
_client_send = _http1.Http1Client.send
_wait = _http1.Http1Server.wait
_consume_body = HttpStream.state_consume_request_body
_consume_response = HttpStream.state_consume_response_body
_log_line = server.ConnectionHandler.log


class _Trailerless(_ChunkedReader):  # type: ignore[misc]
    """h11's reader of chunked bodies, refusing the trailer section that mitmproxy cannot relay."""

    def __call__(self, buf: Any) -> Any:
        event = super().__call__(buf)
        if isinstance(event, h11.EndOfMessage) and event.headers:
            raise h11.RemoteProtocolError("trailers are not supported")
        if event is None and len(buf) > MAX_HEAD:
            raise h11.RemoteProtocolError("a chunk header or trailer section is too long")
        return event


def read_request_head(lines: list[bytes]) -> http.Request:
    """Parse a request head, and note on the request whether its target was in origin-form. Raises ValueError."""
    request: Any = _read_request_head(lines)
    if request.data.http_version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise ValueError("not HTTP/1")  # `HTTP/2.0` in a request line makes mitmproxy take the request for one of HTTP/2
    request.origin_form = not request.data.authority
    return request  # type: ignore[no-any-return]


def is_origin_form(request: http.Request) -> bool:
    """True when an HTTP/1 request named no authority in its target. False when unknown: HTTP/2 always names one."""
    return getattr(request, "origin_form", False)


def error_response(status_code: int, message: str = "") -> bytes:
    """The answer to a message that cannot be relayed. `message` may quote the target, so it is not sent."""
    response = problems.problem(
        "upstream" if status_code >= 500 else "bad-request", status_code, _REASONS.get(status_code, "refused"), close=True
    )
    assembled: bytes = _code.http1.assemble_response(response)
    return assembled


def error_page(status_code: int, error: str) -> bytes:
    """The same for HTTP/2."""
    return _REASONS.get(status_code, "refused").encode()


_REASONS = {
    400: "the request is malformed and was not forwarded",
    413: "the request body is larger than the gateway allows",
    502: "the target did not give a usable response",
}


def _bounded(original: Any) -> Any:
    def read_headers(self: _http1.Http1Connection, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        yield from original(self, event)
        if self.request is None and isinstance(self, _http1.Http1Server) and len(self.buf) > MAX_HEAD:
            yield commands.SendData(self.conn, error_response(400))
            yield commands.CloseConnection(self.conn)
            self.state = self.done
        elif isinstance(self, _http1.Http1Client) and self.response is None and len(self.buf) > MAX_HEAD:
            yield from original(self, events.ConnectionClosed(self.conn))
            yield commands.CloseConnection(self.conn)

    return read_headers


def _send_closing(self: _http1.Http1Client, event: HttpEvent) -> layer.CommandGenerator[None]:
    """Tell the target to close behind a request with a body: one that ignores the body must not find another request in it."""
    if isinstance(event, RequestHeaders) and not event.end_stream:
        request = event.request.copy()
        request.headers["Connection"] = "close"
        if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
            request.headers["Transfer-Encoding"] = "chunked"  # from HTTP/2: mitmproxy would send the body with nothing around it
        event = RequestHeaders(event.stream_id, request, event.end_stream, event.replay_flow)
    yield from _client_send(self, event)


def _consume_wanted(self: HttpStream, event: HttpEvent) -> layer.CommandGenerator[None]:
    """Unknown callers could otherwise fill the memory with bodies of requests that have been refused, or with endless forms."""
    exchange = find(self.flow)
    if exchange is not None and isinstance(event, RequestData):
        if exchange.endpoint and not exchange.refused:
            token_endpoint.bound(self.flow, len(self.request_body_buf) + len(event.data))
        if exchange.refused and self.flow.response is not None:
            self.request_body_buf.clear()
            exchange.dropped += len(event.data)
            if exchange.dropped > MAX_DROPPED:
                close_client(self.flow.client_conn)
            return
        if not _memory().take(self.flow, exchange, len(event.data)):
            self.request_body_buf.clear()
            refuse(self.flow, problems.problem("unavailable", 429, _TOO_MUCH, headers={"Retry-After": "5"}), "too much in memory")
            return
    yield from _consume_body(self, event)


def _consume_answered(self: HttpStream, event: HttpEvent) -> layer.CommandGenerator[None]:
    """The same for what targets answer."""
    if isinstance(event, ResponseData):
        exchange = find(self.flow)
        if exchange is not None and not _memory().take(self.flow, exchange, len(event.data)):
            # half of a response is here, and what an answer of ours would be appended to: hang up
            self.response_body_buf.clear()
            exchange.refused = exchange.refused or "too much in memory"
            close_client(self.flow.client_conn)
            return
    yield from _consume_response(self, event)


_TOO_MUCH = "too many bytes of your requests and responses are in the gateway's memory: finish some of them first"


def _memory() -> Memory:
    found: Any = ctx.master.addons.get("hopgate_memory")
    return found  # type: ignore[no-any-return]


def _wait_bounded(self: _http1.Http1Connection, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
    if len(self.buf) > MAX_PIPELINED:
        self.buf = type(self.buf)()
        yield commands.CloseConnection(self.conn)
    else:
        yield from _wait(self, event)


def _log_and_hang_up(self: server.ConnectionHandler, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
    if level < logging.WARNING:
        return  # a line per connection and event, which nobody reads and every request pays for
    if exc_info is not None:
        # the traceback and the exception's text may quote a message; the type and the place do not
        logging.getLogger("hopgate.addons").error("a connection was closed: %s", message.split(":")[0])
        transport = self.transports.get(self.client)
        if transport is not None and transport.handler is not None:
            transport.handler.cancel("crashed")
        return
    _log_line(self, message.split(":")[0], level)


def install() -> None:
    """Put the repairs in place. Raises Misconfigured when mitmproxy no longer has what they replace."""
    wanted = [
        (_http1, "make_error_response"),
        (_http1, "make_body_reader"),
        (_http1, "ChunkedReader"),
        (_http2, "format_error"),
        (HttpStream, "state_consume_request_body"),
        (HttpStream, "state_consume_response_body"),
        (server.ConnectionHandler, "log"),
    ]
    missing = [f"{getattr(owner, '__name__', owner)}.{name}" for owner, name in wanted if not hasattr(owner, name)]
    if missing:
        raise Misconfigured(f"this mitmproxy has no {', '.join(missing)}: install mitmproxy {known.READ}")
    code: Any = _code
    http2: Any = _http2
    handler: Any = server.ConnectionHandler
    code.http1.read_request_head = read_request_head
    code.ChunkedReader = _Trailerless
    code.make_error_response = error_response
    http2.format_error = error_page
    code.Http1Server.read_headers = _bounded(_server_read_headers)
    code.Http1Client.read_headers = _bounded(_client_read_headers)
    code.Http1Client.send = _send_closing
    code.Http1Server.wait = _wait_bounded
    stream: Any = HttpStream
    stream.state_consume_request_body = _consume_wanted
    stream.state_consume_response_body = _consume_answered
    handler.log = _log_and_hang_up
