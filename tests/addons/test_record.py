"""What is left of an exchange: readable by stock mitmproxy, as the client saw it, without what was hidden."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.io import FlowReader

from addons.record import CREDENTIALS, REDACTED, redacted
from tests.addons.live import PASSWORD, SECRET, Gateway, quiet
from tests.addons.origin import Connection, Origin, json_response

HEAD = 65536  # recordings.head_bytes


def flows(gateway: Gateway, path: str = "") -> list[http.HTTPFlow]:
    found: list[Any] = []
    for recording in gateway.recordings():
        with recording.open("rb") as file:
            found += FlowReader(file).stream()
    return [flow for flow in found if path in flow.request.path]


def test_an_exchange_is_there_before_its_client_has_it(gateway: Gateway, origin: Origin) -> None:
    origin.answers["/recorded/1"] = json_response(b'{"password":"hunter2-secret"}', b"Set-Cookie: sid=abc\r\nX-Secret: hunter2-secret\r\n")
    gateway.get("http://api.test/recorded/1?token=hunter2-secret&a=1", headers=b"Cookie: sid=abc\r\nX-Api-Key: mine\r\n")
    (flow,) = flows(gateway, "/recorded/1")
    assert flow.request.pretty_url == "http://api.test/recorded/1?token=[redacted]&a=1"
    assert (flow.request.host, flow.request.port, flow.request.scheme) == ("api.test", 80, "http")
    assert flow.request.headers["cookie"] == flow.request.headers["x-api-key"] == "[redacted]"
    assert "authorization" not in flow.request.headers
    assert flow.response is not None
    assert flow.response.content == b'{"password":"[redacted]"}'
    assert flow.response.headers["set-cookie"] == "[redacted]"
    assert flow.metadata["principal"] == "local:agent-1"
    assert flow.metadata["connection"] == "api"
    assert flow.metadata["decision"] == "allow"
    assert flow.metadata["masked"] >= 2
    assert "local:agent-1 on api: allow" in flow.comment


def test_a_denied_exchange_is_recorded(gateway: Gateway, origin: Origin) -> None:
    reply = gateway.request("POST", "http://api.test/admin/recorded", body=b'{"password":"hunter2-secret"}')
    (flow,) = flows(gateway, "/admin/recorded")
    assert flow.response is not None
    assert flow.response.content == reply.body
    assert flow.metadata["decision"] == "deny"
    assert flow.metadata["rules"] == ["no-admin"]
    assert flow.metadata["operation"] == reply.problem["operation"]
    assert PASSWORD not in (flow.request.content or b"")


def test_a_failed_exchange_is_recorded_without_the_targets_words(gateway: Gateway, origin: Origin) -> None:
    def broken(connection: Connection) -> None:
        connection.sock.sendall(b"hunter2-secret\r\n\r\n")
        connection.sock.close()

    origin.answers["/recorded/broken"] = broken
    gateway.get("http://api.test/recorded/broken")
    (flow,) = flows(gateway, "/recorded/broken")
    assert flow.error is not None
    assert "hunter2" not in flow.error.msg


def somebody(gateway: Gateway) -> bytes:
    """One who has not asked for as much as a principal may, whatever other tests did."""
    return b"Proxy-Authorization: Bearer " + gateway.token("recorded").encode() + b"\r\n"


def truncated(connection: Connection) -> None:
    connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Secret: uploaded-secret\r\n\r\nuploaded-secret")
    connection.sock.close()


@pytest.mark.parametrize(
    "url",
    ["http://api.test/admin/hidden", "http://api.test/refunds/hidden", "http://api.test/items/hidden", "http://dead.test/items/hidden"],
)
def test_what_is_masked_is_not_recorded_of_a_request_without_a_response_either(gateway: Gateway, origin: Origin, url: str) -> None:
    """Denied, pending, cut short by the target, and never connected."""
    origin.answers["/items/hidden"] = truncated
    headers = b"X-Secret: uploaded-secret\r\nPrefer: wait=0\r\n"
    gateway.request("POST", f"{url}?token=uploaded-secret&a=1", headers=headers, body=b"{}", credential=somebody(gateway))
    found = [flow for flow in flows(gateway, "/hidden") if flow.request.pretty_url.startswith(url)]
    assert len(found) == 1
    assert found[0].request.path.endswith("/hidden?token=[redacted]&a=1")
    assert not any(b"uploaded-secret" in path.read_bytes() for path in gateway.recordings())


def test_a_request_that_was_not_judged_is_recorded_without_its_values(gateway: Gateway, origin: Origin) -> None:
    body = b"POST http://api.test/refunds/left?token=uploaded-secret HTTP/1.1\r\nHost: api.test\r\nX-Secret: uploaded-secret\r\n"
    with gateway.connect() as client:
        client.send(body + somebody(gateway) + b"Content-Length: 2\r\n\r\n{}")
        assert quiet(client.sock)
    assert gateway.eventually(lambda: bool(flows(gateway, "/left")))
    (flow,) = flows(gateway, "/left")
    assert flow.request.path == "/refunds/left?[redacted]"
    assert set(flow.request.headers.values()) == {"[redacted]"}


def test_an_uploaded_secret_is_masked_in_the_recording(gateway: Gateway, origin: Origin) -> None:
    body = b'{"password":"hunter2-secret","a":1}'
    assert gateway.request("POST", "http://api.test/items/recorded", headers=b"Content-Type: application/json\r\n", body=body).status == 200
    assert body in origin.seen
    (flow,) = flows(gateway, "/items/recorded")
    assert flow.request.content == b'{"password":"[redacted]","a":1}'


@pytest.mark.parametrize("coding", [b"", b"Content-Encoding: gzip\r\n"])
def test_a_long_response_is_cut_after_masking(gateway: Gateway, origin: Origin, coding: bytes) -> None:
    secret = b'"password":"hunter2-secret"'
    body = b'{"a":"' + b"x" * (HEAD - 20) + b'",' + secret + b',"b":"' + b"y" * 1000 + b'"}'  # the cut would go through the secret
    path = f"/recorded/long{len(coding)}"
    origin.answers[path] = json_response(gzip.compress(body) if coding else body, coding)
    reply = gateway.get(f"http://api.test{path}", headers=b"Accept-Encoding: gzip\r\n")
    assert len(reply.body) > HEAD or reply.headers["content-encoding"] == "gzip"
    (flow,) = flows(gateway, path)
    assert flow.response is not None
    assert flow.response.raw_content == body.replace(PASSWORD, b"[redacted]")[:HEAD] + b"\n[cut]\n"
    assert "content-length" not in flow.response.headers
    assert "content-encoding" not in flow.response.headers


def test_a_long_request_is_kept_whole(gateway: Gateway, origin: Origin) -> None:
    body = b"z" * (HEAD + 1)
    assert gateway.request("POST", "http://api.test/items/long", body=body).status == 200
    (flow,) = flows(gateway, "/items/long")
    assert flow.request.content == body


def test_every_request_of_a_session_is_one_record(gateway: Gateway, origin: Origin) -> None:
    with gateway.connect() as client:
        for number in range(20):
            client.send(f"GET http://api.test/counted/{number} HTTP/1.1\r\nHost: api.test\r\n".encode() + gateway.credential + b"\r\n")
            assert client.read().status == 200
    assert [flow.request.path for flow in flows(gateway, "/counted/")] == [f"/counted/{number}" for number in range(20)]
    decided = [line for line in gateway.ledger() if str(line.get("title", "")).startswith("GET /counted/")]
    assert gateway.eventually(lambda: len(decided) == 20 or len(_counted(gateway)) == 20)


def _counted(gateway: Gateway) -> list[Any]:
    return [line for line in gateway.ledger() if str(line.get("title", "")).startswith("GET /counted/") and line["event"] == "decided"]


def test_stock_mitmdump_reads_it(gateway: Gateway, origin: Origin) -> None:
    gateway.get("http://api.test/recorded/stock")
    recording = next(path for path in gateway.recordings() if b"/recorded/stock" in path.read_bytes())
    program = "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"
    environment = gateway.environment()
    shown = subprocess.run(
        [sys.executable, "-c", program, "-nr", str(recording)], env=environment, capture_output=True, text=True, timeout=30
    )
    assert shown.returncode == 0
    assert "http://api.test/recorded/stock" in shown.stdout
    assert SECRET not in shown.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Gateway]:
    """A gateway that may come to harm."""
    from tests.addons.conftest import RULES

    target = f'connections: [{{name: api, kind: http, hosts: ["api.test:80"], target: "http://127.0.0.1:{origin.port}"}}]\n'
    gateway = Gateway(tmp_path_factory.mktemp("alone"), target, RULES).start()
    yield gateway
    gateway.stop()


def test_after_a_kill_whole_records_are_left(alone: Gateway, origin: Origin) -> None:
    for number in range(5):
        assert alone.get(f"http://api.test/before/{number}").status == 200
    alone.stop(signal.SIGKILL)
    assert len(flows(alone, "/before/")) == 5
    alone.start()
    assert alone.get("http://api.test/after").status == 200
    assert len(flows(alone, "/before/")) == 5


def test_when_the_recording_cannot_be_written_nothing_is_answered(alone: Gateway, origin: Origin) -> None:
    origin.answers["/full"] = json_response(b'{"a":"visible-payload"}')
    assert alone.get("http://api.test/items").status == 200
    before = len(flows(alone))
    assert alone.process is not None
    # the recording is open; a limit on file size is what a full disk looks like to it
    import resource

    usual = resource.prlimit(alone.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(alone.process.pid, resource.RLIMIT_FSIZE, (1, usual[1]))
    try:
        reply = alone.get("http://api.test/full")
    finally:
        resource.prlimit(alone.process.pid, resource.RLIMIT_FSIZE, usual)
    assert b"visible-payload" not in reply.raw
    assert reply.status in (0, 403, 503)
    assert len(flows(alone)) == before
    assert flows(alone, "/full") == []


def test_credentials_are_never_recorded() -> None:
    names = [name.title() for name in sorted(CREDENTIALS)]
    fields = (*((name, b"x") for name in names), (b"Accept", b"y"))
    assert redacted(fields) == (*((name, REDACTED) for name in names), (b"Accept", b"y"))
    assert redacted(plain := ((b"Accept", b"y"),)) is plain
