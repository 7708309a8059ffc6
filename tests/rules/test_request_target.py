"""Methods, paths and queries: one reading, or a refusal."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.request_target import AmbiguousPath, AmbiguousRequest, canonical_method, canonical_path, form_parameters, query_parameters


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b?c=/../d", "/a/b"),
        ("/a%20b", "/a b"),
        ("/%61dmin", "/admin"),
        ("/%61%64min/x", "/admin/x"),
        ("/a%2Bb+c", "/a+b+c"),
        ("/100%25", "/100%"),
        ("/a.b/..c/...", "/a.b/..c/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/caf%C3%A9", "/café"),
        ("/a:b@c,d=e$f!'()*~", "/a:b@c,d=e$f!'()*~"),
        ("/v1/x:cancel", "/v1/x:cancel"),
        ("/a%3Fb", "/a?b"),
        ("/a[0]|b", "/a[0]|b"),
        ("*", "*"),
    ],
)
def test_canonical_path(raw: str, canonical: str) -> None:
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "does not start with a slash"),
        ("a", "does not start with a slash"),
        ("http://x/a", "does not start with a slash"),
        ("**", "does not start with a slash"),
        ("?a=b", "does not start with a slash"),
        ("/a/../b", "dot segment"),
        ("/..", "dot segment"),
        ("/.", "dot segment"),
        ("/./a", "dot segment"),
        ("/a/%2e%2e/b", "dot segment"),
        ("/a/%2E/b", "dot segment"),
        ("/a/.%2e", "dot segment"),
        ("/a/..%20/b", "dot segment"),
        ("/a/%20../b", "dot segment"),
        ("//a", "empty segment"),
        ("/a//b", "empty segment"),
        ("/a//", "empty segment"),
        ("/a%2Fb", "encoded slash"),
        ("/a%2fb", "encoded slash"),
        ("/a%5Cb", "encoded backslash"),
        ("/a\\b", "backslash"),
        ("/a%00", "control character"),
        ("/a%0d%0ab", "control character"),
        ("/a%7f", "control character"),
        ("/a%c2%85", "control character"),
        ("/a%e2%80%ae", "control character"),
        ("/a%e2%80%8b", "control character"),
        ("/a\x00", "must be percent-encoded"),
        ("/a b", "must be percent-encoded"),
        ("/é", "must be percent-encoded"),
        ("/a\udcff", "must be percent-encoded"),
        ("/a<b", "must be percent-encoded"),
        ("/%2561dmin", "encoded twice"),
        ("/%252e%252e/a", "encoded twice"),
        ("/%25252e", "encoded twice"),
        ("/a%", "encodes nothing"),
        ("/a%2", "encodes nothing"),
        ("/a%zz", "encodes nothing"),
        ("/a;b", "parameter"),
        ("/a/..;/b", "parameter"),
        ("/admin%3Bx", "encoded parameter"),
        ("/a#b", "fragment"),
        ("/%ff", "not UTF-8"),
        ("/%c0%ae%c0%ae/a", "not UTF-8"),  # overlong dots
        ("/%c0%af", "not UTF-8"),  # overlong slash
        ("/%ed%a0%80", "not UTF-8"),  # a surrogate
        ("/a%EF%BC%8Fb", "folds to a delimiter"),
        ("/%EF%BC%8E%EF%BC%8E/a", "folds to a delimiter"),
        ("/a%E2%84%80", "folds to a delimiter"),  # U+2100 folds to a/c
        ("/" + "a" * 8192, "longer than"),
    ],
)
def test_ambiguous_paths(raw: str, reason: str) -> None:
    with pytest.raises(AmbiguousPath, match=reason) as caught:
        canonical_path(raw)
    assert "\n" not in caught.value.reason


_SEGMENT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(_SEGMENT, max_size=4))
def test_an_encoded_path_is_decoded_once_or_refused(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    try:
        assert canonical_path("/" + "/".join(quote(segment, safe="") for segment in segments)) == path
    except AmbiguousPath:
        assert any(character in path for character in "\\%./;") or not path.isascii() or "" in segments


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="/.%2eEfF5cC0;\\#?a\x00é ", max_size=24))
def test_whatever_passes_has_one_reading(raw: str) -> None:
    try:
        path = canonical_path("/" + raw)
    except AmbiguousPath:
        return
    assert "\\" not in path
    assert path.isprintable()
    segments = path.split("/")[1:]
    assert "" not in segments[:-1]
    assert not {".", ".."}.intersection(segment.strip() for segment in segments)
    assert canonical_path(quote(path, safe="/")) == path


@pytest.mark.parametrize("method", ["GET", "POST", "PROPFIND", "M-SEARCH", "X"])
def test_methods(method: str) -> None:
    assert canonical_method(method) == method


@pytest.mark.parametrize("method", ["get", "Get", "", "G T", "GET\r\n", "GÉT", "GE\x00T", "(GET)"])
def test_methods_that_are_none(method: str) -> None:
    with pytest.raises(AmbiguousRequest):
        canonical_method(method)


@pytest.mark.parametrize(
    ("raw", "parameters"),
    [
        ("", {}),
        ("a=1", {"a": ("1",)}),
        ("a=1&a=2&b", {"a": ("1", "2"), "b": ("",)}),
        ("a=x+y%2B", {"a": ("x y+",)}),
        ("%61=1", {"a": ("1",)}),
        ("&&a=1&", {"a": ("1",)}),
        ("a=b=c", {"a": ("b=c",)}),
        ("=x", {"": ("x",)}),
        ("a=1;b=2", None),
        ("a=\x00", None),
        ("a=é", None),
        ("a=%ff", None),
        ("a=#b", None),
        ("&".join(["a"] * 1001), None),
    ],
)
def test_query_parameters(raw: str, parameters: object) -> None:
    assert query_parameters(raw) == parameters


def test_form_values_may_hold_semicolons() -> None:
    assert form_parameters("a=1;b=2") == {"a": ("1;b=2",)}
