"""WebSockets: the handshake was judged as a request; each message of the client is judged as one more, each of the server masked.

A message is never held: a paused WebSocket does not answer pings, and its peers would give up. What a rule holds is dropped, and the
socket closed with 1008 (RFC 6455 section 7.4.1).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import wsproto.events
from mitmproxy import http
from mitmproxy import websocket as mitmwebsocket
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import websocket
from wsproto import ConnectionState
from wsproto.frame_protocol import CloseReason, Opcode

from addons.exchange import Exchange, find, of
from addons.fail_closed import fail_closed
from hopgate.flow_format import ShownMessage
from rules.http import HttpFacts, request_operation
from rules.masking import Unmaskable

if TYPE_CHECKING:
    from addons.record import Record

MAX_MESSAGE: Final = 1 << 20  # bytes of one message, in either direction
_BATCH: Final = 256  # messages that one record of a long-lived socket holds
_BATCH_BYTES: Final = 256 << 10
_Layer = websocket.WebsocketLayer
_Connection = websocket.WebsocketConnection


class Frames:
    """What a WebSocket has said since its last record."""

    __slots__ = ("bytes", "close", "shown")

    def __init__(self) -> None:
        self.shown: list[ShownMessage] = []
        self.bytes = 0
        self.close = ""  # why the socket is being closed by the gateway

    def add(self, message: mitmwebsocket.WebSocketMessage, content: bytes) -> None:
        self.shown.append(ShownMessage(int(message.type), message.from_client, content, message.timestamp, message.dropped))
        self.bytes += len(content)

    @property
    def full(self) -> bool:
        return len(self.shown) >= _BATCH or self.bytes >= _BATCH_BYTES

    def take(self) -> tuple[ShownMessage, ...]:
        shown, self.shown, self.bytes = tuple(self.shown), [], 0
        return shown


class BoundedConnection(_Connection):  # type: ignore[misc,valid-type]
    """One side of a WebSocket without the ways around judging: control frames carry bytes of their own, messages have no size."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._size = 0
        self.pongs: list[wsproto.events.Pong] = []

    def events(self) -> Iterator[wsproto.events.Event]:
        for event in super().events():
            if isinstance(event, wsproto.events.Ping):
                self.pongs.append(event.response())
            elif isinstance(event, wsproto.events.Pong):
                continue
            elif isinstance(event, wsproto.events.CloseConnection):
                yield wsproto.events.CloseConnection(code=event.code, reason=None)
            elif isinstance(event, wsproto.events.Message):
                self._size += len(event.data)
                if self._size > MAX_MESSAGE:
                    self.frame_buf = [b""]
                    yield wsproto.events.CloseConnection(code=CloseReason.MESSAGE_TOO_BIG, reason=None)
                    return
                if event.message_finished:
                    self._size = 0
                yield event
            else:
                yield event


class JudgedLayer(_Layer):  # type: ignore[misc,valid-type]
    """mitmproxy's WebSocket layer, answering pings itself and closing when the gateway says so."""

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super().relay_messages(event)
        for side in (self.client_ws, self.server_ws):
            for pong in side.pongs:
                if side.state is ConnectionState.OPEN:
                    yield side.send2(pong)
            side.pongs.clear()
        exchange = find(self.flow)
        if exchange is None or exchange.frames is None or exchange.frames.close:
            yield from self._hang_up()

    def _hang_up(self) -> layer.CommandGenerator[None]:
        if self._handle_event == self.done:
            return
        for side in (self.server_ws, self.client_ws):
            if side.state in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
                yield side.send2(wsproto.events.CloseConnection(code=CloseReason.POLICY_VIOLATION, reason="refused by the gateway"))
            yield commands.CloseConnection(side.conn)
        self.flow.websocket.close_code = CloseReason.POLICY_VIOLATION
        self.flow.websocket.timestamp_end = time.time()
        yield websocket.WebsocketEndHook(self.flow)
        self.flow.live = False
        self._handle_event = self.done


def install() -> None:
    """Put the layer in mitmproxy's place."""
    websocket.WebsocketConnection = BoundedConnection  # type: ignore[misc]
    websocket.WebsocketLayer = JudgedLayer  # type: ignore[misc]


class WebSockets:
    """Judges, masks and records messages."""

    name = "hopgate_websockets"

    def __init__(self, record: Record) -> None:
        self.record = record

    @fail_closed
    def websocket_start(self, flow: http.HTTPFlow) -> None:
        exchange = of(flow)
        if (
            exchange.refused
            or exchange.session is None
            or exchange.decision is None
            or not exchange.decision.allowed
            or exchange.plan is None
        ):
            raise PermissionError("a WebSocket that was never allowed")
        exchange.frames = Frames()

    @fail_closed
    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        exchange = of(flow)
        assert flow.websocket is not None
        assert exchange.session is not None
        message = flow.websocket.messages[-1]
        del flow.websocket.messages[:-1]  # mitmproxy keeps them all until the socket closes
        frames: Frames = exchange.frames
        if frames.close or exchange.session.closed or message.injected:
            _drop(message)
            frames.close = frames.close or "the session has ended"
            return
        try:
            content = await (self._from_client if message.from_client else self._from_server)(exchange, message)
        except Unmaskable as error:
            frames.close, content = str(error), b""
        if frames.close:
            content = content or b"[refused: %s]" % frames.close.encode()
            _drop(message)
        frames.add(message, content)
        if frames.full:
            self.record.write(flow, exchange, frames.take())

    @fail_closed
    def websocket_end(self, flow: http.HTTPFlow) -> None:
        exchange = of(flow)
        if exchange.frames is not None and exchange.session is not None:
            self.record.write(flow, exchange, exchange.frames.take())
        if flow.websocket is not None:
            flow.websocket.messages.clear()

    async def _from_client(self, exchange: Exchange, message: mitmwebsocket.WebSocketMessage) -> bytes:
        """Judge; gives what the recording shows of it."""
        facts, session, decision, plan = exchange.facts, exchange.session, exchange.decision, exchange.plan
        assert facts is not None
        assert session is not None
        assert decision is not None
        assert plan is not None
        if message.type is not Opcode.TEXT and decision.masks:
            exchange.frames.close = "a binary message where masks apply"
            return b""
        framed = HttpFacts(
            facts.method, facts.scheme, facts.host, facts.port, facts.raw_path, facts.fields, message.content, websocket=True
        )
        # `exact` is None: what a rule holds is denied, since a message cannot wait
        operation = replace(request_operation(framed), writes=True, exact=None)
        judged = await session.authorize(operation, wait=0)
        if not judged.allowed:
            exchange.frames.close = judged.message or "denied"
            return b""
        if message.type is not Opcode.TEXT:
            return b"[%d bytes]" % len(message.content)
        return plan.body("text/plain", message.content).data if not plan.empty else message.content

    async def _from_server(self, exchange: Exchange, message: mitmwebsocket.WebSocketMessage) -> bytes:
        plan, decision, session = exchange.plan, exchange.decision, exchange.session
        assert plan is not None
        assert decision is not None
        assert session is not None
        session.account(bytes=len(message.content))
        if message.type is not Opcode.TEXT and decision.masks:
            exchange.frames.close = "a binary message where masks apply"
            return b""
        if not plan.empty:
            masked = plan.body("text/plain" if message.type is Opcode.TEXT else "application/octet-stream", message.content)
            if masked.data != message.content:
                message.content = masked.data
            if masked.counts:
                session.masked(exchange.operation, masked.counts)
        return message.content if message.type is Opcode.TEXT else b"[%d bytes]" % len(message.content)


def _drop(message: mitmwebsocket.WebSocketMessage) -> None:
    message.content = b""
    message.drop()
