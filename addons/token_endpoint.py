"""`POST /oauth/token` (RFC 8693): the one thing that the http listener answers itself. Everything else in origin-form is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy import http

from addons import problems
from addons.exchange import refuse
from hopgate import exchange

if TYPE_CHECKING:
    from addons.gate import Gate

PATH = b"/oauth/token"


def expects(flow: http.HTTPFlow) -> bool:
    """True when an origin-form request is for the token endpoint; refuses it when it is not."""
    if flow.request.data.path != PATH:
        detail = "this is a proxy: name the destination in the request target, as HTTP_PROXY makes clients do"
        refuse(flow, problems.problem("bad-request", 404, detail), "origin-form")
        return False
    if flow.request.data.method != b"POST":
        refuse(flow, problems.problem("bad-request", 405, "the token endpoint takes POST", headers={"Allow": "POST"}), "origin-form")
        return False
    return True


def bound(flow: http.HTTPFlow, size: int) -> None:
    """Refuse a form that is longer than any, before it is there: its sender is nobody yet."""
    if size > exchange.MAX_FORM:
        refuse(flow, problems.problem("bad-request", 413, "the form is larger than 64 KiB"), "form too large")


async def answer(gate: Gate, flow: http.HTTPFlow) -> None:
    """Exchange the token of the form body for a short one."""
    status, body = await exchange.answer(gate.services.identity, flow.request.raw_content or b"", peer=str(flow.client_conn.peername[0]))
    refuse(flow, http.Response.make(status, body, exchange.HEADERS), "answered by the token endpoint")
