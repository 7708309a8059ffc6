"""JSON without recursion reads what the usual decoder reads, at any depth."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.sql import deep_json, libpg_query
from rules.sql.bounds import MAX_CHAIN

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 1]))
def test_the_same_as_the_usual_decoder(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    assert deep_json.decode(text) == msgspec.json.decode(text) == value


@pytest.mark.parametrize(
    "text", ["", "{", "[", "]", "}", "[}", "{]", '{"a"}', '{"a":}', "{1:2}", '"a', "[1] 2", "nul", "[1;2]", "{1}", "\0", '{"a":1}}']
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        deep_json.decode(text.encode())


@given(st.binary(max_size=30))
def test_noise(noise: bytes) -> None:
    try:
        deep_json.decode(noise)
    except ValueError:
        pass


def test_deep() -> None:
    found = deep_json.decode(b'{"a":[' * 100_000 + b"1" + b"]}" * 100_000)
    depth = 0
    while isinstance(found, dict):
        (found,) = found["a"]
        depth += 1
    assert (depth, found) == (100_000, 1)


def test_the_deepest_tree_within_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def shallow(tree: bytes) -> object:
        raise RecursionError

    text = b"select 1" + b"+1" * MAX_CHAIN
    usual = libpg_query.parse(text)
    monkeypatch.setattr(libpg_query, "_decode", shallow)
    found = libpg_query.parse(text)
    for _ in range(2):  # comparing them would recurse: down the left side of both
        depth, node = 0, found[0]["SelectStmt"]["targetList"][0]["ResTarget"]["val"]
        while "A_Expr" in node:
            depth, node = depth + 1, node["A_Expr"]["lexpr"]
        assert depth == MAX_CHAIN
        found = usual
