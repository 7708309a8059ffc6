"""A small billing HTTP API: the target of the demonstration and of the tests that need a live gateway.

It takes its API key from the environment (BILLING_API_KEY), demands it as `Authorization: Bearer`, and writes one NDJSON line per
request to its access log: what arrived, never a key. Not a product: it trusts nobody only as far as the demonstration needs.

    python -m playground.billing --port 0 --log access.ndjson
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import signal
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from playground.records import Books, api_keys

MAX_BODY = 1 << 20
EVENTS = 3  # server-sent events before the stream ends


class Billing(ThreadingHTTPServer):
    """The server with its books and its access log."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], key: str, log: IO[str] | None) -> None:
        super().__init__(address, Exchange)
        self.key = key
        self.books = Books()
        self._log = log
        self._lock = threading.Lock()

    def note(self, line: dict[str, Any]) -> None:
        if self._log is not None:
            with self._lock:
                self._log.write(json.dumps(line) + "\n")
                self._log.flush()


class Exchange(BaseHTTPRequestHandler):
    """One request and its response."""

    protocol_version = "HTTP/1.1"
    server_version = "billing"
    sys_version = ""
    server: Billing

    def _dispatch(self) -> None:
        body = self._body()
        split = urllib.parse.urlsplit(self.path)
        self._arrived = (self._key(), body)
        self._route(split.path, body, self._arrived[0])

    def _note(self, status: int) -> None:
        """Before the answer: whoever has the answer finds the line."""
        key, body = self._arrived
        self.server.note(
            {
                "time": time.time(),
                "method": self.command,
                "path": self.path,
                "host": self.headers.get("Host", ""),
                "key": key,
                "proxy_authorization": "Proxy-Authorization" in self.headers,
                "body": body.decode("utf-8", "replace"),
                "status": status,
            }
        )

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _dispatch

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            return b""
        return self.rfile.read(length)

    def _key(self) -> str:
        presented = self.headers.get("Authorization", "")
        if not presented:
            return "missing"
        return "valid" if hmac.compare_digest(presented.encode(), f"Bearer {self.server.key}".encode()) else "wrong"

    def _route(self, path: str, body: bytes, key: str) -> None:
        if path == "/healthz":
            return self._json(200, {"status": "ok"})
        if key != "valid":
            return self._json(401, {"error": f"api key {key}"})
        found = _ROUTES.get((self.command if self.command != "HEAD" else "GET", path))
        if found is not None:
            return found(self, body)
        if path.startswith("/v1/customers/") and path.rpartition("/")[2].isdigit():
            return self._customer(int(path.rpartition("/")[2]))
        return self._json(404, {"error": "no such resource"})

    def _customer(self, number: int) -> None:
        if self.command == "DELETE":
            return self._json(200 if self.server.books.delete(number) else 404, {"deleted": number})
        row = self.server.books.customer(number)
        return self._json(200, row) if row else self._json(404, {"error": "no such customer"})

    def _refund(self, body: bytes) -> None:
        try:
            order = json.loads(body)
            refund = {"customer": int(order["customer"]), "amount": order["amount"]}
        except (ValueError, KeyError, TypeError):
            return self._json(400, {"error": "a refund needs a customer and an amount"})
        return self._json(201, self.server.books.refund(refund))

    def _export(self, _: bytes) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.server.books.customers())
        return self._send(200, "application/x-ndjson", lines.encode())

    def _reflect(self, _: bytes) -> None:
        """A careless diagnostic page: it repeats the credential that it was called with, three ways."""
        presented = self.headers.get("Authorization", "")
        key = presented.removeprefix("Bearer ")
        forms = {"authorization": presented, "base64": base64.b64encode(key.encode()).decode(), "url": urllib.parse.quote(key, safe="")}
        return self._json(200, {"you_sent": forms})

    def _events(self, _: bytes) -> None:
        self._note(200)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for number, row in enumerate(self.server.books.customers()[:EVENTS]):
            event = {"event": "paid", "customer": row["id"], "email": row["email"]}
            self.wfile.write(f"id: {number}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.05)

    def _json(self, status: int, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self._note(status)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The access log is ours; the base class would write to stderr."""


_ROUTES: dict[tuple[str, str], Callable[[Exchange, bytes], None]] = {
    ("GET", "/v1/customers"): lambda it, _: it._json(200, {"customers": it.server.books.customers()}),
    ("GET", "/v1/export/customers"): Exchange._export,
    ("GET", "/v1/api-keys"): lambda it, _: it._json(200, {"keys": api_keys()}),
    ("GET", "/v1/refunds"): lambda it, _: it._json(200, {"refunds": it.server.books.refunds()}),
    ("POST", "/v1/refunds"): Exchange._refund,
    ("GET", "/v1/events"): Exchange._events,
    ("GET", "/v1/diagnostics"): Exchange._reflect,
    ("GET", "/admin/users"): lambda it, _: it._json(200, {"users": [{"name": "root", "password": "do-not-look"}]}),
    ("POST", "/admin/close-books"): lambda it, _: it._json(200, {"closed": True}),
}


def start(key: str, log: Path | None = None, host: str = "127.0.0.1", port: int = 0) -> Billing:
    """Serve from a thread of this process; the port is `server_port`. The caller calls `shutdown()` and `server_close()`."""
    server = Billing((host, port), key, log.open("a", encoding="utf-8") if log else None)
    threading.Thread(target=server.serve_forever, args=(0.02,), name="billing", daemon=True).start()
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m playground.billing", description="a small billing API to guard")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9800, help="0 takes a free one and prints it")
    parser.add_argument("--log", type=Path, help="access log, one JSON object a line")
    options = parser.parse_args(arguments)
    key = os.environ.pop("BILLING_API_KEY", "")
    if not key:
        print("billing: set BILLING_API_KEY to the key that callers must present", file=sys.stderr)
        return 2
    server = start(key, options.log, options.host, options.port)
    print(f"billing: listening on http://{options.host}:{server.server_port}", flush=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.shutdown()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
