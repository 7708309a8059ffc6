"""Flow records against mitmproxy's own FlowWriter and FlowReader: the same bytes, and readable whatever was in them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import certs, connection, flow, http, tcp
from mitmproxy.io import FlowReader, FlowWriter
from mitmproxy.io import tnetstring as reference
from mitmproxy.net.server_spec import parse as parse_server
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow
from mitmproxy.version import FLOW_FORMAT_VERSION
from mitmproxy.websocket import WebSocketMessage

from hopgate import flow_format
from hopgate.flow_format import (
    ShownMessage,
    ShownRequest,
    ShownResponse,
    TcpConnection,
    encode_http_flow,
    encode_tcp_flow,
    encode_tcp_message,
    record_end,
    tnetstring,
)

few = settings(max_examples=60, deadline=None)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.binary(min_size=1, max_size=12)
fields = st.lists(st.tuples(names, st.one_of(st.binary(max_size=20), st.binary(min_size=300, max_size=320))), max_size=6)
bodies = st.one_of(st.none(), st.binary(max_size=200))
times = st.floats(0, 4e9, allow_nan=False)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), text, st.binary(max_size=12))
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)), max_leaves=8)


def stock(of: flow.Flow) -> bytes:
    out = io.BytesIO()
    FlowWriter(out).add(of)
    return out.getvalue()


def load(record: bytes) -> Any:
    (only,) = FlowReader(io.BytesIO(record)).stream()
    return only


def ours(of: http.HTTPFlow) -> bytes:
    """The flow as it is, through our writer."""
    asked, answered = of.request.data, of.response.data if of.response else None
    shown = None
    if answered:
        shown = ShownResponse(
            answered.headers.fields, answered.content, answered.trailers.fields if answered.trailers is not None else None
        )
    return encode_http_flow(
        of,
        request=ShownRequest(
            asked.path, asked.headers.fields, asked.content, asked.trailers.fields if asked.trailers is not None else None
        ),
        response=shown,
        metadata=of.metadata,
        comment=of.comment,
        marked=of.marked,
        messages=[ShownMessage(*message.get_state()) for message in of.websocket.messages] if of.websocket else (),
    )


def certificate() -> certs.Cert:
    key, authority = certs.create_ca("hopgate", "hopgate", 2048)
    return certs.dummy_cert(key, authority, "a.example", [])


@st.composite
def http_flows(draw: st.DrawFn) -> http.HTTPFlow:
    made = tflow.tflow(err=draw(st.booleans()), resp=draw(st.booleans()))
    asked = made.request.data
    asked.headers, asked.content = http.Headers(draw(fields)), draw(bodies)
    asked.trailers = draw(st.one_of(st.none(), fields.map(http.Headers)))
    asked.method, asked.path, asked.authority = draw(names), draw(st.binary(max_size=30)), draw(st.binary(max_size=20))
    asked.http_version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/2.0", b"HTTP/3"]))
    asked.host, asked.port = draw(text), draw(st.integers(0, 65535))
    asked.timestamp_start, asked.timestamp_end = draw(times), draw(st.one_of(st.none(), times))
    if made.response:
        answered = made.response.data
        answered.headers, answered.content = http.Headers(draw(fields)), draw(bodies)
        answered.trailers = draw(st.one_of(st.none(), fields.map(http.Headers)))
        answered.status_code, answered.reason = draw(st.integers(100, 599)), draw(st.binary(max_size=10))
    made.metadata = draw(st.dictionaries(text, values, max_size=4))
    made.comment, made.marked = draw(text), draw(text)
    made.is_replay = draw(st.sampled_from([None, "request", "response"]))
    return made


def test_the_format_version_is_the_installed_ones() -> None:
    assert flow_format.VERSION == FLOW_FORMAT_VERSION


@few
@given(values)
def test_tnetstrings_are_those_of_mitmproxy(value: Any) -> None:
    assert tnetstring(value) == reference.dumps(value)


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j])
def test_what_a_flow_file_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a flow file cannot hold"):
        tnetstring({"a": [value]})


@few
@given(http_flows())
def test_http_flows_are_written_as_flow_writer_writes_them(made: http.HTTPFlow) -> None:
    before = made.get_state()
    record = ours(made)
    assert record == stock(made)
    assert made.get_state() == before
    again = load(record)
    assert again.request.data == made.request.data
    assert (again.response and again.response.data) == (made.response and made.response.data)


@few
@given(
    st.lists(
        st.builds(WebSocketMessage, st.sampled_from([1, 2]), st.booleans(), st.binary(max_size=30), times, st.booleans(), st.booleans())
    ),
    st.one_of(st.none(), st.integers(1000, 4999)),
    st.one_of(st.none(), text),
    st.one_of(st.none(), st.booleans()),
)
def test_websocket_flows_are_written_as_flow_writer_writes_them(
    messages: list[WebSocketMessage], code: int | None, reason: str | None, by_client: bool | None
) -> None:
    made = tflow.twebsocketflow()
    assert made.websocket is not None
    made.websocket.messages = messages
    made.websocket.close_code, made.websocket.close_reason, made.websocket.closed_by_client = code, reason, by_client
    assert ours(made) == stock(made)


def connections() -> list[tuple[str, connection.Client, connection.Server]]:
    secret = certificate()
    plain = tflow.tclient_conn(), tflow.tserver_conn()
    bare = connection.Client(peername=("::1", 5, 0, 2), sockname=("::1", 6, 0, 0)), connection.Server(address=None)  # type: ignore[arg-type]
    tls = tflow.tclient_conn(), tflow.tserver_conn()
    tls[0].mitmcert, tls[0].certificate_list = secret, [secret, secret]
    tls[0].alpn, tls[0].alpn_offers, tls[0].sni = b"h2", [b"h2", b"http/1.1"], "a.example"
    tls[0].proxy_mode = ProxyMode.parse("reverse:https://a.example:8443")
    tls[1].certificate_list, tls[1].cipher_list = [secret], ("A", "B")
    via = tflow.tclient_conn(), tflow.tserver_conn()
    via[1].via = parse_server("https://proxy.example:3128", "http")
    via[1].peername = None
    ended = tflow.tclient_conn(), tflow.tserver_conn()
    ended[0].timestamp_end, ended[1].timestamp_end, ended[1].error = 5, 7, "refused"
    return [("plain", *plain), ("bare", *bare), ("tls", *tls), ("via", *via), ("ended", *ended)]


@pytest.mark.parametrize(("client", "server"), [pytest.param(c, s, id=name) for name, c, s in connections()])
def test_connections_are_written_as_flow_writer_writes_them(client: connection.Client, server: connection.Server) -> None:
    made = tflow.tflow(client_conn=client, server_conn=server, resp=True)
    assert ours(made) == stock(made)
    assert ours(made) == stock(made)  # the second time from the cache


@pytest.mark.parametrize(
    ("end", "name", "value"),
    [
        ("client_conn", "timestamp_end", 9.5),
        ("client_conn", "error", "reset"),
        ("client_conn", "sni", "b.example"),
        ("client_conn", "alpn_offers", [b"h2"]),
        ("server_conn", "peername", ("192.0.2.1", 443)),
        ("server_conn", "timestamp_tls_setup", 3.25),
    ],
)
def test_a_connection_that_changed_is_not_taken_from_the_cache(end: str, name: str, value: Any) -> None:
    made = tflow.tflow(resp=True)
    ours(made)
    setattr(getattr(made, end), name, value)
    assert ours(made) == stock(made)


def test_a_list_that_grew_is_not_taken_from_the_cache() -> None:
    made = tflow.tflow(resp=True)
    made.client_conn.alpn_offers = offers = [b"h2"]
    ours(made)
    offers.append(b"http/1.1")
    assert ours(made) == stock(made)


def test_the_caches_are_bounded() -> None:
    for n in range(flow_format.CACHED_CONNECTIONS + 50):
        made = tflow.tflow(client_conn=connection.Client(peername=("a", 1), sockname=("b", 2)))
        made.request.headers["x-number"] = str(n)
        ours(made)
    assert len(flow_format._connections) <= flow_format.CACHED_CONNECTIONS
    for n in range(flow_format.CACHED_FIELDS + 50):
        flow_format._header_field((b"x", b"%d" % n))
    assert len(flow_format._fields) <= flow_format.CACHED_FIELDS


def test_only_what_is_shown_is_written() -> None:
    made = tflow.tflow(resp=True, err=True, ws=True)
    made.request.headers["authorization"] = "SECRET"
    made.request.path = "/?key=SECRET"
    made.request.content = made.response.content = b"SECRET"
    made.request.trailers = made.response.trailers = http.Headers(a="SECRET")
    made.response.headers["set-cookie"] = "SECRET"
    made.metadata["gate"] = made.comment = made.marked = "SECRET"
    for message in made.websocket.messages:
        message.content = b"SECRET"
    made.backup()
    record = encode_http_flow(
        made,
        request=ShownRequest(b"/?key=[redacted]", [(b"authorization", b"[redacted]")], b"{}"),
        response=ShownResponse([], b"[redacted]"),
        metadata={"session": "s1"},
        comment="shown",
        messages=[ShownMessage(1, True, b"[redacted]", 1.0)],
    )
    assert b"SECRET" not in record
    again = load(record)
    assert (again.request.path, again.response.content, again.comment, again.metadata) == (
        "/?key=[redacted]",
        b"[redacted]",
        "shown",
        {"session": "s1"},
    )
    assert [message.content for message in again.websocket.messages] == [b"[redacted]"]


@pytest.mark.parametrize("place", ["host", "comment", "metadata", "error", "marked"])
def test_a_lone_surrogate_leaves_the_record_readable(place: str) -> None:
    made = tflow.tflow(resp=True, err=True)
    odd = "a\udcffb"
    if place == "host":
        made.request.data.host = odd
    if place == "error":
        assert made.error
        made.error.msg = odd
    made.comment = odd if place == "comment" else ""
    made.marked = odd if place == "marked" else ""
    made.metadata = {"a": odd} if place == "metadata" else {}
    with pytest.raises(UnicodeEncodeError):
        stock(made)
    assert r"a\\udcffb" in repr(load(ours(made)).get_state())


@few
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40), times), max_size=4), text, st.one_of(st.none(), st.tuples(text, times)))
def test_tcp_flows_are_written_as_flow_writer_writes_them(
    messages: list[tuple[bool, bytes, float]], comment: str, error: tuple[str, float] | None
) -> None:
    client = connection.Client(peername=("10.0.0.7", 50222), sockname=("10.0.0.1", 2222), timestamp_start=3.5)
    server = connection.Server(address=("db.internal", 5432), peername=("10.1.0.5", 5432), timestamp_start=3.5)
    client.timestamp_end = server.timestamp_end = 9.0
    server.timestamp_tcp_setup = 4.0
    made = tcp.TCPFlow(client, server)
    made.messages = [tcp.TCPMessage(*message) for message in messages]
    made.comment, made.metadata, made.marked = comment, {"session": "s1", "seq": 2}, ":lock:"
    for message, (_, _, when) in zip(made.messages, messages, strict=True):
        message.timestamp = when
    made.error = flow.Error(*error) if error else None
    record = encode_tcp_flow(
        TcpConnection(
            client.id, ("10.0.0.7", 50222), ("10.0.0.1", 2222), server.id, ("db.internal", 5432), ("10.1.0.5", 5432), 3.5, 4.0, 9.0
        ),
        [encode_tcp_message(*message) for message in messages],
        flow_id=made.id,
        created=made.timestamp_created,
        metadata=made.metadata,
        comment=comment,
        marked=":lock:",
        error=error,
    )
    assert record == stock(made)


def offsets(data: bytes, tmp_path: Path) -> list[int | None]:
    path = tmp_path / "flows"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        ends: list[int | None] = [0]
        while ends[-1] is not None and ends[-1] < len(data):
            ends.append(record_end(fd, ends[-1], len(data)))
        return ends[1:]
    finally:
        os.close(fd)


def test_records_are_walked_by_their_length(tmp_path: Path) -> None:
    one, two = ours(tflow.tflow(resp=True)), ours(tflow.tflow(err=True))
    assert offsets(one + two, tmp_path) == [len(one), len(one) + len(two)]
    for cut in (1, 2, 5, len(two) - 1):
        assert offsets(one + two[:cut], tmp_path) == [len(one), None]


@pytest.mark.parametrize(
    "junk", [b"x", b"12", b":", b"07:aaaaaaa}", b"3:aaa]", b"3:aaa", b"9" * 12 + b":}", b"9" * 30, b"-1:}", b" 3:aaa}"]
)
def test_what_is_no_whole_record_is_not_walked_over(junk: bytes, tmp_path: Path) -> None:
    assert offsets(junk, tmp_path) == [None]


def test_stock_mitmdump_reads_recordings_joined_with_cat(tmp_path: Path) -> None:
    relayed = TcpConnection("c1", ("10.0.0.7", 5), ("10.0.0.1", 22), "s1", ("db.internal", 5432), None, 3.5)
    sql = encode_tcp_flow(
        relayed,
        [encode_tcp_message(True, b"SELECT 1", 4.0), encode_tcp_message(False, b"1", 4.5)],
        flow_id="f1",
        created=3.5,
        metadata={},
        comment="sql",
    )
    (tmp_path / "a.mitm").write_bytes(ours(tflow.tflow(resp=True)) + ours(tflow.twebsocketflow()))
    (tmp_path / "b.mitm").write_bytes(sql)
    (tmp_path / "both.mitm").write_bytes((tmp_path / "a.mitm").read_bytes() + (tmp_path / "b.mitm").read_bytes())
    command = [
        str(Path(sys.executable).with_name("mitmdump")),
        "--set",
        f"confdir={tmp_path}",
        "--set",
        "flow_detail=3",
        "-nr",
        str(tmp_path / "both.mitm"),
    ]
    read = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (read.returncode, "corrupted" in read.stdout + read.stderr) == (0, False)
    for expected in ("GET http://address:22/path", "200 OK", "WebSocket", "SELECT 1", "db.internal:5432"):
        assert expected in read.stdout
