"""Response bodies that go out piece by piece: each event or line is masked whole before any of it is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mitmproxy import http

from addons.decoding import GzipStream, Undecodable
from addons.transports import close_client
from rules.masking import Unmaskable

if TYPE_CHECKING:
    from addons.exchange import Exchange
    from rules.masking import Plan

RECORDED: Final = 8 << 20  # bytes of a stream that its recording keeps


class MaskedStream:
    """What mitmproxy calls with each piece from the target, and with b"" at the end; gives what may go out.

    It gives lists: mitmproxy sends an empty bytes object as an empty chunk, which in HTTP/1.1 ends the body.
    """

    def __init__(self, flow: http.HTTPFlow, exchange: Exchange, plan: Plan) -> None:
        """Raises Undecodable, Unmaskable for what cannot be masked piece by piece."""
        self.started = False
        self.failed = ""
        self._flow = flow
        self._exchange = exchange
        self._decoder = _decoder(exchange.content_encoding)
        self._stream = None if plan.empty else plan.stream(exchange.content_type)
        if self._stream is None and not plan.empty:
            raise Unmaskable("its content cannot be masked piece by piece")
        self._recorded = bytearray()
        self._cut = False

    def __call__(self, data: bytes) -> list[bytes]:
        self.started = True
        if self.failed:
            return []
        try:
            out = self._next(data)
        except (Undecodable, Unmaskable) as error:
            self._fail(str(error))
            return []
        except Exception as error:
            # mitmproxy would call this a crash and leave the client hanging
            self._fail(type(error).__name__)
            return []
        return [out] if out else []

    def _next(self, data: bytes) -> bytes:
        session = self._exchange.session
        assert session is not None
        if session.closed:
            raise Unmaskable("the session has ended")
        if data:
            if self._decoder is not None:
                data = self._decoder.feed(data)
            session.account(bytes=len(data))
            out = data if self._stream is None else self._stream.feed(data)
        else:
            if self._decoder is not None:
                self._decoder.finish()
            out = b"" if self._stream is None else self._stream.finish()
        room = RECORDED - len(self._recorded)
        self._recorded += out[:room]
        self._cut = self._cut or len(out) > room
        return out

    def _fail(self, why: str) -> None:
        self.failed = why
        self._exchange.refused = f"stream ended: {why}"
        close_client(self._flow.client_conn)

    def end(self) -> None:
        """Give the recording what went out, and tell what was masked in it, headers and trailers included."""
        exchange = self._exchange
        exchange.shown = bytes(self._recorded) + (b"\n[cut]\n" if self._cut else b"")
        for name, count in getattr(self._stream, "counts", {}).items():
            exchange.masked[name] = exchange.masked.get(name, 0) + count
        if exchange.masked and exchange.session is not None:
            exchange.session.masked(exchange.operation, exchange.masked)


class Replacement:
    """Sends our own answer in place of a body that is still arriving, then hangs up: that body may have no end."""

    def __init__(self, flow: http.HTTPFlow, content: bytes) -> None:
        self.started = False
        self._flow = flow
        self.content = content

    def __call__(self, data: bytes) -> list[bytes]:
        if self.started:
            return []
        self.started = True
        if data:
            asyncio.get_running_loop().call_soon(close_client, self._flow.client_conn)
        return [self.content]


def _decoder(coding: bytes) -> GzipStream | None:
    if coding in (b"", b"identity"):
        return None
    if coding in (b"gzip", b"x-gzip"):
        return GzipStream()
    raise Undecodable("its content coding cannot be undone piece by piece")
