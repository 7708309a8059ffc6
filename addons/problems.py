"""What a refused caller reads: `application/problem+json` (RFC 9457). Never a byte from the target, never a secret."""

from __future__ import annotations

from typing import Any

import orjson
from mitmproxy import http

_TITLES = {
    "unauthenticated": "not authenticated",
    "session-refused": "session refused",
    "denied": "denied",
    "pending": "waiting for approval",
    "response-refused": "response refused",
    "bad-request": "request refused",
    "unknown-destination": "unknown destination",
    "unavailable": "gateway unavailable",
    "unmaskable": "response refused",
    "upstream": "target not reachable",
    "failed": "gateway failed",
}


def problem(
    kind: str, status: int, detail: str, *, close: bool = False, headers: dict[str, str] | None = None, **members: Any
) -> http.Response:
    """A response whose body has type, title, status, detail and the given members; empty members are left out."""
    body: dict[str, Any] = {"type": f"urn:hopgate:problem:{kind}", "title": _TITLES[kind], "status": status, "detail": detail}
    body.update((name, value) for name, value in members.items() if value)
    fields = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **(headers or {})}
    if close:
        fields["Connection"] = "close"
    return http.Response.make(status, orjson.dumps(body) + b"\n", fields)


def failed(status: int = 500) -> http.Response:
    """The answer when a gate itself failed: it says nothing of why, which the log does."""
    return problem("failed", status, "the gateway failed on this request and refused it")
