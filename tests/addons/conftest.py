"""One origin and one gateway for all live tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addons.live import Gateway
from tests.addons.origin import Origin, make_certificate, tls_context

RULES = """
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, where: {connections: ["*"]}, effect: allow}
  - {id: no-session, on: session, where: {connections: [closed]}, effect: deny, message: nobody opens this}
  - {id: read, on: http, match: {method: [GET, HEAD]}, effect: allow}
  - {id: write, on: http, match: {method: POST, path: "/items/**"}, effect: allow}
  - {id: no-admin, on: http, match: {path: "/admin/**"}, effect: deny, message: admins only}
  - {id: ask, on: http, match: {method: POST, path: "/refunds/**"}, effect: hold, hold: {reviewers: [finance]}}
  - {id: big-answer, on: http, match: {path: "/teapot", status: 418}, effect: deny, message: no teapots}
  - {id: too-long, on: http, match: {path: "/sized/*", response_bytes: {gt: 100}}, effect: deny, message: too long}
  - {id: socket-words, on: http, match: {websocket: true, body: {"$.action": drop}}, effect: deny, message: no drops}
  - {id: hide, on: http, effect: mask, mask: {jsonpath: ["$..password"], headers: [x-secret], query: [token]}}
"""


def configuration(origin: Origin, secure: Origin, certificate: Path, older: Origin | None = None) -> str:
    port = older.port if older is not None else 1
    return f"""
approvals: {{http_wait: 1s, timeout: 60s}}
connections:
  - {{name: api, kind: http, hosts: ["api.test:80"], target: "http://127.0.0.1:{origin.port}",
     credential: {{headers: {{Authorization: "Bearer ${{env:API_KEY}}"}}}}}}
  - {{name: other, kind: http, hosts: ["other.test:80"], target: "http://127.0.0.1:{origin.port}"}}
  - {{name: tunnel, kind: http, hosts: ["tunnel.test:443"], host_header: client,
     target: "https://localhost:{secure.port}", ca: "{certificate}"}}
  - {{name: untrusted, kind: http, hosts: ["untrusted.test:443"], target: "https://localhost:{secure.port}"}}
  - {{name: misnamed, kind: http, hosts: ["misnamed.test:443"], target: "https://127.0.0.1:{secure.port}", ca: "{certificate}"}}
  - {{name: closed, kind: http, hosts: ["closed.test:80"], target: "http://127.0.0.1:{origin.port}"}}
  - {{name: dead, kind: http, hosts: ["dead.test:80"], target: "http://127.0.0.1:1"}}
  - {{name: older, kind: http, hosts: ["older.test:443"], target: "https://localhost:{port}", ca: "{certificate}"}}
"""


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    found = Origin()
    yield found
    found.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(scope="session")
def secure_origin(certificate: tuple[Path, Path]) -> Iterator[Origin]:
    found = Origin(tls_context(certificate[1], "h2", "http/1.1"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def older_origin(certificate: tuple[Path, Path]) -> Iterator[Origin]:
    """TLS, and HTTP/1.1 only."""
    found = Origin(tls_context(certificate[1], "http/1.1"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def shared_gateway(
    tmp_path_factory: pytest.TempPathFactory, origin: Origin, secure_origin: Origin, older_origin: Origin, certificate: tuple[Path, Path]
) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), configuration(origin, secure_origin, certificate[0], older_origin), RULES)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(shared_gateway: Gateway, origin: Origin, secure_origin: Origin, older_origin: Origin) -> Gateway:
    """The shared gateway, with origins that have seen nothing yet."""
    for target in (origin, secure_origin, older_origin):
        target.answers.clear()
        target.clear()
    return shared_gateway
