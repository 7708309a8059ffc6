"""Recordings read back: what was written comes out, damage is told, nothing is taken for more than bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.test import tflow

from hopgate.asciicast import CAST
from hopgate.errors import Denied
from hopgate.flow_format import (
    ShownRequest,
    ShownResponse,
    TcpConnection,
    encode_http_flow,
    encode_tcp_flow,
    encode_tcp_message,
    tnetstring,
)
from hopgate.playback import Exchange, Segment, Skipped, is_terminal, parse, read, recording_path, terminals

ENDS = TcpConnection("c", ("10.0.0.1", 40000), ("127.0.0.1", 5432), "s", ("db", 5432), None, 1.0)


def segment(*texts: bytes) -> bytes:
    return encode_tcp_flow(ENDS, [encode_tcp_message(True, text, 5.0) for text in texts], flow_id="f", created=1.0, metadata={"segment": 1})


def exchange() -> bytes:
    flow = tflow.tflow(resp=True)
    request = ShownRequest(b"/v1/customers?q=1", ((b"accept", b"*/*"),), b"")
    return encode_http_flow(flow, request=request, response=ShownResponse(((b"x", b"y"),), b'{"a":1}'), metadata={"decision": "allow"})


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text().filter(lambda text: text.isprintable())
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5).filter(str.isprintable), inner),
    max_leaves=12,
)


@given(values)
def test_what_was_written_is_read(value: Any) -> None:
    assert parse(tnetstring(value)) == value


@given(st.binary(max_size=200))
def test_whatever_lies_there_is_a_value_or_an_error(data: bytes) -> None:
    try:
        parse(data)
    except (ValueError, TypeError):
        pass


def test_a_recording_is_read_page_by_page(tmp_path: Path) -> None:
    path = tmp_path / "s.mitm"
    path.write_bytes(segment(b"SELECT 1", b"SELECT 2") + exchange() + segment(b"SELECT 3"))
    first = read(path, items=2)
    said, web = first.items
    assert isinstance(said, Segment)
    assert [text for _, text, _ in said.messages] == [b"SELECT 1", b"SELECT 2"]
    assert isinstance(web, Exchange)
    assert (web.method, web.status, web.response_body) == ("GET", 200, b'{"a":1}')
    assert web.url.endswith("/v1/customers?q=1")
    assert web.metadata["decision"] == "allow"
    rest = read(path, first.after)
    assert len(rest.items) == 1
    assert rest.after == rest.size
    assert read(path, rest.after).items == ()


def test_what_is_torn_or_foreign_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.mitm"
    whole = segment(b"SELECT 1")
    path.write_bytes(whole + whole[: len(whole) // 2])
    reading = read(path)
    assert len(reading.items) == 1
    assert "no whole record" in reading.damaged
    path.write_bytes(tnetstring({"type": "http"}) + tnetstring({"type": "tcp", "messages": 3}))
    assert [type(item) for item in read(path).items] == [Skipped, Skipped]


@pytest.mark.parametrize(
    "relative", ["", "../state.db", "/etc/passwd", "recordings/../keys/issuer.pem", "recordings/x.cast", "recordings/gone.mitm"]
)
def test_only_recordings_are_read(tmp_path: Path, relative: str) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "issuer.pem").write_text("key")
    with pytest.raises(Denied):
        recording_path(tmp_path, relative)


def test_terminals_are_gathered_from_their_recording(tmp_path: Path) -> None:
    path = tmp_path / "s1.mitm"
    flows = [(b"a1", {CAST: 1}), (b"said", {}), (b"b1", {CAST: 2}), (b"a2", {CAST: 1})]
    path.write_bytes(
        b"".join(
            encode_tcp_flow(ENDS, [encode_tcp_message(False, text, 5.0)], flow_id="f", created=1.0, metadata=metadata)
            for text, metadata in flows
        )
    )
    assert terminals(path) == (b"a1a2", b"b1")
    assert [is_terminal(item) for item in read(path).items] == [True, False, True, True]
