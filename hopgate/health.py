"""`/healthz` and `/metrics` of a running gateway, on a listener of their own: for probes and Prometheus, never for agents."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hopgate.addresses import Address
from hopgate.errors import Misconfigured

type Status = Mapping[str, Any]


class HealthServer(ThreadingHTTPServer):
    """Serves until closed, from a thread. `status()` is asked at each request; its `ok` chooses between 200 and 503."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: Address, status: Callable[[], Status], metrics: Path) -> None:
        if ":" in address.host:
            import socket

            self.address_family = socket.AF_INET6
        try:
            super().__init__((address.host, address.port), _Exchange)
        except OSError as error:
            raise Misconfigured(f"listen.health: cannot listen on {address}: {error.strerror}") from None
        self.status = status
        self.metrics = metrics
        threading.Thread(target=self.serve_forever, args=(0.05,), name="health", daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Exchange(BaseHTTPRequestHandler):
    """One probe. Anything but the two paths is 404; only GET and HEAD are answered."""

    protocol_version = "HTTP/1.1"
    server_version = "hopgate"
    sys_version = ""
    timeout = 10
    server: HealthServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            status = self.server.status()
            self._send(200 if status.get("ok") else 503, "application/json", json.dumps(dict(status)).encode() + b"\n")
        elif path == "/metrics":
            self._send(200, "text/plain; version=0.0.4; charset=utf-8", exposition(self.server.metrics))
        else:
            self._send(404, "text/plain; charset=utf-8", b"/healthz or /metrics\n")

    do_HEAD = do_GET

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds and say nothing new."""


def exposition(directory: Path) -> bytes:
    """The sum over all processes, in Prometheus' text format, from prometheus_client's multiprocess files."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    return generate_latest(registry)
