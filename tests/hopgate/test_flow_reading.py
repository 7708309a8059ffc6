"""Flow files read back: what was written, and nothing for what was not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hopgate.flow_format import TcpConnection, encode_tcp_flow, encode_tcp_message, tnetstring
from hopgate.flow_reading import BadFlow, decoded, read_flows

CONNECTION = TcpConnection("c", ("127.0.0.1", 1), ("127.0.0.1", 2), "s", ("db", 5), ("10.0.0.1", 5), 1.0)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_values_come_back(value: Any) -> None:
    assert decoded(tnetstring(value)) == value


@given(st.binary(max_size=60) | st.text("0123456789:,;#^!~]}", max_size=40).map(str.encode))
@example(b"1:x")
@example(b"4:true,")
@example(b"3:abc!")
@example(b"-1:,")
@example(b"99999999999999:,")
def test_other_bytes_raise_bad_flow_or_nothing_else(data: bytes) -> None:
    try:
        value = decoded(data)
    except BadFlow:
        return
    assert value is None or isinstance(value, float | int | bytes | str | list | dict)


@pytest.mark.parametrize(
    "data", [b"", b"0:", b"1:x", b"1:x,y", b"3:1:x}", b"6:1:x,0:}", b"8:1:1#1:2#}", b"4:true?", b"3:abc#", b"1:x^", b"1:x~", b"5:truee!"]
)
def test_what_is_no_value(data: bytes) -> None:
    with pytest.raises(BadFlow):
        decoded(data)


def test_deep_values_are_refused() -> None:
    data = b"0:~"
    for _ in range(60):
        data = b"%d:%b]" % (len(data), data)
    with pytest.raises(BadFlow):
        decoded(data)
    assert not math.isnan(len(data))


def record(text: bytes) -> bytes:
    return encode_tcp_flow(CONNECTION, [encode_tcp_message(True, text, 2.0)], flow_id="f", created=1.0, metadata={"session": "s"})


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mitm"
    path.write_bytes(record(b"one") + record(b"two"))
    assert [flow["messages"][0][1] for flow in read_flows(path)] == [b"one", b"two"]
    path.write_bytes(record(b"one") + record(b"two")[:-5])  # torn
    assert len(list(read_flows(path))) == 1
    path.write_bytes(record(b"one") + b"and then text")
    with pytest.raises(BadFlow):
        list(read_flows(path))
    path.write_bytes(b"1:x,")
    with pytest.raises(BadFlow):
        list(read_flows(path))
    path.write_bytes(b"")
    assert list(read_flows(path)) == []
