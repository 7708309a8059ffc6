"""Plain lines are read as the grammar's way reads them, and nothing else is plain."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.shell import read as read_module
from rules.shell.plain import plain_commands
from tests.rules.shell.reading import read
from tests.rules.shell.test_commands import NOT_UNDERSTOOD, WHOLE
from tests.rules.shell.test_whatever_comes import HIDING

PLAIN = [
    ("a", [(["a"], "")]),
    (" a  b\t", [(["a", "b"], "")]),
    ("a;\n", [(["a"], "")]),
    ("a | b && c; d || e", [(["a"], ""), (["b"], "pipe"), (["c"], ""), (["d"], ""), (["e"], "")]),
    ("a|b|c", [(["a"], ""), (["b"], "pipe"), (["c"], "pipe")]),
    ("a 'b c' \"d | e\" f'g'\"h\"", [(["a", "b c", "d | e", "fgh"], "")]),
    ("'a b' ''", [(["a b", ""], "")]),
    ("a 2>/dev/null | b 2>&1 > /dev/null", [(["a"], ""), (["b"], "pipe")]),
    ("a | b </dev/null", [(["a"], ""), (["b"], "null")]),
    (">/dev/null a b", [(["a", "b"], "")]),
    ("find . -exec a {} +", [(["find", ".", "-exec", "a", "{}", "+"], "")]),
    ("a if then", [(["a", "if", "then"], "")]),
    ("a b=c", [(["a", "b=c"], "")]),
    ("a \"!\" '$x `y`'", [(["a", "!", "$x `y`"], "")]),
]
NOT_PLAIN = [
    "",
    "   ",
    "\n",
    "#",
    "a #b",
    "a\nb",
    "a & b",
    "a &",
    "a |& b",
    "a ;; b",
    "; a",
    "a | | b",
    "a &&",
    "a |",
    "a && | b",
    "a $x",
    "a `b`",
    'a "$x"',
    'a "`b`"',
    'a "\\""',
    "a \\b",
    "a *",
    "a ?",
    "a [b]",
    "a ~",
    "a {b,c}",
    "a{}",
    "{}b",
    "{ a; }",
    "(a)",
    "! a",
    "if a",
    "time a",
    "coproc a",
    "then",
    "function f",
    "[[ a ]]",
    "a=b c",
    "a+=b c",
    "export a",
    "read a",
    "unset a",
    "''",
    "'' a",
    "a > f",
    "a < f",
    "a >> /dev/null",
    "a &> /dev/null",
    "a >& /dev/null",
    "a >| /dev/null",
    "a <> /dev/null",
    "a 3>/dev/null",
    "a >/dev/nullx",
    "a>/dev/null",
    "a2>/dev/null",
    "a >/dev/null;b>c",
    "a <<E",
    "a <<<b",
    "a 'b",
    'a "b',
    "a é",
    "a\rb",
    ">/dev/null",
    "2>&1",
    "a 2>&1b",
    "a 2>&1& b",
    "a $'b'",
    "a b'c",
    "a \x01",
]


@pytest.mark.parametrize(("text", "expected"), PLAIN)
def test_what_is_plain(text: str, expected: list[tuple[list[str], str]]) -> None:
    found = plain_commands(text)
    assert found is not None
    assert [([word.value for word in words], stdin) for words, stdin in found] == expected


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_what_is_not(text: str) -> None:
    assert plain_commands(text) is None


def both(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The facts of every part and the reason, as read here and as the grammar's way reads it."""
    found = []
    for plainly in (True, False):
        with monkeypatch.context() as patched:
            if not plainly:
                patched.setattr(read_module, "plain_commands", lambda text: None)
            operation = read(text)
            found.append(([part.facts.as_dict() for part in operation.parts or (operation,)], operation.reason, operation.title))  # type: ignore[attr-defined]
    return found[0], found[1]


@pytest.mark.parametrize("text", [*(text for text, _ in PLAIN), *(text for text, _ in WHOLE + NOT_UNDERSTOOD), *HIDING])
def test_both_ways_agree(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plainly, by_grammar = both(text, monkeypatch)
    assert plainly == by_grammar or (by_grammar[1] and plain_commands(text))


WORDS = r"""a b.c /x/y -n 'q r' "s t" '' "" a'b'"c" {} 2>&1 >/dev/null 2>/dev/null </dev/null | || && ; ; if time [[ x=y sudo
bash -c 'a|b' "a; b" xargs env find -exec + eval exec command cat python3 -e curl . 1 % = , ^ : !
2 > < & $x \ { } ~ * # sh rsync scp -t --server"""
PIECES = re.findall(r"""(?:'[^']*'|"[^"]*"|\S)+""", WORDS)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=12),
    st.lists(st.sampled_from([" ", " ", " ", "", "\t", "  "]), min_size=12, max_size=12),
)
@example(["a", "2>&1", "|", "bash"], [" "] * 12)
@example(["a", "</dev/null", "&&", "bash"], [" "] * 12)
def test_both_ways_agree_on_whatever_comes(words: list[str], between: list[str]) -> None:
    text = "".join(word + gap for word, gap in zip(words, between, strict=False))
    with pytest.MonkeyPatch.context() as monkeypatch:
        plainly, by_grammar = both(text, monkeypatch)
    if by_grammar[1] and not plainly[1]:
        # the grammar may fail where the line is clear; never the other way round
        assert plain_commands(text) is not None
        return
    assert plainly == by_grammar
