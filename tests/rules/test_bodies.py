"""Bodies: decoded within bounds, read in one way or not at all."""

from __future__ import annotations

import gzip
import json
import zlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.bodies import FORM, Undecodable, decode_content, parse_body
from rules.model import UNKNOWN

DATA = b'{"a": 1}' * 100


@pytest.mark.parametrize(
    ("data", "encodings"),
    [
        (DATA, []),
        (DATA, ["identity"]),
        (DATA, ["Identity"]),
        (gzip.compress(DATA), ["gzip"]),
        (gzip.compress(DATA), ["X-GZIP"]),
        (zlib.compress(DATA), ["deflate"]),
    ],
)
def test_content_codings(data: bytes, encodings: list[str]) -> None:
    assert decode_content(data, encodings, len(DATA)) == DATA


@pytest.mark.parametrize(
    ("data", "encodings", "reason"),
    [
        (DATA, ["br"], "does not read"),
        (DATA, ["zstd"], "does not read"),
        (DATA, ["foo"], "does not read"),
        (DATA, [""], "does not read"),
        (gzip.compress(DATA), ["gzip, gzip"], "more than one"),
        (gzip.compress(DATA), ["gzip", "identity"], "more than one"),
        (gzip.compress(DATA), ["identity, gzip"], "more than one"),
        (DATA, ["gzip"], "does not decode"),
        (gzip.compress(DATA)[:-1], ["gzip"], "does not end"),
        (b"", ["gzip"], "does not end"),
        (gzip.compress(DATA) + b"x", ["gzip"], "does not end"),
        (gzip.compress(b"a") + gzip.compress(DATA), ["gzip"], "does not end"),
        (gzip.compress(DATA + b"x"), ["gzip"], "more than 800 bytes"),
        (gzip.compress(bytes(200 << 20)), ["gzip"], "more than 800 bytes"),
    ],
)
def test_content_that_is_not_decoded(data: bytes, encodings: list[str], reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode_content(data, encodings, 800)


@pytest.mark.parametrize(
    ("data", "content_type", "value"),
    [
        (b"", "application/json", None),
        (b"", "", None),
        (b'{"a": [1, "x", null, true]}', "application/json", {"a": [1, "x", None, True]}),
        (b'{"a": 1}', "text/plain", {"a": 1}),
        (b" \r\n[1]", "", [1]),
        (b"5", "application/vnd.x+json", 5),
        (b"\xef\xbb\xbf{}", "application/json", {}),
        (b'{"a": 1.10}', "application/json", {"a": Decimal("1.10")}),
        (b'{"a": 123456789012345678901234567890}', "application/json", {"a": 123456789012345678901234567890}),
        (b"a=1&b=x+y&b=z", FORM, {"a": "1", "b": ["x y", "z"]}),
        (b'{"a": 1}', FORM, {"a": 1}),  # what `curl -d` sends
    ],
)
def test_bodies(data: bytes, content_type: str, value: Any) -> None:
    assert parse_body(data, content_type, "") == value


@pytest.mark.parametrize(
    ("data", "content_type", "charset"),
    [
        (b'{"a": 1, "a": 2}', "application/json", ""),
        (b'{"a": 1, "\\u0061": 2}', "application/json", ""),
        (b'{"x": {"a": 1, "b": 2, "a": 1}}', "application/json", ""),
        (b'{"a": NaN}', "application/json", ""),
        (b'{"a": -Infinity}', "application/json", ""),
        (b'{"a": 1} {"a": 2}', "application/json", ""),
        (b'{"a": 1}\n{"a": 2}', "application/x-ndjson", ""),
        (b"{", "application/json", ""),
        (b"a=1", "application/json", ""),
        (b'{"a": "\xff"}', "application/json", ""),
        ('{"a": 1}'.encode("utf-16"), "application/json", ""),
        (b'{"a": 1}', "application/json", "utf-7"),
        (b'{"a": 1}', "application/json", "utf-16"),
        (b"[" * 100_000, "application/json", ""),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", ""),
        (b'{"a": ' + b"1" * 5000 + b"}", "application/json", ""),
        (b'{"a": 0.' + b"1" * 5000 + b"}", "application/json", ""),
        (b'{"x":"&amount=500&y="}', FORM, ""),  # a form to one server, JSON to the next
        (b'{"a": 1, "<<": {"b": 2}}', "application/yaml", ""),  # YAML merges what is behind `<<`
        (b"a=1;b=2", FORM, ""),
        (b"a=%ff", FORM, ""),
        (b"a=\xff", FORM, ""),
        (b"binary", "application/octet-stream", ""),
        (b"--x\r\n", "multipart/form-data", ""),
        (b"hello", "text/plain", ""),
        (b"a=1", "", ""),
    ],
)
def test_bodies_with_two_readings_or_none(data: bytes, content_type: str, charset: str) -> None:
    assert parse_body(data, content_type, charset) is UNKNOWN


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(_VALUES)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    assert parse_body(json.dumps(value).encode(), "application/json", "") == value


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]",:a1 \\u0', max_size=30).map(str.encode),
    st.sampled_from(["application/json", FORM, "", "x"]),
)
def test_any_bytes_give_a_value_or_unknown(data: bytes, content_type: str) -> None:
    parse_body(data, content_type, "")
