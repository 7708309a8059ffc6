"""Words of a command line: quotes removed exactly as the shell does, and what an expansion would make of them left open.

The grammar is tolerant: it splits `r\\<newline>m` in two and takes `[ a && b ]` for one test. So words are read again here,
from the source; the tree only says where expansions and substitutions are ("holes"). Where the two differ, Misread.
Source: POSIX.1-2024, Shell Command Language, 2.2 Quoting and 2.3 Token Recognition; bash(1), QUOTING.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PLAIN: Final = re.compile(rb"[A-Za-z0-9_./,:=@%+^-]++")
_BLANKS: Final = re.compile(rb"(?:[ \t]|\\\n)++")
_META: Final = frozenset(b" \t\n;&|()<>")
_STARTS_EXPANSION: Final = re.compile(rb"\$[A-Za-z0-9_{(\[@*#?$!-]")
_ASSIGNED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_ANSI: Final = re.compile(rb"\\(?:([abeEfnrtv\\'\"?])|([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8}))")
_ANSI_SIMPLE: Final = dict(zip(b"abeEfnrtv\\'\"?", b"\a\b\x1b\x1b\f\n\r\t\v\\'\"?", strict=True))

type Holes = Mapping[int, tuple[int, str]]  # start of `$…`, backquote or `<(` -> (its end, "expansion" or "substitution")


class Misread(ValueError):
    """The text is not what the tree says, or is more than is understood. The message is what `reason` says."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word. `value` is None where an expansion decides what it becomes, and into how many words."""

    raw: str
    value: str | None
    facets: frozenset[str] = frozenset()
    quoted: bool = False
    start: str = ""  # of an unknown value: what every word that comes of it begins with
    single: bool = False  # of an unknown value: it becomes one word whatever happens

    @property
    def one(self) -> bool:
        """Whether the command gets exactly one word for it."""
        return self.single or self.value is not None

    @property
    def may_be_option(self) -> bool:
        """Whether something that comes of it may begin with `-`."""
        return (self.start if self.value is None else self.value).startswith("-") or (self.value is None and not self.start)

    @property
    def assigned(self) -> str:
        """The variable that the word assigns to where it stands in the place of an assignment; else nothing."""
        found = _ASSIGNED.match(self.raw)
        return found[1] if found else ""


_NONE: Final[frozenset[str]] = frozenset()
_FACETS: Final = {
    (False, False): _NONE,
    (True, False): frozenset({"expansion"}),
    (False, True): frozenset({"substitution"}),
    (True, True): frozenset({"expansion", "substitution"}),
}


def words_of(source: bytes, start: int, end: int, holes: Holes, breaks: frozenset[int] = frozenset()) -> list[Word]:
    """The words between two offsets, separated by blanks and by the metacharacters in `breaks`. Raises Misread."""
    found = []
    at = start
    while at < end:
        blank = _BLANKS.match(source, at, end)
        if blank:
            if at > start and not blank.group().strip(b"\\\n") and source[at - 1] not in b" \t":
                raise Misread("a word is broken over two lines")
            at = blank.end()
            continue
        if source[at] in breaks:
            at += 1
            continue
        word, at = word_at(source, at, end, holes)
        found.append(word)
    return found


def whole_word(source: bytes, start: int, end: int, holes: Holes) -> Word:
    """The one word between two offsets; the empty one where they are equal. Raises Misread where it is not one."""
    word, at = word_at(source, start, end, holes)
    if at != end:
        raise Misread("the words of the command could not be told apart")
    return word


def word_at(source: bytes, start: int, end: int, holes: Holes) -> tuple[Word, int]:
    """The word that begins at `start`, and where it ends. Raises Misread."""
    plain = _PLAIN.match(source, start, end)
    if plain and (plain.end() == end or source[plain.end()] in _META):
        text = plain.group().decode()
        return Word(text, text), plain.end()
    return _Scan(source, start, end, holes).word()


class _Scan:
    """One pass over the bytes of one word."""

    def __init__(self, source: bytes, start: int, end: int, holes: Holes) -> None:
        self.source = source
        self.start = start
        self.at = start
        self.end = end
        self.holes = holes
        self.out = bytearray()
        self.quoted = False
        self.expansion = False
        self.substitution = False
        self.braces = 0
        self.splits = False  # an expansion that is not quoted: words of it begin with anything
        self.several = False  # a glob, or braces
        self.begun: bytes | None = None  # what stands before the first expansion

    def word(self) -> tuple[Word, int]:
        source = self.source
        while self.at < self.end:
            byte = source[self.at]
            if self._hole():
                continue
            if byte in _META:
                break
            self._unquoted(byte)
        if self.at == self.start and self.at < self.end:
            raise Misread("the words of the command could not be told apart")
        if self.braces:
            self.expansion = True
        try:
            value: str | None = self.out.decode()
        except UnicodeDecodeError:
            value = None
            self.expansion = True
        raw = source[self.start : self.at].decode(errors="replace")
        facets = _FACETS[self.expansion, self.substitution]
        if not (self.expansion or self.substitution):
            return Word(raw, value, facets, self.quoted), self.at
        begun = "" if self.splits else (self.begun or b"").decode(errors="replace")
        return Word(raw, None, facets, self.quoted, begun, not (self.splits or self.several)), self.at

    def _dynamic(self, begins: bytes = b"") -> None:
        """An expansion is here; `begins` is what it begins with, where that is known."""
        if self.begun is None:
            self.begun = bytes(self.out) or begins

    def _hole(self, *, quoted: bool = False) -> bool:
        hole = self.holes.get(self.at)
        if hole is None:
            return False
        begin = self.at
        self.at, kind = hole
        text = self.source[begin : self.at]
        if text[:1] in (b"<", b">"):
            self._dynamic(b"/")  # the name of a pipe
        else:
            self._dynamic()
            # "$@" is as many words as there are parameters
            self.splits = self.splits or not quoted or (text[1:2] != b"(" and text[:1] != b"`" and b"@" in text)
        self.expansion = self.expansion or kind == "expansion"
        self.substitution = self.substitution or kind == "substitution"
        if self.at > self.end:
            raise Misread("an expansion reaches out of its word")
        return True

    def _unquoted(self, byte: int) -> None:
        if byte == 0x5C:
            self._backslash()
        elif byte == 0x27:
            self._single()
        elif byte == 0x22:
            self._double()
        elif byte == 0x24:
            self._dollar()
        elif byte == 0x60:
            raise Misread("a backquote where the grammar sees none")
        elif byte == 0x23 and self.at == self.start:
            raise Misread("a comment where the grammar sees none")
        elif self.source.startswith(b"{}", self.at):
            self.out += b"{}"
            self.at += 2
        else:
            before = self.source[self.at - 1] if self.at > self.start else 0
            if byte in b"*?[":
                self.expansion = self.several = True
                self._dynamic()
            elif byte == 0x7E and before in (0, 0x3A, 0x3D):
                self.expansion = True
                self._dynamic(b"~")
            elif byte == 0x7B:
                self.braces += 1
                self.several = True
                self._dynamic()
            self.out.append(byte)
            self.at += 1

    def _backslash(self) -> None:
        if self.at + 1 >= self.end:
            raise Misread("a backslash at the end")
        following = self.source[self.at + 1]
        if following != 0x0A:
            self.out.append(following)
            self.quoted = True
        self.at += 2

    def _single(self) -> None:
        close = self.source.find(b"'", self.at + 1, self.end)
        if close < 0:
            raise Misread("a quote that is not closed")
        self.out += self.source[self.at + 1 : close]
        self.quoted = True
        self.at = close + 1

    def _double(self) -> None:
        self.quoted = True
        self.at += 1
        while self.at < self.end:
            if self._hole(quoted=True):
                continue
            byte = self.source[self.at]
            if byte == 0x22:
                self.at += 1
                return
            if byte == 0x5C and self.at + 1 < self.end:
                following = self.source[self.at + 1]
                if following in b'$`"\\':
                    self.out.append(following)
                elif following != 0x0A:
                    self.out += bytes((byte, following))
                self.at += 2
                continue
            if byte == 0x60 or (byte == 0x24 and _STARTS_EXPANSION.match(self.source, self.at)):
                raise Misread("an expansion where the grammar sees none")
            self.out.append(byte)
            self.at += 1
        raise Misread("a quote that is not closed")

    def _dollar(self) -> None:
        following = self.source[self.at + 1 : self.at + 2]
        if following == b"'":
            self._ansi()
        elif following == b'"':
            raise Misread("a translated string")
        elif _STARTS_EXPANSION.match(self.source, self.at):
            raise Misread("an expansion where the grammar sees none")
        else:
            self.out += b"$"
            self.at += 1

    def _ansi(self) -> None:
        self.quoted = True
        self.at += 2
        source = self.source
        while self.at < self.end:
            byte = source[self.at]
            if byte == 0x27:
                self.at += 1
                return
            if byte != 0x5C:
                self.out.append(byte)
                self.at += 1
                continue
            escape = _ANSI.match(source, self.at, self.end)
            if escape is None:
                raise Misread("an escape in $'…' that is not understood")
            self.out += _escaped(escape)
            self.at = escape.end()
        raise Misread("a quote that is not closed")


def _escaped(escape: re.Match[bytes]) -> bytes:
    simple, octal, byte, *characters = escape.groups()
    if simple:
        return bytes((_ANSI_SIMPLE[simple[0]],))
    code = int(octal, 8) if octal else int(byte or next(text for text in characters if text), 16)
    if code == 0 or code > (0xFF if octal or byte else 0x7F):  # what a code point becomes depends on the locale
        raise Misread("an escape in $'…' that is not understood")
    return bytes((code,))
