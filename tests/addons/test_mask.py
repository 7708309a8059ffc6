"""What comes back through a live gateway: judged, decoded within bounds, masked, or refused."""

from __future__ import annotations

import base64
import gzip
import time
import urllib.parse
import zlib

import brotli
import pytest
import zstandard

from tests.addons.live import PASSWORD, SECRET, Gateway, Reply
from tests.addons.origin import Connection, Origin, json_response, response

DOCUMENT = b'{"name":"a","password":"hunter2-secret","n":12345678901234567890123}'
MASKED = b'{"name":"a","password":"[redacted]","n":12345678901234567890123}'


def get(gateway: Gateway, origin: Origin, answer: bytes, headers: bytes = b"") -> Reply:
    origin.answers["/it"] = answer
    return gateway.get("http://api.test/it", headers=headers)


def encoded(coding: bytes, data: bytes) -> bytes:
    return json_response(data, b"Content-Encoding: " + coding + b"\r\n")


@pytest.mark.parametrize(
    ("coding", "encode"),
    [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"br", brotli.compress), (b"zstd", zstandard.compress), (b"identity", bytes)],
)
def test_any_known_coding_is_undone_and_masked(gateway: Gateway, origin: Origin, coding: bytes, encode: object) -> None:
    reply = get(gateway, origin, encoded(coding, encode(DOCUMENT)))  # type: ignore[operator]
    assert (reply.status, reply.body) == (200, MASKED)
    assert reply.headers["content-length"] == str(len(MASKED))
    assert reply.headers.get("content-encoding", "identity") == "identity"


@pytest.mark.parametrize(
    "answer",
    [
        encoded(b"foo", DOCUMENT),
        encoded(b"gzip, br", DOCUMENT),
        encoded(b"gzip", DOCUMENT),
        encoded(b"gzip", gzip.compress(DOCUMENT)[:-4]),
        encoded(b"gzip", gzip.compress(b" " * (80 << 20) + DOCUMENT)),
        json_response(DOCUMENT, b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"),
        json_response(b'{"password": "hunter2-secret",}'),
        json_response(DOCUMENT, b"").replace(b"200 OK", b"206 Partial Content"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhunter2-secret",
    ],
)
def test_what_cannot_be_masked_for_certain_is_refused(gateway: Gateway, origin: Origin, answer: bytes) -> None:
    reply = get(gateway, origin, answer)
    assert reply.problem["status"] == 502
    assert PASSWORD not in reply.raw
    assert gateway.eventually(lambda: any(line["event"] == "response_refused" for line in gateway.ledger()))


def test_json_is_masked_whatever_its_label(gateway: Gateway, origin: Origin) -> None:
    assert get(gateway, origin, response(DOCUMENT)).body == MASKED


def test_headers_and_the_reason_are_masked(gateway: Gateway, origin: Origin) -> None:
    answer = json_response(b"{}", b"X-Secret: hunter2-secret\r\nX-Echo: Bearer " + SECRET.encode() + b"\r\n").replace(
        b"200 OK", b"200 hunter2-secret"
    )
    reply = get(gateway, origin, answer)
    assert reply.status == 200
    assert PASSWORD not in reply.raw
    assert SECRET.encode() not in reply.raw


@pytest.mark.parametrize(
    "shape",
    [
        bytes,
        base64.b64encode,
        lambda s: base64.b64encode(b"x" + s),
        lambda s: base64.b64encode(b"xy" + s),
        lambda s: urllib.parse.quote(s).encode(),
    ],
)
def test_the_injected_secret_never_comes_back(gateway: Gateway, origin: Origin, shape: object) -> None:
    shown: bytes = shape(SECRET.encode())  # type: ignore[operator]
    reply = get(gateway, origin, response(b"you sent " + shown + b"."))
    assert reply.status == 200
    for start in range(len(shown) - 12):
        assert shown[start : start + 12] not in reply.body


def test_the_injected_secret_does_not_come_back_as_the_name_of_a_header(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/named"] = response(b"ok", headers=b"X-" + SECRET.encode() + b": 1\r\nX-Other: 2\r\n")
    reply = gateway.get("http://api.test/named")
    assert (reply.status, reply.headers["x-redacted"], reply.headers["x-other"]) == (200, "1", "2")
    assert SECRET.encode() not in reply.raw
    assert SECRET.encode() not in gateway.everything_written()


def test_what_described_the_bytes_goes_when_they_change(gateway: Gateway, origin: Origin) -> None:
    headers = b'ETag: "1"\r\nDigest: x\r\nContent-MD5: x\r\nRepr-Digest: x\r\nSignature: x\r\nX-Other: y\r\n'
    changed = get(gateway, origin, json_response(DOCUMENT, headers)).headers
    assert not changed.keys() & {"etag", "digest", "content-md5", "repr-digest", "signature"}
    assert changed["x-other"] == "y"
    same = get(gateway, origin, json_response(b'{"a":1}', headers)).headers
    assert same["etag"] == '"1"'


def test_conditions_and_ranges_do_not_reach_the_target(gateway: Gateway, origin: Origin) -> None:
    get(
        gateway,
        origin,
        json_response(DOCUMENT),
        b'If-None-Match: "1"\r\nRange: bytes=0-3\r\nIf-Modified-Since: x\r\nAccept-Encoding: br, gzip\r\n',
    )
    seen = bytes(origin.seen).lower()
    for name in (b"if-none-match", b"range", b"if-modified-since"):
        assert name not in seen
    assert b"accept-encoding: gzip, identity" in seen


@pytest.mark.parametrize(
    ("accepts", "sent"),
    [
        (b"", b"identity"),
        (b"Accept-Encoding: br\r\n", b"identity"),
        (b"Accept-Encoding: gzip;q=0\r\n", b"identity"),
        (b"Accept-Encoding: *\r\n", b"gzip, identity"),
    ],
)
def test_only_codings_that_the_client_takes_are_asked_for(gateway: Gateway, origin: Origin, accepts: bytes, sent: bytes) -> None:
    get(gateway, origin, json_response(DOCUMENT), accepts)
    assert b"Accept-Encoding: " + sent + b"\r\n" in origin.seen


def test_an_unchanged_body_stays_as_it_came(gateway: Gateway, origin: Origin) -> None:
    packed = gzip.compress(b'{"a":1}')
    reply = get(gateway, origin, encoded(b"gzip", packed), b"Accept-Encoding: gzip\r\n")
    assert (reply.body, reply.headers["content-encoding"]) == (packed, "gzip")


def test_a_large_body_is_masked_beside_the_others(gateway: Gateway, origin: Origin) -> None:
    body = b"[" + b",".join([DOCUMENT] * 15_000) + b"]"
    reply = get(gateway, origin, json_response(body))
    assert reply.body == b"[" + b",".join([MASKED] * 15_000) + b"]"


def test_head_and_not_modified_have_no_body(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/it"] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\nContent-Encoding: gzip\r\n\r\n"
    with gateway.connect() as client:
        client.send(b"HEAD http://api.test/it HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n" + gateway.credential + b"\r\n")
        got = client.read_all()
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert b"Content-Length: 99" in got
    origin.answers["/it"] = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"
    assert gateway.get("http://api.test/it").status == 304


def test_a_response_rule_denies_before_the_first_byte(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/teapot"] = response(PASSWORD, status="418 I am a teapot")
    reply = gateway.get("http://api.test/teapot")
    assert reply.problem["detail"] == "no teapots"
    assert reply.problem["type"].endswith("response-refused")
    assert PASSWORD not in reply.raw
    assert len(origin.requests) == 1
    assert gateway.eventually(lambda: any(line.get("message") == "no teapots" for line in gateway.ledger()))


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 403)])
def test_a_response_rule_knows_the_decoded_size(gateway: Gateway, origin: Origin, size: int, status: int) -> None:
    origin.answers["/sized/x"] = response(gzip.compress(b"x" * size), headers=b"Content-Encoding: gzip\r\n")
    assert gateway.get("http://api.test/sized/x").status == status


def test_an_informational_response_is_not_taken_for_the_response(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/it"] = b"HTTP/1.1 103 Early Hints\r\nLink: </hunter2-secret>\r\n\r\n" + json_response(DOCUMENT)
    with gateway.connect() as client:
        client.send(b"GET http://api.test/it HTTP/1.1\r\nHost: api.test\r\n" + gateway.credential + b"\r\n")
        reply = client.read()
        assert reply.problem["status"] == 502
        assert PASSWORD not in reply.raw
        assert client.read_all() == b""


# --- streams


def events(*parts: bytes, pause: float = 0.15, head: bytes = b"Content-Type: text/event-stream\r\n") -> object:
    def answer(connection: Connection) -> None:
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            connection.sock.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            time.sleep(pause)
        connection.sock.sendall(b"0\r\n\r\n")

    return answer


def test_events_are_masked_and_sent_as_they_come(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/it"] = events(b'data: {"password":"hunter2', b'-secret"}\n\n', b'data: {"n":2}\n\n', pause=0.3)  # type: ignore[assignment]
    with gateway.connect() as client:
        began = time.monotonic()
        client.send(b"GET http://api.test/it HTTP/1.1\r\nHost: api.test\r\n" + gateway.credential + b"\r\n")
        first = b""
        while b"[redacted]" not in first:
            first += client.sock.recv(65536)
        assert b'"n":2' not in first
        rest = first
        while b"0\r\n\r\n" not in rest:
            rest += client.sock.recv(65536)
    assert b'{"n":2}' in rest
    assert PASSWORD not in rest
    assert time.monotonic() - began >= 0.6


def test_lines_with_a_length_and_gzip_are_masked(gateway: Gateway, origin: Origin) -> None:
    packed = gzip.compress(DOCUMENT + b"\n" + DOCUMENT + b"\n")
    head = b"Content-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\n"
    origin.answers["/it"] = response(packed, headers=head)
    reply = gateway.get("http://api.test/it", headers=b"Accept-Encoding: gzip\r\n")
    assert MASKED in reply.body
    assert PASSWORD not in reply.raw


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: text/event-stream\r\nContent-Encoding: br\r\n",
        b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
        b"Content-Type: text/event-stream; charset=utf-16\r\n",
    ],
)
def test_a_stream_that_cannot_be_masked_shows_nothing(gateway: Gateway, origin: Origin, head: bytes) -> None:
    origin.answers["/it"] = events(b"data: hunter2-secret\n\n", head=head)  # type: ignore[assignment]
    reply = gateway.get("http://api.test/it")
    assert PASSWORD not in reply.raw
    assert not reply.raw.endswith(b"0\r\n\r\n") or reply.status == 502


def test_a_stream_with_an_endless_event_is_cut(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/it"] = events(b"data: " + b"x" * (1 << 20), *([b"x" * (1 << 20)] * 6), pause=0)  # type: ignore[assignment]
    with gateway.connect() as client:
        client.send(b"GET http://api.test/it HTTP/1.1\r\nHost: api.test\r\n" + gateway.credential + b"\r\n")
        got = client.read_all()
    assert b"xxxx" not in got
    assert not got.endswith(b"0\r\n\r\n")


def test_a_denied_stream_is_replaced(gateway: Gateway, origin: Origin) -> None:
    def answer(connection: Connection) -> None:
        connection.sock.sendall(b"HTTP/1.1 418 No\r\nContent-Type: text/event-stream\r\n\r\ndata: hunter2-secret\n\n")
        time.sleep(1)

    origin.answers["/teapot"] = answer
    reply = gateway.get("http://api.test/teapot")
    assert reply.problem["detail"] == "no teapots"
    assert PASSWORD not in reply.raw


def test_nothing_that_was_masked_is_written_anywhere(gateway: Gateway, origin: Origin) -> None:
    get(gateway, origin, json_response(DOCUMENT))
    time.sleep(1.2)
    written = gateway.everything_written()
    assert PASSWORD not in written
    for shown in (SECRET.encode(), base64.b64encode(SECRET.encode()), gateway.credential.split()[-1]):
        assert shown not in written
