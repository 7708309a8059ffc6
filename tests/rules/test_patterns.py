"""Patterns: globs, RE2, names, programs, networks; compared with a slow and obvious reading of the same glob."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.model import UNKNOWN
from rules.patterns import BadPattern, any_matcher, compile_name, compile_network, compile_path, compile_program, compile_text


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a", ["a"], ["A", "ab", "", "a\n"]),
        ("*", ["", "a", "a/b", "\n"], []),
        ("**", ["", "a/b"], []),
        ("a*", ["a", "ab", "a/b\n"], ["", "ba"]),
        ("*a", ["a", "ba"], ["ab"]),
        ("*a*", ["a", "bab"], ["", "b"]),
        ("a*b*c", ["abc", "axbxc", "abbcc"], ["acb", "ab", "abcd"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("ab*ba", ["abba", "ab.ba"], ["aba"]),
        ("a?c", ["abc", "a/c", "a\nc", "aéc"], ["ac", "abbc"]),
        ("?*", ["a", "ab"], [""]),
        ("a.c", ["a.c"], ["abc"]),
        ("[a]", ["[a]"], ["a"]),
        ("re:a.c", ["abc", "a\nc"], ["abcd", "xabc"]),
        ("re:a|b", ["a", "b"], ["ab", "ac"]),
        ("re:", [""], ["a"]),
        ("re:(?i)abc", ["ABC"], []),
    ],
)
def test_text(pattern: str, matching: list[str], other: list[str]) -> None:
    matches = compile_text(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in other if matches(text)] == []


def test_case_is_ignored_where_asked() -> None:
    for pattern in ("API.*.corp", "api.?.CORP", "re:API\\..\\.corp"):
        matches = compile_text(pattern, ignore_case=True)
        assert matches("Api.X.CORP")
        assert not matches("api.corp")


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("/a", ["/a"], ["/a/", "/A", "/a/b", "/ab"]),
        ("/a/*", ["/a/b", "/a/"], ["/a", "/a/b/c", "/a/b/"]),
        ("/a/**", ["/a", "/a/", "/a/b", "/a/b/c"], ["/ab", "/", "/b/a"]),
        ("/**", ["/", "/a", "/a/b"], ["*"]),
        ("**", ["/", "/a", "*"], []),
        ("/a/*/c", ["/a/b/c"], ["/a/b/b/c", "/a/c"]),
        ("/a/**/c", ["/a/c", "/a/b/c", "/a/b/b/c"], ["/a/bc", "/ac", "/a/c/d"]),
        ("/a/*/**", ["/a/b", "/a/b/c", "/a/"], ["/a"]),
        ("/**/x", ["/x", "/a/x", "/a/b/x"], ["/ax", "/x/a"]),
        ("/**/.git/**", ["/.git", "/.git/config", "/a/.git/b/c"], ["/a.git", "/.gitignore"]),
        ("/a/b*", ["/a/b", "/a/bc"], ["/a/b/c", "/a/bc/d"]),
        ("/a/?", ["/a/b"], ["/a/", "/a//", "/a/bc"]),
        ("/a**", ["/a", "/a/b", "/ab"], ["/b"]),
        ("/a.b", ["/a.b"], ["/axb"]),
        ("/a b", ["/a b"], []),
        ("re:/a/[0-9]+", ["/a/12"], ["/a/1x", "/a/"]),
        ("*", ["*"], ["/", "/a"]),
    ],
)
def test_paths(pattern: str, matching: list[str], other: list[str]) -> None:
    matches = compile_path(pattern)
    assert [path for path in matching if not matches(path)] == []
    assert [path for path in other if matches(path)] == []


def _text_glob(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_text_glob(pattern.lstrip("*"), text[index:]) for index in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _text_glob(pattern[1:], text[1:])


def _path_glob(pattern: str, path: str) -> bool:
    if pattern == "/**":
        return not path or path[0] == "/"
    if not pattern:
        return not path
    if pattern.startswith("/**/"):
        return path.startswith("/") and (
            _path_glob(pattern[4:], path[1:])
            or any(path[index] == "/" and _path_glob(pattern[4:], path[index + 1 :]) for index in range(1, len(path)))
        )
    if pattern.startswith("**"):
        return any(_path_glob(pattern[2:], path[index:]) for index in range(len(path) + 1))
    if pattern[0] == "*":
        end = path.find("/") if "/" in path else len(path)
        return any(_path_glob(pattern[1:], path[index:]) for index in range(end + 1))
    if not path or (pattern[0] == "?" and path[0] == "/") or pattern[0] not in ("?", path[0]):
        return False
    return _path_glob(pattern[1:], path[1:])


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?.", min_size=1, max_size=8), st.text("ab.\n", max_size=8))
def test_text_globs_mean_what_they_say(pattern: str, text: str) -> None:
    assert compile_text(pattern)(text) is _text_glob(pattern, text)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "*", "**", "a*", "?", "b"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=4),
)
def test_path_globs_mean_what_they_say(pattern_parts: list[str], path_parts: list[str]) -> None:
    pattern, path = "/" + "/".join(pattern_parts), "/" + "/".join(path_parts)
    if pattern == "/**":
        assert compile_path(pattern)(path)
    else:
        assert compile_path(pattern)(path) is _path_glob(pattern, path)


def test_no_pattern_backtracks() -> None:
    text = "a" * 100_000 + "!"
    assert not compile_text("*a" * 20 + "b")(text)
    assert not compile_text("re:(a*)*b")(text)
    assert not compile_text("re:(?:a|a)*b")(text)
    assert not compile_path("/**" + "/*a" * 20 + "b")("/a" * 50_000)


@pytest.mark.parametrize("pattern", ["", "a" * 1025, "re:(", "re:a{1001}", "re:(?=a)", "re:\\1"])
def test_bad_text(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_text(pattern)


@pytest.mark.parametrize("pattern", ["", "a", "a/b", "/a/../b", "/./a", "/a//b", "//", "/a%2fb", "/***", "re:["])
def test_bad_paths(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_path(pattern)


def test_a_lone_surrogate_is_no_match_but_an_error() -> None:
    """The rule is unknown then: a deny must not be slipped past with bytes that RE2 cannot see."""
    with pytest.raises(UnicodeEncodeError):
        compile_text("re:.*admin.*")("admin\udcff")


def test_expressions_together_match_as_each_alone() -> None:
    together = any_matcher([compile_text("re:a|b"), compile_text("x?z"), compile_text("re:(?i)q+"), compile_text("lit")])
    for text in ("a", "b", "xyz", "QQ", "lit"):
        assert together(text)
    for text in ("ab", "xz", "A", "LIT", ""):
        assert not together(text)


@pytest.mark.parametrize(
    ("pattern", "name", "lenient", "strict"),
    [
        ("email", "email", True, True),
        ("email", "public.customers.email", True, True),
        ("customers.email", "public.customers.email", True, True),
        ("public.customers.email", "public.customers.email", True, True),
        ("customers.email", "public.orders.email", False, False),
        ("customers.email", "email", UNKNOWN, UNKNOWN),  # not resolved: it may be that one
        ("customers.email", "name", False, False),
        ("*.ssn", "t.ssn", True, True),
        ("*.ssn", "ssn", UNKNOWN, UNKNOWN),
        ("cust*.e?ail", "customers.email", True, True),
        ("email", "public.customers.*", True, False),  # a whole row holds it, and satisfies no allow
        ("customers.email", "public.customers.*", True, False),
        ("orders.email", "public.customers.*", False, False),
        ("*", "public.customers.*", True, False),
        ("*", "email", True, True),
        ("Email", "email", False, False),
    ],
)
def test_sql_names(pattern: str, name: str, lenient: object, strict: object) -> None:
    matches = compile_name(pattern)
    parts = tuple(name.split("."))
    assert matches(parts, False) is lenient
    if name.endswith(".*"):
        assert matches(parts, True) is False
    else:
        assert matches(parts, True) is strict


@pytest.mark.parametrize(
    ("pattern", "word", "lenient", "strict"),
    [
        ("rm", "rm", True, True),
        ("rm", "/bin/rm", True, True),
        ("rm", "/usr/sbin/rm", True, True),
        ("rm", "/tmp/rm", True, False),
        ("rm", "./rm", True, False),
        ("rm", "rmdir", False, False),
        ("/tmp/rm", "/tmp/rm", True, True),
        ("/tmp/rm", "rm", False, False),
        ("*", "/tmp/evil", True, False),
        ("*", "/bin/../tmp/evil", True, False),
        ("git*", "git-upload-pack", True, True),
        ("/opt/*", "/opt/x", True, True),
    ],
)
def test_programs(pattern: str, word: str, lenient: bool, strict: bool) -> None:
    assert compile_program(pattern, strict=False)(word) is lenient
    assert compile_program(pattern, strict=True)(word) is strict


def test_networks() -> None:
    matches = compile_network("10.0.0.0/8")
    assert matches("10.1.2.3")
    assert matches("::ffff:10.1.2.3")
    assert not matches("11.0.0.1")
    assert not matches("::1")
    assert compile_network("::ffff:0:0/96")("::ffff:10.1.2.3")
    assert compile_network("fd00::/8")("fd00::1%eth0")
    with pytest.raises(ValueError, match="address"):
        matches("localhost")
    for pattern in ("10.0.0.1/8", "localhost", "", "10.0.0.0/33"):
        with pytest.raises(BadPattern):
            compile_network(pattern)
