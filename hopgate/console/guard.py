"""What every answer carries and every request must pass, before any page is asked: ASGI, around the whole application."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hopgate.console.place import ACS, Place

MAX_BODY: Final = 64 << 10  # bytes; a decision with its guidance is far below
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
STATIC: Final = "/static/"
REPLAY: Final = "/replay"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'{wasm}; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # `no-referrer` would make browsers send Origin: null with our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HSTS: Final = "max-age=31536000"


def _told(status: int, sentence: str, path: str) -> Response:
    if not path.startswith("/api/"):
        return PlainTextResponse(f"{sentence}\n", status)
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
    return Response(json.dumps(problem), status, media_type="application/problem+json")


class Guard:
    """Refuses foreign Host headers, cross-site writes and large bodies; adds the headers that keep pages where they belong."""

    def __init__(self, app: ASGIApp, place: Place) -> None:
        self._app = app
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no WebSockets here
        path: str = scope["path"]

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._harden(MutableHeaders(scope=message), path)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            status, sentence = refusal
            await _told(status, sentence, path)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _harden(self, headers: MutableHeaders, path: str) -> None:
        # the player of terminal recordings brings a terminal in WebAssembly; nothing else here may compile code
        wasm = " 'wasm-unsafe-eval'" if path.endswith(REPLAY) else ""
        headers["content-security-policy"] = _POLICY.format(wasm=wasm)
        for name, value in _HEADERS.items():
            headers[name] = value
        headers.setdefault("cache-control", "no-store")
        if self._place.secure:
            headers["strict-transport-security"] = _HSTS
        if "server" in headers:
            del headers["server"]

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._place.hosts and host not in self._place.hosts:
            return 421, f"this console is at {self._place.url}"
        if scope["method"] in SAFE_METHODS:
            return None
        if scope["path"] != ACS and not self._same_origin(headers, host):
            return 403, "a request from another site: refused"
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal():
            return 411, "a body needs its Content-Length"
        if int(length) > MAX_BODY:
            return 413, f"the body is larger than {MAX_BODY >> 10} KiB"
        return None

    def _same_origin(self, headers: Headers, host: str) -> bool:
        """What browsers say about where a write comes from. Programs say nothing; they have no cookie that others could ride on."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        try:
            return urlsplit(origin).netloc.lower() in ({host} | self._place.hosts)
        except ValueError:  # `http://[`: no browser sends that
            return False
