"""Paths as rules see them."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.remote_paths import MAX_PATH, AmbiguousPath, absolute, directory, text_of


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/a/b", b"/a/b"),
        (b"/a/b/", b"/a/b"),
        (b"/a//b", b"/a/b"),
        (b"/a/./b/.", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/../../b", b"/b"),
        (b"/srv/x/../../etc/shadow", b"/etc/shadow"),
        (b"/a/...", b"/a/..."),
        (b"/a/.b", b"/a/.b"),
        (b"", b"/home/u"),
        (b".", b"/home/u"),
        (b"x", b"/home/u/x"),
        (b"./x/", b"/home/u/x"),
        (b"../v/x", b"/home/v/x"),
        (b"~/x", b"/home/u/~/x"),
    ],
)
def test_absolute(path: bytes, seen: bytes) -> None:
    assert absolute(path, b"/home/u") == seen


@pytest.mark.parametrize(("path", "base"), [(b"x", None), (b"", None), (b"/a\0b", b"/"), (b"/" + b"a" * MAX_PATH, b"/")])
def test_what_cannot_be_named(path: bytes, base: bytes | None) -> None:
    with pytest.raises(AmbiguousPath):
        absolute(path, base)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.", ".c"])), st.booleans())
def test_as_the_standard_library_does(names: list[str], rooted: bool) -> None:
    path = "/" * rooted + "/".join(names)
    expected = posixpath.normpath(posixpath.join("/home", path))
    assert absolute(path.encode(), b"/home") == expected.replace("//", "/").encode()


def test_directory_and_text() -> None:
    assert directory(b"/a/b") == b"/a"
    assert directory(b"/a") == b"/"
    assert text_of(b"/\xff") == "/\udcff"
