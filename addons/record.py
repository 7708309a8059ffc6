"""The recording: each exchange as its client saw it, on disk before the last byte goes to that client.

A long response is cut, after it was masked; what was asked is kept whole. What may hold a secret is masked with the plan of the
response, and the headers that carry credentials are never written. When the recording cannot be written, the client gets nothing and
the session ends.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import flow as mitmflow
from mitmproxy import http

from addons import problems
from addons.decoding import Undecodable, decode
from addons.exchange import Exchange, Fields, find, refuse
from addons.fail_closed import fail_closed
from addons.transports import KILLED, close_client, kill
from hopgate.errors import HopgateError
from hopgate.flow_format import ShownRequest, ShownResponse, encode_http_flow
from rules.masking import Plan, Unmaskable, compile_plan

if TYPE_CHECKING:
    from addons.gate import Gate

REDACTED: Final = b"[redacted]"
CUT: Final = b"\n[cut]\n"  # ends what `recordings.head_bytes` shortened, on every protocol
CREDENTIALS: Final = frozenset(
    {
        b"api-key",
        b"apikey",
        b"authorization",
        b"authentication-info",
        b"cookie",
        b"private-token",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"set-cookie",
        b"www-authenticate",
        b"x-amz-security-token",
        b"x-api-key",
        b"x-auth-token",
        b"x-csrf-token",
        b"x-vault-token",
    }
)


class Record:
    """Runs last: what it writes is what goes out."""

    name = "hopgate_record"

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        wanted = gate.config.recordings
        self._bodies = wanted.results != "none"
        self._longest = wanted.head_bytes if wanted.results == "head" else None  # bytes of a response that are kept

    @fail_closed
    def response(self, flow: http.HTTPFlow) -> None:
        exchange = find(flow)
        # a WebSocket is recorded when it ends, a caller without a session has no recording
        if exchange is not None and exchange.session is not None and (flow.websocket is None or exchange.refused):
            self.write(flow, exchange)

    @fail_closed
    def error(self, flow: http.HTTPFlow) -> None:
        exchange = find(flow)
        if flow.error is not None and flow.error.msg != KILLED:
            # mitmproxy quotes in it what the target sent
            flow.error = mitmflow.Error(_reason(flow.error.msg), flow.error.timestamp)
        if exchange is not None and exchange.session is not None and not exchange.recorded:
            self.write(flow, exchange)

    def write(self, flow: http.HTTPFlow, exchange: Exchange, messages: tuple[Any, ...] = ()) -> None:
        """Append the record of `flow`. A recording that fails ends its session and refuses the response."""
        session = exchange.session
        assert session is not None
        exchange.recorded = True
        try:
            session.recording.append(self.encode(flow, exchange, messages))
        except HopgateError as error:
            session.end(f"its recording failed: {error.message}")
            self._withhold(flow)

    def _withhold(self, flow: http.HTTPFlow) -> None:
        if flow.response is not None and flow.response.stream:
            kill(flow)
            close_client(flow.client_conn)
            return
        refuse(
            flow,
            problems.problem("unavailable", 503, "the session has ended: its recording cannot be written", close=True),
            "recording failed",
        )
        if flow.websocket is not None or flow.error is not None:
            close_client(flow.client_conn)

    def encode(self, flow: http.HTTPFlow, exchange: Exchange, messages: tuple[Any, ...] = ()) -> bytes:
        """One record: the request as the client sent it, the response as the client gets it, both masked."""
        data = flow.request.data
        if exchange.host:
            # injection and routing are not the client's business; the request has long been sent
            data.scheme, data.host, data.port = exchange.scheme.encode(), exchange.host, exchange.port
        request = self._request(exchange, data)
        response = flow.response
        shown = None
        if response is not None:
            content = exchange.shown if exchange.shown is not None and not exchange.refused else response.data.content
            trailers = redacted(response.data.trailers.fields) if response.data.trailers else None
            fields = redacted(_plain(response.data.headers.fields, exchange))
            if exchange.plan is None and response is not exchange.answer:
                fields, content, trailers = (), b"", None  # the target's, which failed before it was masked
            elif content and self._longest is not None and len(content) > self._longest:
                fields, content = _without(fields, b"content-length"), content[: self._longest] + CUT
            shown = ShownResponse(fields, content if self._bodies else None, trailers)
        metadata = _metadata(exchange)
        comment = f"{metadata['principal']} on {metadata['connection']}: {metadata['decision']}"
        if metadata["rules"]:
            comment += f" by {', '.join(metadata['rules'])}"
        return encode_http_flow(
            flow,
            request=request,
            response=shown,
            metadata=metadata,
            comment=comment,
            marked="" if not exchange.refused else ":no_entry:",
            messages=messages,
        )

    def _request(self, exchange: Exchange, data: Any) -> ShownRequest:
        path = exchange.path.encode("latin-1") if exchange.path else data.path
        fields, content, plan = exchange.client_fields, data.content if self._bodies else None, self._plan(exchange)
        if plan is None:
            # refused before any masks were known: keep what it was without what it said
            path, query, _ = path.partition(b"?")
            path += query and b"?" + REDACTED
            fields = tuple((name, REDACTED) for name, _ in fields)
        elif not plan.empty:
            masked, _ = plan.url(path.decode("latin-1"))
            path = masked.encode("utf-8", "surrogateescape")
            fields, _ = plan.headers(fields)
        if content and exchange.plan is None:
            content = b"[%d bytes, SHA-256 %s]" % (len(content), hashlib.sha256(content).hexdigest().encode())
        elif content and plan is not None and not plan.empty:
            content = _masked_body(exchange, plan, fields, content)
        return ShownRequest(path, redacted(fields), content)

    def _plan(self, exchange: Exchange) -> Plan | None:
        """What to mask in a request: as in its response, or if there was none as its decision says; None when that is not known."""
        decision = exchange.decision
        if exchange.plan is not None or decision is None or not decision.version:
            return exchange.plan
        literals = exchange.lease.literals if exchange.lease is not None else ()
        return compile_plan(decision.masks, secrets=literals, hash_key=self.gate.hash_key)


def redacted(fields: Fields) -> Fields:
    """`fields` without the credentials in them. Names stay: which header was there is worth knowing."""
    for name, _ in fields:
        if name.lower() in CREDENTIALS:
            return tuple((name, REDACTED) if name.lower() in CREDENTIALS else (name, value) for name, value in fields)
    return fields


def _plain(fields: Fields, exchange: Exchange) -> Fields:
    """The body is recorded decoded, so that whoever replays it needs no second look."""
    if not exchange.content_encoding or exchange.shown is None or exchange.refused:
        return fields
    return _without(fields, b"content-encoding", b"content-length")


def _without(fields: Fields, *names: bytes) -> Fields:
    return tuple(entry for entry in fields if entry[0].lower() not in names)


def _masked_body(exchange: Exchange, plan: Any, fields: Fields, content: bytes) -> bytes:
    content_type, coding = "", b""
    for name, value in fields:
        if name.lower() == b"content-type":
            content_type = value.decode("latin-1")
        elif name.lower() == b"content-encoding":
            coding = value
    try:
        masked: bytes = plan.body(content_type, decode(coding, content)).data
    except (Undecodable, Unmaskable):
        return b"[%d bytes that could not be masked]" % len(content)
    return masked


def _metadata(exchange: Exchange) -> dict[str, Any]:
    decision, session = exchange.decision, exchange.session
    assert session is not None
    effect: str = "refused" if decision is None else decision.effect
    if exchange.refused and effect == "allow":
        effect = f"allow, then {exchange.refused}"
    return {
        "session": session.id,
        "operation": exchange.operation,
        "decision": effect,
        "rules": list(decision.rules) if decision is not None else [],
        "principal": str(session.principal),
        "connection": session.connection.name,
        "approval": decision.approval if decision is not None else "",
        "masked": sum(exchange.masked.values()),
    }


def _reason(message: str) -> str:
    lower = message.lower()
    for part, reason in _REASONS:
        if part in lower:
            return reason
    return "the exchange failed"


_REASONS: Final = (
    ("client disconnected", "client disconnected"),
    ("stream reset by client", "stream reset by client"),
    ("body_size_limit", "body larger than the limit"),
    ("killed", "connection refused by the gateway"),
    ("certificate verify failed", "the target's certificate is not valid"),
    ("connect", "the target cannot be reached"),
    ("server closed connection", "the target closed the connection"),
    ("request smuggling", "malformed message"),
)
