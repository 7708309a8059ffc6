"""The repairs to mitmproxy's HTTP/1 code, and that what they replace is still there."""

from __future__ import annotations

import inspect
from typing import Any

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import server
from mitmproxy.proxy.layers.http import _base, _http1, _http2

from addons import http1
from hopgate.errors import Misconfigured


def test_what_is_replaced_is_there() -> None:
    source = inspect.getsource(_http1)
    assert "HTTP trailers are not implemented yet" in source
    assert "FIXME: protect against header size DoS" in source
    assert callable(_base.format_error)
    assert callable(_http2.format_error)
    assert callable(server.ConnectionHandler.log)


def test_a_mitmproxy_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_http1, "make_error_response")
    with pytest.raises(Misconfigured, match="make_error_response"):
        http1.install()


def read(data: bytes) -> list[Any]:
    reader, buffer = http1._Trailerless(), ReceiveBuffer()
    buffer += data
    found = []
    while (event := reader(buffer)) is not None:
        found.append(event)
        if isinstance(event, h11.EndOfMessage):
            break
    return found


def test_chunks_are_read_as_before() -> None:
    events = read(b"3\r\nabc\r\n0\r\n\r\n")
    assert b"".join(bytes(event.data) for event in events[:-1]) == b"abc"
    assert isinstance(events[-1], h11.EndOfMessage)


@pytest.mark.parametrize("data", [b"0\r\nX: y\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 100_000, b"3" * 400_000, b"3;" + b"x" * 400_000])
def test_trailers_and_endless_lines_are_protocol_errors(data: bytes) -> None:
    with pytest.raises(h11.ProtocolError):
        read(data)


@pytest.mark.parametrize(
    ("line", "origin_form"),
    [(b"GET / HTTP/1.1", True), (b"OPTIONS * HTTP/1.1", True), (b"GET http://a/ HTTP/1.1", False), (b"CONNECT a:1 HTTP/1.1", False)],
)
def test_the_form_of_the_target_is_remembered(line: bytes, origin_form: bool) -> None:
    assert http1.is_origin_form(http1.read_request_head([line, b"Host: a"])) == origin_form


@pytest.mark.parametrize("status", [400, 413, 502, 418])
def test_error_pages_do_not_quote(status: int) -> None:
    assert b"hunter2" not in http1.error_response(status, "hunter2")
    assert b"hunter2" not in http1.error_page(status, "hunter2")
    assert b"application/problem+json" in http1.error_response(status)
