"""HTTPS and HTTP/2 through the gateway: our own authority to the client, a verified certificate from the target."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.addons.live import PASSWORD, Client, Gateway
from tests.addons.origin import Origin, json_response


def trusting(gateway: Gateway, *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(gateway.directory / "var" / "ca" / "mitmproxy-ca-cert.pem"))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def secure(gateway: Gateway, authority: str, *alpn: str, name: str | None = None) -> Client:
    client = gateway.tunnel(authority)
    host = authority.partition(":")[0]
    context = trusting(gateway, *alpn)
    if name is not None:
        context.check_hostname = False
    client.sock = context.wrap_socket(client.sock, server_hostname=name or host)
    return client


def test_https_is_judged_and_masked(gateway: Gateway, secure_origin: Origin) -> None:
    secure_origin.answers["/json"] = json_response(b'{"password":"hunter2-secret"}')
    with secure(gateway, "tunnel.test:443", "http/1.1") as client:
        client.send(b"GET /json HTTP/1.1\r\nHost: tunnel.test\r\n\r\n")
        assert client.read().body == b'{"password":"[redacted]"}'
        client.send(b"GET /admin/x HTTP/1.1\r\nHost: tunnel.test\r\n\r\n")
        assert client.read().problem["rule"] == "no-admin"
        client.send(b"GET /json HTTP/1.1\r\nHost: tunnel.test:443\r\n\r\n")
        assert client.read().status == 200
    assert [path for path, _ in secure_origin.requests] == ["/json", "/json"]
    assert secure_origin.connections == 1


def test_the_targets_connection_is_kept_alive(gateway: Gateway, origin: Origin) -> None:
    with gateway.connect() as client:
        for _ in range(5):
            client.send(b"GET http://api.test/items HTTP/1.1\r\nHost: api.test\r\n" + gateway.credential + b"\r\n")
            assert client.read().status == 200
    assert origin.connections == 1


def test_two_connections_never_share_one_to_the_target(gateway: Gateway, origin: Origin) -> None:
    """They have the same target, but might be verified or authenticated differently."""
    with gateway.connect() as client:
        for name in ("api", "other", "api", "other"):
            client.send(f"GET http://{name}.test/items HTTP/1.1\r\nHost: {name}.test\r\n".encode() + gateway.credential + b"\r\n")
            assert client.read().status == 200
    assert origin.connections == 2
    assert sum(b"injected-credential" in request for _, request in origin.requests) == 2


@pytest.mark.parametrize("name", ["evil.test", "api.test", "localhost"])
def test_the_server_name_must_be_the_tunnels(gateway: Gateway, secure_origin: Origin, name: str) -> None:
    with secure(gateway, "tunnel.test:443", "http/1.1", name=name) as client:
        client.send(b"GET /items HTTP/1.1\r\nHost: tunnel.test\r\n\r\n")
        assert client.read().status == 421
    assert bytes(secure_origin.seen) == b""


@pytest.mark.parametrize("connection", ["untrusted", "misnamed"])
def test_a_target_that_does_not_verify_gets_nothing(gateway: Gateway, secure_origin: Origin, connection: str) -> None:
    with secure(gateway, f"{connection}.test:443", "http/1.1") as client:
        client.send(f"GET /items HTTP/1.1\r\nHost: {connection}.test\r\nX: y\r\n\r\n".encode())
        reply = client.read()
    assert reply.status == 502
    assert bytes(secure_origin.seen) == b""


class Http2:
    """An HTTP/2 client on a tunnel."""

    def __init__(self, gateway: Gateway, authority: str) -> None:
        self.client = secure(gateway, authority, "h2")
        assert self.client.sock.selected_alpn_protocol() == "h2"  # type: ignore[attr-defined]
        self.http2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.http2.initiate_connection()
        self.trailers: list[tuple[bytes, bytes]] = []

    def request(self, *fields: tuple[str, str], body: bytes = b"", trailers: tuple[tuple[str, str], ...] = ()) -> tuple[int, bytes]:
        stream = self.http2.get_next_available_stream_id()
        self.http2.send_headers(stream, list(fields), end_stream=not body and not trailers)
        if body:
            self.http2.send_data(stream, body, end_stream=not trailers)
        if trailers:
            self.http2.send_headers(stream, list(trailers), end_stream=True)
        self.client.send(self.http2.data_to_send())
        status, data = 0, b""
        while True:
            try:
                got = self.client.sock.recv(65536)
            except (TimeoutError, OSError):
                return status, data
            if not got:
                return status, data
            for event in self.http2.receive_data(got):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                elif isinstance(event, h2.events.TrailersReceived):
                    self.trailers = event.headers
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return status, data


def fields(path: str, *more: tuple[str, str], authority: str = "tunnel.test", method: str = "GET") -> tuple[tuple[str, str], ...]:
    return ((":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *more)


def test_http2_is_judged_and_masked(gateway: Gateway, secure_origin: Origin) -> None:
    client = Http2(gateway, "tunnel.test:443")
    status, body = client.request(*fields("/json"))
    assert status == 200
    assert b'"h2":true' in body
    assert PASSWORD not in body
    assert client.request(*fields("/admin/x"))[0] == 403
    assert [path for path, _ in secure_origin.requests] == ["/json"]


@pytest.mark.parametrize(
    "request_fields",
    [
        fields("/items", authority="evil.test"),
        fields("/items", ("host", "evil.test")),
        fields("/items", ("host", "tunnel.test"), ("host", "tunnel.test")),
        fields("/items/../admin/x"),
        fields("/items", method="get"),
        fields("/items", ("upgrade", "h2c")),
        fields("/items", ("transfer-encoding", "chunked")),
        fields("/items", ("x", "a\r\nb: c")),
        fields("http://evil.test/items"),
        fields("/items?x HTTP/1.1"),
    ],
)
def test_http2_has_the_same_walls(gateway: Gateway, secure_origin: Origin, request_fields: tuple[tuple[str, str], ...]) -> None:
    assert Http2(gateway, "tunnel.test:443").request(*request_fields)[0] in (0, 400, 403)
    assert secure_origin.requests == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_without_a_length_is_no_second_request_of_an_http1_target(gateway: Gateway, older_origin: Origin, method: str) -> None:
    """HTTP/2 needs no Content-Length; mitmproxy would send the body to an HTTP/1 target with nothing around it."""
    hidden = b"GET /admin/x HTTP/1.1\r\nHost: older.test\r\n\r\n"
    client = Http2(gateway, "older.test:443")
    assert client.request(*fields("/items/1", authority="older.test", method=method), body=hidden)[0] == 200
    ((path, request),) = older_origin.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert (path, body) == ("/items/1", hidden)
    assert b"content-length: %d" % len(hidden) in head.lower()
    assert bytes(older_origin.seen).count(b"/admin/x") == 1


def test_http2_trailers_are_refused(gateway: Gateway, secure_origin: Origin) -> None:
    client = Http2(gateway, "tunnel.test:443")
    assert client.request(*fields("/items/1", method="POST"), body=b"{}", trailers=(("x-admin", "yes"),))[0] == 400
    assert secure_origin.requests == []


EVENT = b'data: {"password":"hunter2-secret"}\n\n'


@pytest.mark.parametrize(
    ("path", "status", "content_type", "body", "answered"),
    [
        ("/json", "200", "application/json", b'{"password":"hunter2-secret"}', 200),
        ("/events", "200", "text/event-stream", EVENT, 200),
        ("/teapot", "418", "application/json", b"{}", 403),
        ("/teapot", "418", "application/json", b"", 403),
        ("/teapot", "418", "text/event-stream", EVENT, 403),
        ("/coded", "200", "text/event-stream; x", EVENT, 200),
    ],
)
def test_the_targets_trailers_are_masked_or_not_sent(
    gateway: Gateway, secure_origin: Origin, path: str, status: str, content_type: str, body: bytes, answered: int
) -> None:
    head = [(":status", status), ("content-type", content_type)]
    secure_origin.http2_answers[path] = head, body, [("x-secret", PASSWORD.decode()), ("x-more", "1")]
    client = Http2(gateway, "tunnel.test:443")
    got, data = client.request(*fields(path))
    assert got == answered
    assert PASSWORD not in data
    assert client.trailers == ([(b"x-secret", b"[redacted]"), (b"x-more", b"1")] if answered == 200 else [])


def test_tls_to_the_proxy_itself(tmp_path: Path, origin: Origin, certificate: tuple[Path, Path]) -> None:
    """With `tls:` the listener speaks TLS with the configured certificate, and the token is not in the clear."""
    from tests.addons.conftest import RULES

    key = certificate[1]
    more = f'tls: {{cert: "{certificate[0]}", key: "{key}"}}\nconnections: [{{name: api, kind: http, hosts: ["api.test:80"], target: "http://127.0.0.1:{origin.port}"}}]\n'
    gateway = Gateway(tmp_path, more, RULES).start()
    try:
        context = ssl.create_default_context(cafile=str(certificate[0]))
        with (
            socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"GET http://api.test/items HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n" + gateway.credential + b"\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        gateway.stop()
