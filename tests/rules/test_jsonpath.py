"""JSONPath in conditions: the compiled forms find what jsonpath-ng finds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath_ng.ext.parser import parse

from rules.jsonpath import BadPath, compile_find

DOCUMENT = {"a": {"b": [{"c": 1, "b": 2}, {"c": 3}, [4]], "c": None}, "a b": 5, "": 6, "b": {"b": {"b": 7}}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [DOCUMENT]),
        ("$.a.c", [None]),
        ("$.a.x", []),
        ("$.a.c.d", []),
        ("$['a b']", [5]),
        ("$.a.b[0].c", [1]),
        ("$.a.b[-1]", [[4]]),
        ("$.a.b[9]", []),
        ("$.a.b[-9]", []),
        ("$.a.b[*].c", [1, 3]),
        ("$.a.b[0].*", [1, 2]),
        ("$.a[0]", []),
        ("$.a.b.c", []),
        ("$..c", [None, 1, 3]),
        ("$.b..b", [{"b": 7}, 7]),
        ("$.a.b[?(@.c==3)].c", [3]),
        ("$.a.b[0:2].c", [1, 3]),
    ],
)
def test_finds(path: str, found: list[Any]) -> None:
    assert Counter(map(repr, compile_find(path)(DOCUMENT))) == Counter(map(repr, found))


@pytest.mark.parametrize("path", ["", "a", "$.", "$[", "$.a[", "$..", "@.a", "$.a[?(", "$" + ".a" * 300, "$.a b c"])
def test_bad_paths(path: str) -> None:
    with pytest.raises(BadPath):
        compile_find(path)


def test_a_deep_document_is_searched() -> None:
    document: Any = {"x": 1}
    for _ in range(50_000):
        document = [document]
    assert compile_find("$..x")(document) == [1]
    while document.__class__ is list:  # taken apart by hand: freeing it at once would recurse
        document = document[0]


_PATH = st.lists(st.sampled_from([".a", ".b", "['a']", "[0]", "[-1]", "[*]", ".*", "..a", "..b"]), max_size=4).map(
    lambda parts: "$" + "".join(parts)
)
_DOCUMENT = st.recursive(
    st.none() | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(_PATH.filter(lambda path: path.count("..") < 2 and "[*]" not in path and ".*" not in path), _DOCUMENT)
def test_compiled_paths_find_what_jsonpath_ng_finds(path: str, document: Any) -> None:
    # jsonpath-ng raises for an index into a scalar or an index that is out of range, where nothing is found
    try:
        expected = [found.value for found in parse(path).find(document)]
    except (IndexError, TypeError, KeyError):
        return
    assert Counter(map(repr, compile_find(path)(document))) == Counter(map(repr, expected))
