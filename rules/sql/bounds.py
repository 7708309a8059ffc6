"""What a statement may be before any parser sees it: bytes, nesting, set operations, comments, operator chains, repetition.

The grammar's recursive walks crash on deep trees, its scanner is quadratic in nested comments, and its JSON output prints
the source of `SET (a, b, …) = source` once a column, so that nested ones double at each level. Everything here is
iterative. The lexical rules are those of PostgreSQL 18 (src/backend/parser/scan.l) with standard_conforming_strings on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 1 << 20
MAX_NESTING: Final = 256
MAX_SET_OPERATIONS: Final = 500
MAX_COMMENTS: Final = 500  # occurrences of `/*`, in literals too
MAX_CHAIN: Final = 2_000  # operators between two commas, semicolons or brackets
MAX_REPEATED: Final = 100_000  # tokens that the parse tree would hold more than once

_OPERATOR_BYTES: Final = b"~!@#^&|`?+-*/%<>=:"
_WORDY: Final = re.compile(
    rb"(?i:AND|OR|NOT|COLLATE|IS|LIKE|ILIKE|SIMILAR|BETWEEN|IN|AT|JOIN|OVERLAPS|OPERATOR|ESCAPE|UNION|INTERSECT|EXCEPT)"
)
_GROUP_EQUALS: Final = re.compile(rb"\)[ \t\n\r\f\v]*+(?:=|--|/\*)")  # the end of `SET (a, b) =`

_TOKEN: Final = re.compile(
    rb"""
      (?P<skip>    [ \t\n\r\f\v]++ | --[^\r\n]*+ )
    | (?P<comment> /\* )
    | (?P<string>  [eE]'(?:[^'\\]++|\\.|'')*+'
                   (?:[ \t\f\v]*+(?:--[^\r\n]*+)?[\r\n](?:[ \t\r\n\f\v]++|--[^\r\n]*+[\r\n])*+'(?:[^'\\]++|\\.|'')*+')*+
                 | (?:[bBxXnN]|[uU]&)?'(?:[^']++|'')*+' )
    | (?P<quoted>  (?:[uU]&)?"(?:[^"]++|"")*+" )
    | (?P<dollar>  \$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$ )
    | (?P<word>    [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+ )
    | (?P<number>  \$[0-9]++ | (?:[0-9][0-9_]*+(?:\.(?!\.)[0-9_]*+)?|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9]++)?[A-Za-z0-9_\x80-\xff]*+ )
    | (?P<open>    [(\[] )
    | (?P<close>   [)\]] )
    | (?P<comma>   [,;] )
    | (?P<cast>    :: )
    | (?P<operator> (?:(?!--|/\*)[~!@\#^&|`?+\-*/%<>=])++ )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_CASE: Final = re.compile(rb"(?i:case)")
_COMMENT_EDGE: Final = re.compile(rb"/\*|\*/")
_SPECIAL: Final = re.compile(rb"[~!@#^&|`?%]")
_INFIX: Final = frozenset(
    b"AND OR NOT COLLATE IS ISNULL NOTNULL LIKE ILIKE SIMILAR BETWEEN IN OVERLAPS AT JOIN OPERATOR ESCAPE".split(),
)
_SET_OPERATIONS: Final = frozenset((b"UNION", b"INTERSECT", b"EXCEPT"))
_LONGEST_WORD: Final = max(map(len, _INFIX | _SET_OPERATIONS))


class Exceeded(ValueError):
    """A statement beyond a bound, or one that is no text. The message is what `reason` says."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How deep the parse tree of a statement within the bounds can get, in levels, and how many tokens it repeats."""

    depth: int = 0
    repeated: int = 0


def measure(text: bytes) -> Measure:
    """Count what the bounds limit. Raises Exceeded with the first bound that `text` is beyond."""
    if len(text) > MAX_BYTES:
        raise Exceeded(f"the statement is longer than {MAX_BYTES} bytes")
    if b"\0" in text:
        raise Exceeded("the statement contains a NUL byte")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise Exceeded(f"the statement is not UTF-8 at byte {error.start}") from None
    if text.count(b"/*") > MAX_COMMENTS:
        raise Exceeded(f"the statement contains `/*` more than {MAX_COMMENTS} times")
    return _surely_within(text) or _Scan(text).measure()


def names_beyond_ascii(text: bytes) -> bool:
    """Whether any identifier has, or may have by its escapes, other characters than ASCII's. Of a text within the bounds."""
    at, scan = 0, _Scan(text)
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None  # `other` takes any byte
        kind, token, at = found.lastgroup, found.group(), found.end()
        if kind == "comment":
            at = scan._after_comment(at)
        elif kind == "dollar":
            at = scan._after_dollar(token, at)
        elif kind in ("word", "quoted") and (not token.isascii() or token[:2].lower() == b"u&"):
            return True
    return False


def _surely_within(text: bytes) -> Measure | None:
    """A measure from counts that can only be too high, literals and comments included; None where they are beyond a bound."""
    brackets = text.count(b"(") + text.count(b"[")
    if len(text) > MAX_NESTING:  # each level takes more than a byte
        brackets += len(_CASE.findall(text)) if brackets <= MAX_NESTING else 0
        if brackets > MAX_NESTING:
            return None
    operators = 0
    if len(text) > MAX_SET_OPERATIONS:
        operators = len(text) - len(text.translate(None, _OPERATOR_BYTES)) + len(_WORDY.findall(text))
        if operators > MAX_SET_OPERATIONS:
            return None
    if b"," in text and _GROUP_EQUALS.search(text) and b"set" in text.lower():
        return None
    return Measure(brackets + operators) if operators else Measure(MAX_NESTING)


class _Frame:
    """One open bracket or CASE. `chain` and `below` are those of its current list item."""

    __slots__ = ("base", "below", "best", "chain", "commas", "factor", "is_case")

    def __init__(self, is_case: bool, factor: int) -> None:
        self.is_case = is_case
        self.chain = 0  # operators of the current item
        self.below = 0  # levels of the deepest bracket in it
        self.best = 0  # levels of the deepest item before
        self.commas = 0
        self.base = factor  # how often the tree repeats what is in here
        self.factor = factor  # and the current item

    def next_item(self) -> None:
        self.best = self.levels()
        self.chain = self.below = 0
        self.factor = self.base
        self.commas += 1

    def levels(self) -> int:
        return max(self.best, self.chain + self.below)


class _Scan:
    """One pass over the tokens of a text."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.frames = [_Frame(False, 1)]
        self.set_operations = 0
        self.repeated = 0
        self.label = False  # the next word is a name, whatever it spells: after `.` and AS
        self.group = 0  # commas of the bracket that has just been closed

    def measure(self) -> Measure:
        at, end = 0, len(self.text)
        match = _TOKEN.match
        while at < end:
            found = match(self.text, at)
            assert found is not None  # `other` takes any byte
            at = found.end()
            kind = found.lastgroup
            if kind == "skip":
                continue
            if kind == "comment":
                at = self._after_comment(at)
                continue
            self.repeated += self.frames[-1].factor - 1
            if self.repeated > MAX_REPEATED:
                raise Exceeded("multi-column assignments repeat too much")
            if kind == "dollar":
                at = self._after_dollar(found.group(), at)
            self._token(kind or "other", found.group())
        while len(self.frames) > 1:
            self._pop()
        return Measure(self.frames[0].levels() + 1, self.repeated)

    def _after_comment(self, at: int) -> int:
        depth = 1
        for edge in _COMMENT_EDGE.finditer(self.text, at):
            depth += 1 if edge.group() == b"/*" else -1
            if depth == 0:
                return edge.end()
        return len(self.text)

    def _after_dollar(self, tag: bytes, at: int) -> int:
        close = self.text.find(tag, at)
        return len(self.text) if close < 0 else close + len(tag)

    def _token(self, kind: str, token: bytes) -> None:
        group, self.group = self.group, 0
        label, self.label = self.label, False
        if kind == "word":
            self._word(token, label)
        elif kind == "open":
            self._push(False)
        elif kind == "close":
            while self.frames[-1].is_case:
                self._pop()
            if len(self.frames) > 1:
                self.group = self.frames[-1].commas
                self._pop()
        elif kind == "comma":
            while self.frames[-1].is_case and token == b";":
                self._pop()
            self.frames[-1].next_item()
        elif kind == "operator":
            if token == b"=" and group:
                self.frames[-1].factor = min(self.frames[-1].base * (group + 1), 1 << 40)
            self._infix(1 + _split_signs(token))
        elif kind == "cast":
            self._infix(1)
        elif token == b".":
            self.label = True

    def _word(self, token: bytes, label: bool) -> None:
        if len(token) > _LONGEST_WORD or label:
            return
        word = token.upper()
        if word == b"AS":
            self.label = True
        elif word == b"CASE":
            self._push(True)
        elif word == b"END":
            if self.frames[-1].is_case:
                self._pop()
        elif word in _INFIX:
            self._infix(1)
        elif word in _SET_OPERATIONS:
            self.set_operations += 1
            if self.set_operations > MAX_SET_OPERATIONS:
                raise Exceeded(f"more than {MAX_SET_OPERATIONS} set operations")

    def _push(self, is_case: bool) -> None:
        if len(self.frames) > MAX_NESTING:
            raise Exceeded(f"nested more than {MAX_NESTING} levels deep")
        self.frames.append(_Frame(is_case, self.frames[-1].factor))

    def _pop(self) -> None:
        frame = self.frames.pop()
        parent = self.frames[-1]
        parent.below = max(parent.below, frame.levels() + 1)

    def _infix(self, count: int) -> None:
        frame = self.frames[-1]
        frame.chain += count
        if frame.chain > MAX_CHAIN:
            raise Exceeded(f"more than {MAX_CHAIN} operators in one chain")


def _split_signs(operator: bytes) -> int:
    """How many operators more than one a run of operator characters is: `+` and `-` at its end stand alone (scan.l, rule `operator`)."""
    if len(operator) == 1 or operator[-1] not in b"+-" or _SPECIAL.search(operator):
        return 0
    return len(operator) - max(len(operator.rstrip(b"+-")), 1)
