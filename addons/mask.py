"""What comes back: judged before its first byte goes out, decoded within bounds, masked, and only then the client's.

A response that cannot be decoded or masked is refused: the ledger has the operation as executed, the client gets nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import http
from mitmproxy.net.http.status_codes import RESPONSES

from addons import problems
from addons.decoding import Undecodable, decode
from addons.exchange import Exchange, Fields, of, refuse
from addons.fail_closed import fail_closed
from addons.streaming import MaskedStream, Replacement
from addons.transports import close_server, kill
from rules.http import response_operation
from rules.masking import Plan, Unmaskable, compile_plan
from rules.model import Mask as MaskRule

if TYPE_CHECKING:
    from addons.gate import Gate

STREAMED: Final = frozenset(
    {
        "text/event-stream",
        "application/ndjson",
        "application/x-ndjson",
        "text/x-ndjson",
        "application/jsonl",
        "application/x-jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/stream+json",
        "application/x-json-stream",
    }
)
_IN_THREAD: Final = 128 << 10  # bytes from which masking would hold up every other connection for too long
_DECODED_IN_THREAD: Final = 16 << 10  # the same for encoded bodies: what they grow to is not known before
_BODILESS: Final = frozenset({204, 205, 304})
_OF_THE_BODY: Final = frozenset(  # headers that describe or sign the bytes that have been changed
    {
        b"etag",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"content-md5",
        b"signature",
        b"signature-input",
        b"accept-ranges",
        b"content-encoding",
    }
)


class Mask:
    """Judges and masks responses. Only what passed here, or was made by the gateway, reaches a client."""

    name = "hopgate_mask"

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    @fail_closed
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        exchange = of(flow)
        response = flow.response
        if exchange.refused or response is None:
            return
        _read_head(exchange, response)
        if response.status_code == 101:
            return
        if flow.request.data.content:
            # its answer to our own `Connection: close` (addons.http1), which is no reason to hang up on the client
            response.headers.fields = tuple(entry for entry in response.headers.fields if entry[0].lower() != b"connection")
        if exchange.session is None or exchange.decision is None or not exchange.decision.allowed:
            raise PermissionError("a response to what was never allowed")
        if response.status_code < 200:
            # mitmproxy takes it for the whole response, and the real one for that of the next request
            self._replace(flow, "upstream", 502, "the target sent an informational response, which is not relayed")
            close_server(flow.client_conn, flow.server_conn)
        elif exchange.transfer_encoding not in (b"", b"chunked", b"identity"):
            self._replace(flow, "unmaskable", 502, "the response has a transfer coding that cannot be masked")
        elif (
            exchange.content_type.partition(";")[0].strip().lower() in STREAMED
            and exchange.method != "HEAD"
            and response.status_code not in _BODILESS
        ):
            self._stream(flow, exchange, response)
        else:
            # an addon or a late size check could turn the body into a stream that passes us by
            response.stream = False

    @fail_closed
    def response(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        exchange = of(flow)
        response = flow.response
        assert response is not None
        if exchange.refused:
            _answer(flow, exchange)
            return None
        if exchange.stream is not None:
            assert exchange.plan is not None
            if response.data.trailers:
                response.data.trailers.fields = self._headers(exchange, response.data.trailers.fields, exchange.plan)
            exchange.stream.end()
            return None
        if response.stream:
            raise PermissionError("a body went out unmasked")
        if response.status_code == 101:
            self._switched(flow, exchange, response)
            return None
        content = response.data.content or b""
        if len(content) >= _IN_THREAD or (exchange.content_encoding and len(content) >= _DECODED_IN_THREAD):
            return self._mask_in_thread(flow, exchange, response, content)
        try:
            decoded = decode(exchange.content_encoding, content)
            if (plan := self._planned(flow, exchange, response, decoded)) is not None:
                self._finish(exchange, response, plan, decoded, _masked(exchange, plan, response, decoded))
        except (Undecodable, Unmaskable) as error:
            self._unmaskable(flow, exchange, error)
        return None

    async def _mask_in_thread(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response, content: bytes) -> None:
        """The same for what may be large: only decoding and masking leave the loop, since ledger and session live on it."""
        try:
            decoded = await asyncio.to_thread(decode, exchange.content_encoding, content)
            if (plan := self._planned(flow, exchange, response, decoded)) is not None:
                changed = await asyncio.to_thread(_masked, exchange, plan, response, decoded)
                self._finish(exchange, response, plan, decoded, changed)
        except (Undecodable, Unmaskable) as error:
            self._unmaskable(flow, exchange, error)

    def _switched(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response) -> None:
        """A WebSocket's handshake: judged like any response; its messages come later."""
        plan = self._planned(flow, exchange, response, b"")
        if plan is None:
            flow.websocket = None
            close_server(flow.client_conn, flow.server_conn)
        else:
            # extensions were not asked for (addons.inject): one that inflates messages would have no bound
            asked = tuple(entry for entry in response.headers.fields if entry[0].lower() != b"sec-websocket-extensions")
            response.headers.fields = self._headers(exchange, asked, plan)
            response.data.reason = b"Switching Protocols"

    def _planned(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response, decoded: bytes) -> Plan | None:
        """What to mask, or None when a response rule denied it and the answer has been put in place."""
        masks = self._judge(flow, exchange, response, len(decoded))
        return None if masks is None else self._plan(exchange, masks)

    def _finish(self, exchange: Exchange, response: http.Response, plan: Plan, decoded: bytes, changed: bytes | None) -> None:
        session, data = exchange.session, response.data
        assert session is not None
        session.account(bytes=len(decoded))
        fields = self._headers(exchange, data.headers.fields, plan)
        if changed is not None:
            fields = tuple(entry for entry in fields if entry[0].lower() not in _OF_THE_BODY)
            data.content = changed
            fields = tuple((name, b"%d" % len(changed)) if name.lower() == b"content-length" else (name, value) for name, value in fields)
        data.headers.fields = fields
        data.reason = RESPONSES.get(data.status_code, "").encode()
        exchange.shown = decoded if changed is None else changed
        if data.trailers:
            data.trailers.fields = self._headers(exchange, data.trailers.fields, plan)
        if exchange.masked:
            session.masked(exchange.operation, exchange.masked)

    def _headers(self, exchange: Exchange, fields: Fields, plan: Plan) -> Fields:
        if plan.empty:
            return fields
        masked, counts = plan.headers(fields)
        _add(exchange, counts)
        return masked

    def _judge(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response, size: int | None) -> tuple[MaskRule, ...] | None:
        """The masks that apply, or None when a response rule denied it and the answer has been put in place."""
        session, decision = exchange.session, exchange.decision
        assert session is not None
        assert decision is not None
        assert exchange.facts is not None
        if not self.gate.services.rules.current.response_rules("http"):
            return decision.masks
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.fields]
        operation = response_operation(exchange.facts, response.status_code, headers, size)
        judged = session.judge_response(operation, exchange.operation)
        if not judged.allowed:
            members: dict[str, Any] = {"rules": list(judged.rules), "session": session.id, "operation": exchange.operation}
            self._replace(flow, "response-refused", 403, judged.message, **members)
            return None
        return judged.masks if not decision.masks else (*decision.masks, *(mask for mask in judged.masks if mask not in decision.masks))

    def _plan(self, exchange: Exchange, masks: tuple[MaskRule, ...]) -> Plan:
        literals = exchange.lease.literals if exchange.lease is not None else ()
        exchange.plan = compile_plan(masks, secrets=literals, hash_key=self.gate.hash_key)
        return exchange.plan

    def _stream(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response) -> None:
        """Events go out as they come, each masked whole. Whether any may is decided now."""
        try:
            masks = self._judge(flow, exchange, response, None)
            if masks is None:
                return
            plan = self._plan(exchange, masks)
            exchange.stream = MaskedStream(flow, exchange, plan)
        except (Undecodable, Unmaskable) as error:
            self._unmaskable(flow, exchange, error)
            return
        fields = tuple(entry for entry in response.headers.fields if entry[0].lower() not in (_OF_THE_BODY | {b"content-length"}))
        if flow.request.http_version == "HTTP/1.1" and exchange.transfer_encoding != b"chunked":
            fields = (*fields, (b"Transfer-Encoding", b"chunked"))
        response.headers.fields = self._headers(exchange, fields, plan)
        response.data.reason = RESPONSES.get(response.status_code, "").encode()
        response.stream = exchange.stream

    def _unmaskable(self, flow: http.HTTPFlow, exchange: Exchange, error: Exception) -> None:
        session = exchange.session
        assert session is not None
        # the operation was executed; the ledger must not read as if it had not been
        session.note("response_refused", operation=exchange.operation, effect="deny", message=str(error))
        self._replace(flow, "unmaskable", 502, f"the response was refused: {error}", session=session.id, operation=exchange.operation)

    def _replace(self, flow: http.HTTPFlow, kind: str, status: int, detail: str, **members: Any) -> None:
        """Answer in place of a response that may still be arriving."""
        upstream = flow.response
        answer = problems.problem(kind, status, detail, **members)
        refuse(flow, answer, kind)
        if upstream is not None and upstream.data.content is None:
            # its body is still to come, and mitmproxy would put it into the answer
            answer.headers["Connection"] = "close"
            answer.stream = Replacement(flow, answer.data.content or b"")


def _masked(exchange: Exchange, plan: Plan, response: http.Response, decoded: bytes) -> bytes | None:
    """The masked body if it differs. Raises Unmaskable. May run in a thread."""
    if plan.empty or not decoded:
        return None
    if response.status_code == 206:
        raise Unmaskable("a part of a body could cut a secret in two")
    found = plan.body(exchange.content_type, decoded)
    _add(exchange, found.counts)
    return None if found.data is decoded or found.data == decoded else found.data


def _answer(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Make sure that what goes to the client is our own answer, whole."""
    answer = exchange.answer
    if answer is not None:
        answer.trailers = None  # the target's, which mitmproxy hangs on whatever response it finds
    if answer is None or (exchange.stream is not None and exchange.stream.started):
        kill(flow)
    elif not isinstance(answer.stream, Replacement):
        flow.response = answer
    elif not answer.stream.started:
        # mitmproxy has emptied it: the target's response had no body after all
        answer.data.content, answer.stream = answer.stream.content, False
        flow.response = answer


def _read_head(exchange: Exchange, response: http.Response) -> None:
    encodings: list[bytes] = []
    for name, value in response.headers.fields:
        lower = name.lower()
        if lower == b"content-type":
            exchange.content_type += (", " if exchange.content_type else "") + value.decode("latin-1")
        elif lower == b"content-encoding":
            encodings.append(value.strip().lower())
        elif lower == b"transfer-encoding":
            exchange.transfer_encoding = value.strip().lower()
    exchange.content_encoding = b", ".join(encodings)


def _add(exchange: Exchange, counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        exchange.masked[name] = exchange.masked.get(name, 0) + count
