"""Ways around a proxy that others have shipped: the target sees nothing of any of them."""

from __future__ import annotations

import contextlib
import gzip
import socket
import time
from pathlib import Path

import pytest

from tests.addons.live import PASSWORD, SECRET, Gateway, quiet
from tests.addons.origin import Connection, Origin, response

GET = b"GET http://api.test/items HTTP/1.1\r\n"
HOST = b"Host: api.test\r\n"

POST = b"POST http://api.test/items/1 HTTP/1.1\r\n"
REFUSED = {
    "no token": (GET + HOST + b"\r\n", 407),
    "two tokens": (GET + HOST + b"{auth}{auth}\r\n", 407),
    "a token that proves nothing": (GET + HOST + b"Proxy-Authorization: Bearer x.y.z\r\n\r\n", 407),
    "another scheme": (GET + HOST + b"Proxy-Authorization: Digest x\r\n\r\n", 407),
    "the token in the wrong header": (GET + HOST + b"Authorization: Bearer x\r\n\r\n", 407),
    "no Host": (GET + b"{auth}\r\n", 400),
    "another Host": (GET + b"Host: evil.test\r\n{auth}\r\n", 400),
    "Host of another connection": (GET + b"Host: other.test\r\n{auth}\r\n", 400),
    "duplicate Host": (GET + HOST + HOST + b"{auth}\r\n", 400),
    "duplicate Host that differs": (GET + HOST + b"Host: evil.test\r\n{auth}\r\n", 400),
    "Host with another port": (GET + b"Host: api.test:8080\r\n{auth}\r\n", 400),
    "a list as Host": (GET + b"Host: api.test, evil.test\r\n{auth}\r\n", 400),
    "unknown authority": (b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n{auth}\r\n", 403),
    "another port": (b"GET http://api.test:81/ HTTP/1.1\r\nHost: api.test:81\r\n{auth}\r\n", 403),
    "the target's own address": (b"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{auth}\r\n", 403),
    "cloud metadata": (b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n{auth}\r\n", 403),
    "decimal address": (b"GET http://2130706433/ HTTP/1.1\r\nHost: 2130706433\r\n{auth}\r\n", 400),
    "hexadecimal address": (b"GET http://0x7f000001/ HTTP/1.1\r\nHost: 0x7f000001\r\n{auth}\r\n", 400),
    "mapped address": (b"GET http://[::ffff:127.0.0.1]:{port}/ HTTP/1.1\r\nHost: [::ffff:127.0.0.1]:{port}\r\n{auth}\r\n", 403),
    "mitm.it": (b"GET http://mitm.it/ HTTP/1.1\r\nHost: mitm.it\r\n{auth}\r\n", 403),
    "origin-form": (b"GET /items HTTP/1.1\r\nHost: api.test\r\n{auth}\r\n", 404),
    "origin-form to the token endpoint": (b"GET /oauth/token HTTP/1.1\r\nHost: api.test\r\n{auth}\r\n", 405),
    "dot segments": (b"GET http://api.test/items/../admin/x HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "encoded dot segments": (b"GET http://api.test/items/%2e%2e/admin HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "empty segment": (b"GET http://api.test//admin/x HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "encoded slash": (b"GET http://api.test/items%2fadmin HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "backslash": (b"GET http://api.test/items\\admin HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "encoded NUL": (b"GET http://api.test/items%00 HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "double encoding": (b"GET http://api.test/%2561dmin HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "path parameter": (b"GET http://api.test/admin;x/ HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "encoded admin": (b"GET http://api.test/%61dmin/x HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "fragment": (b"GET http://api.test/items#x HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "lower-case method": (b"get http://api.test/items HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "method override": (GET + HOST + b"{auth}X-HTTP-Method-Override: DELETE\r\n\r\n", 403),
    "obs-fold": (GET + HOST + b"X: a\r\n b\r\n{auth}\r\n", 400),
    "length and chunks": (POST + HOST + b"{auth}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + HOST + b"{auth}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "odd transfer coding": (POST + HOST + b"{auth}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "xchunked": (POST + HOST + b"{auth}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "TE that asks for codings": (GET + HOST + b"{auth}TE: gzip\r\n\r\n", 400),
    "a header for another proxy to remove": (GET + HOST + b"{auth}Connection: authorization\r\n\r\n", 400),
    "h2c": (GET + HOST + b"{auth}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", 403),
    "a list of upgrades": (GET + HOST + b"{auth}Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", 403),
    "two upgrades": (GET + HOST + b"{auth}Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", 403),
    "another upgrade": (GET + HOST + b"{auth}Connection: Upgrade\r\nUpgrade: foo\r\n\r\n", 403),
    "HTTP/2 by name": (b"GET http://api.test/items HTTP/2.0\r\n" + HOST + b"{auth}\r\n", 400),
    "HTTP/1.2": (b"GET http://api.test/items HTTP/1.2\r\n" + HOST + b"{auth}\r\n", 400),
    "prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "unknown content coding": (POST + HOST + b"{auth}Content-Encoding: foo\r\nContent-Length: 2\r\n\r\n{}", 403),
    "stacked content coding": (POST + HOST + b"{auth}Content-Encoding: gzip, gzip\r\nContent-Length: 2\r\n\r\n{}", 403),
    "a denied path": (b"GET http://api.test/admin/x HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "what no rule allows": (b"DELETE http://api.test/items HTTP/1.1\r\n" + HOST + b"{auth}\r\n", 403),
    "a session that is refused": (b"GET http://closed.test/ HTTP/1.1\r\nHost: closed.test\r\n{auth}\r\n", 403),
    "a tunnel without a token": (b"CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\n\r\n", 407),
    "a tunnel to nowhere": (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n{auth}\r\n", 403),
    "a tunnel to the target's own address": (b"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n{auth}\r\n", 403),
    "too much body": (POST + HOST + b"{auth}Content-Length: 99999999\r\n\r\n", 413),
    "a head without end": (b"GET http://api.test/ HTTP/1.1\r\n" + HOST + b"{auth}X: " + b"a" * 300_000, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_target_sees_nothing(gateway: Gateway, origin: Origin, name: str) -> None:
    data, status = REFUSED[name]
    with gateway.connect() as client:
        client.send(data.replace(b"{port}", str(origin.port).encode()).replace(b"{auth}", gateway.credential))
        reply = client.read()
    assert reply.status == status, reply.raw[:300]
    assert SECRET.encode() not in reply.raw
    assert bytes(origin.seen) == b""


def test_the_plain_request_passes(gateway: Gateway, origin: Origin) -> None:
    """Without which the table above would prove nothing."""
    assert gateway.raw(GET + HOST + b"Connection: close\r\n{auth}\r\n").startswith(b"HTTP/1.1 200 OK")
    assert b"GET /items HTTP/1.1" in origin.seen


def test_trailers_are_refused_and_do_not_hang(gateway: Gateway, origin: Origin) -> None:
    head = POST + HOST + gateway.credential + b"Transfer-Encoding: chunked\r\n\r\n"
    with gateway.connect(3) as client:
        client.send(head + b"2\r\n{}\r\n0\r\nX-Admin: yes\r\n\r\n")
        assert client.read().status in (0, 400)
    assert bytes(origin.seen) == b""


def test_a_second_request_needs_its_own_token(gateway: Gateway, origin: Origin) -> None:
    with gateway.connect() as client:
        client.send(GET + HOST + gateway.credential + b"\r\n")
        assert client.read().status == 200
        origin.clear()
        client.send(GET + HOST + b"\r\n")
        assert client.read().status == 407
    assert bytes(origin.seen) == b""


def test_a_pipelined_second_request_needs_its_own_token(gateway: Gateway, origin: Origin) -> None:
    with gateway.connect() as client:
        client.send(GET + HOST + gateway.credential + b"\r\n" + b"GET http://api.test/second HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.read().status == 200
        assert client.read().status == 407
    assert b"second" not in origin.seen


def test_the_token_never_goes_upstream(gateway: Gateway, origin: Origin) -> None:
    gateway.get(
        "http://api.test/items",
        headers=b"Proxy-Connection: keep-alive\r\nCookie: mine=1\r\nAuthorization: Bearer mine\r\nauthorization: x\r\n",
    )
    seen = bytes(origin.seen)
    assert b"GET /items" in seen
    assert b"proxy-" not in seen.lower()
    assert b"mine" not in seen
    assert seen.lower().count(b"authorization:") == 1
    assert SECRET.encode() in seen


@pytest.mark.parametrize(
    ("target", "credential", "status"),
    [
        (b"http://api.test/items/1", b"", 407),
        (b"http://evil.test/", b"{auth}", 403),
        (b"/oauth/token", b"", 413),
        (b"/elsewhere", b"", 404),
    ],
)
def test_a_body_that_is_refused_already_is_not_kept(
    gateway: Gateway, origin: Origin, target: bytes, credential: bytes, status: int
) -> None:
    """Sixteen callers whom nobody knows, with 16 MB each, and nobody to stop them by."""
    assert gateway.process is not None
    status_file = Path(f"/proc/{gateway.process.pid}/status")
    host = target.split(b"/")[2] if target.startswith(b"http") else b"x"
    head = b"POST %b HTTP/1.1\r\nHost: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (target, host, credential)
    head = head.replace(b"{auth}", gateway.credential)

    def resident() -> int:
        return next(int(line.split()[1]) for line in status_file.read_text().splitlines() if line.startswith("VmRSS"))

    with contextlib.ExitStack() as clients:
        opened = [clients.enter_context(gateway.connect(20)) for _ in range(16)]
        before = resident()
        for client in opened:
            client.send(head)
            for _ in range(16):
                client.send(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        assert resident() - before < 64 << 10  # KiB
        for client in opened:
            client.send(b"0\r\n\r\n")
            assert client.read().status == status
    assert bytes(origin.seen) == b""


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue, x", b"100-continue\r\nExpect: 100-continue"])
def test_what_a_client_expects_is_answered_once_and_not_forwarded(gateway: Gateway, origin: Origin, expect: bytes) -> None:
    """A target that answered it would seem to have sent its response, and its response to be that of the next request."""

    def strict(connection: Connection) -> None:
        if b"expect:" in bytes(origin.seen).lower():
            connection.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sock.sendall(response(b"done"))

    origin.answers["/items/1"] = strict
    with gateway.connect() as client:
        client.send(POST + HOST + gateway.credential + b"Expect: " + expect + b"\r\nContent-Length: 2\r\n\r\n{}")
        reply = client.read()
        if expect == b"100-continue":
            assert reply.status == 100
            reply = client.read()
        assert (reply.status, reply.body) == (200, b"done")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_body_that_the_target_leaves_unread_is_no_second_request(
    gateway: Gateway, origin: Origin, monkeypatch: pytest.MonkeyPatch, method: bytes
) -> None:
    monkeypatch.setattr(origin, "reads_bodies", False)
    hidden = b"GET /admin/x HTTP/1.1\r\nHost: api.test\r\n\r\n"
    with gateway.connect() as client:
        length = b"Content-Length: %d\r\n" % len(hidden)
        client.send(method + POST.removeprefix(b"POST") + HOST + gateway.credential + length + b"\r\n" + hidden)
        assert client.read().status == 200
        client.send(GET + HOST + gateway.credential + b"\r\n")
        assert client.read().status == 200
    assert [path for path, _ in origin.requests] == ["/items/1", "/items"]


def test_a_gzip_bomb_is_not_forwarded(gateway: Gateway, origin: Origin) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    reply = gateway.request(
        "POST", "http://api.test/items/1", headers=b"Content-Encoding: gzip\r\nContent-Type: application/json\r\n", body=bomb
    )
    assert reply.status == 403
    assert bytes(origin.seen) == b""


# --- tunnels


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n", b"\x00\x01\x02\x03", b"EHLO x\r\n", b"\x05\x01\x00", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"]
)
def test_raw_bytes_in_a_tunnel_are_not_relayed(gateway: Gateway, origin: Origin, data: bytes) -> None:
    with gateway.tunnel("api.test:80", timeout=1) as client:
        client.send(data)
        client.read_all()
    assert bytes(origin.seen) == b""


def test_http_in_a_tunnel_is_judged(gateway: Gateway, origin: Origin) -> None:
    with gateway.tunnel("api.test:80") as client:
        client.send(b"GET /items HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert client.read().status == 200
        origin.clear()
        client.send(b"GET /admin/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert client.read().status == 403
    assert bytes(origin.seen) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET http://evil.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"GET http://api.test/items HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"GET /items HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET /items HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n\r\n",
        b"CONNECT other.test:80 HTTP/1.1\r\nHost: other.test\r\n\r\n",
    ],
)
def test_a_tunnel_leads_to_its_own_authority_only(gateway: Gateway, origin: Origin, data: bytes) -> None:
    with gateway.tunnel("api.test:80", timeout=1) as client:
        client.send(data)
        assert client.read().status in (0, 400)
    assert bytes(origin.seen) == b""


@pytest.mark.parametrize(
    "upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\n"]
)
@pytest.mark.parametrize("answered", [b"foo", b"h2c", b"websocket", b""])
def test_a_switch_of_protocols_that_was_not_judged_is_cut(gateway: Gateway, origin: Origin, upgrade: bytes, answered: bytes) -> None:
    def switch(connection: Connection) -> None:
        line = b"Upgrade: " + answered + b"\r\n" if answered else b""
        connection.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" + line + b"\r\nleak")
        while connection.read():
            pass

    origin.answers["/items"] = switch
    with gateway.connect(1) as client:
        client.send(GET + HOST + gateway.credential + upgrade + b"\r\n")
        got = client.read_all()
        assert b"leak" not in got
        assert b" 101 " not in got
        try:
            client.send(b"GET /admin-raw HTTP/1.1\r\n\r\n")
            client.read_all()
        except OSError:
            pass
    assert b"admin-raw" not in origin.seen


# --- what the target sends


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 hunter2-secret\r\n\r\n",
        b"hunter2-secret\r\n\r\n",
        b"HTTP/1.1 200 hunter2-secret\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nhunter2-secret",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: hunter2-secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhunter2-secret\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhunter2-secret",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 400_000,
    ],
)
def test_a_broken_response_is_not_quoted(gateway: Gateway, origin: Origin, answer: bytes) -> None:
    def send(connection: Connection) -> None:
        connection.sock.sendall(answer)
        connection.sock.shutdown(socket.SHUT_WR)
        connection.sock.close()

    origin.answers["/broken"] = send
    reply = gateway.raw(b"GET http://api.test/broken HTTP/1.1\r\n" + HOST + b"Connection: close\r\n{auth}\r\n", timeout=2)
    assert PASSWORD not in reply
    assert PASSWORD not in b"".join(path.read_bytes() for path in gateway.recordings())
    assert PASSWORD.decode() not in gateway.output()


def test_a_response_that_is_too_large_is_refused(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/big"] = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nhunter2-secret"
    reply = gateway.get("http://api.test/big")
    assert reply.status == 502
    assert PASSWORD not in reply.raw


def test_a_chunked_response_grows_to_the_limit_only(gateway: Gateway, origin: Origin) -> None:
    def endless(connection: Connection) -> None:
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n")
        while True:
            connection.sock.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")

    origin.answers["/endless"] = endless
    reply = gateway.get("http://api.test/endless")
    assert reply.status == 502
    assert b"xxxx" not in reply.raw


def test_a_client_that_goes_away_is_noticed(gateway: Gateway, origin: Origin) -> None:
    """Nothing is sent for a client that left while its request was waiting."""
    with gateway.connect() as client:
        body = b"{}"
        client.send(b"POST http://api.test/refunds/9 HTTP/1.1\r\n" + HOST + gateway.credential + b"Content-Length: 2\r\n\r\n" + body)
        assert quiet(client.sock)
    time.sleep(1.2)
    assert bytes(origin.seen) == b""


def test_redirects_are_left_to_the_client(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/moved"] = response(b"", status="302 Found", headers=b"Location: http://evil.test/\r\n")
    reply = gateway.get("http://api.test/moved")
    assert (reply.status, reply.headers["location"]) == (302, "http://evil.test/")
    assert len(origin.requests) == 1
