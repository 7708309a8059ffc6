"""Patterns as rules write them, compiled once to functions `text -> bool`.

Every string here is chosen by the caller that is being judged, so no pattern may backtrack: literals, prefixes and
pieces are compared with string methods, path globs whose stars stand alone in a segment use `re` (one way to match
each segment), and everything else goes to RE2, which is linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

import re2

from rules.model import UNKNOWN, Unknown

type Matcher = Callable[[str], bool]

MAX_PATTERN: Final = 1024  # characters
_SYSTEM_DIRECTORIES: Final = frozenset({"/bin", "/usr/bin", "/sbin", "/usr/sbin"})
_WILD: Final = re.compile(r"\*+|\?")


class BadPattern(ValueError):
    """A pattern that does not compile, or that can never match what it is meant for."""


class Linear:
    """An RE2 expression for the whole of a text that can match only where `needle` occurs."""

    __slots__ = ("_fullmatch", "expression", "needle")

    def __init__(self, expression: str, needle: str = "") -> None:
        options = re2.Options()
        options.dot_nl = True  # `.` without newlines would let `x\ny` slip past `re:.*y`
        options.log_errors = False
        options.max_mem = 1 << 20
        try:
            self._fullmatch = re2.compile(expression, options).fullmatch
        except re2.error as error:
            detail = error.args[0] if error.args else ""
            raise BadPattern(
                f"not an RE2 expression: {detail.decode('utf-8', 'replace') if isinstance(detail, bytes) else detail}"
            ) from None
        self.expression = expression
        self.needle = needle

    def __call__(self, text: str) -> bool:
        # encoded here: RE2's wrapper translates offsets back otherwise. A lone surrogate raises, which leaves the rule unknown
        return self.needle in text and self._fullmatch(text.encode()) is not None


def any_matcher(matchers: Sequence[Matcher]) -> Matcher:
    """Whether any matches; several RE2 expressions become one, so that a text is scanned once."""
    linear = [matcher for matcher in matchers if isinstance(matcher, Linear)]
    others = [matcher for matcher in matchers if not isinstance(matcher, Linear)]
    if len(linear) > 1:
        try:
            others.append(_together(linear))
        except BadPattern:  # each is within RE2's memory, all are not
            others += linear
    else:
        others += linear
    if len(others) == 1:
        return others[0]
    return lambda text: any(matcher(text) for matcher in others)


def _together(linear: Sequence[Linear]) -> Matcher:
    combined = Linear("|".join(f"(?:{matcher.expression})" for matcher in linear))
    needles = tuple(matcher.needle for matcher in linear)
    if "" in needles:
        return combined
    return lambda text: any(needle in text for needle in needles) and combined(text)


def _checked(pattern: str) -> str:
    if not pattern:
        raise BadPattern("an empty pattern matches nothing: write `*` for any value, or `re:` for the empty one")
    if len(pattern) > MAX_PATTERN:
        raise BadPattern(f"a pattern has at most {MAX_PATTERN} characters, this one {len(pattern)}")
    return pattern


def is_literal(pattern: str) -> bool:
    """Whether `pattern` is compared as it stands."""
    return not pattern.startswith("re:") and _WILD.search(pattern) is None


def compile_text(pattern: str, *, ignore_case: bool = False) -> Matcher:
    """A glob where `*` and `**` match anything and `?` one character; after `re:` an RE2 expression. Raises BadPattern."""
    _checked(pattern)
    if pattern.startswith("re:"):
        return Linear(f"(?i:{pattern[3:]})" if ignore_case else pattern[3:])
    if ignore_case:
        plain = compile_text(pattern.lower())
        return lambda text: plain(text.lower())
    if is_literal(pattern):
        return lambda text: text == pattern
    if "?" in pattern:
        return Linear("".join(_text_piece(piece) for piece in _pieces(pattern)), max(_WILD.split(pattern), key=len))
    return _starred(pattern)


def _starred(pattern: str) -> Matcher:
    first, *middle, last = re.split(r"\*+", pattern)
    if not middle and not last:
        return (lambda text: True) if not first else (lambda text: text.startswith(first))
    if not middle and not first:
        return lambda text: text.endswith(last)
    shortest = len(first) + len(last)

    def matches(text: str) -> bool:
        if len(text) < shortest or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return matches


def _pieces(pattern: str) -> list[str]:
    return re.findall(r"\*+|\?|[^*?]+", pattern)


def _text_piece(piece: str) -> str:
    if piece.startswith("*"):
        return ".*"
    return "." if piece == "?" else re2.escape(piece)


def compile_path(pattern: str) -> Matcher:
    """A glob over canonical paths: `*` and `?` stop at `/`, `**` does not, and `/a/**` also matches `/a`. Raises BadPattern."""
    _checked(pattern)
    if pattern.startswith("re:"):
        return Linear(pattern[3:])
    if not pattern.startswith(("/", "*")):
        raise BadPattern(f"a path pattern starts with `/`, `*` or `re:`, got `{pattern}`")
    segments = pattern.split("/")
    if any(segment in (".", "..") for segment in segments) or "" in segments[1:-1]:
        raise BadPattern(f"`{pattern}` can never match: canonical paths have no empty and no dot segments")
    if re.search(r"%[0-9A-Fa-f]{2}", pattern):
        raise BadPattern("paths are compared decoded: write the character itself instead of %XX")
    if pattern in ("*", "**", "/**"):
        return (lambda text: True) if pattern == "**" else _whole(pattern)
    if is_literal(pattern):
        return lambda text: text == pattern
    if any("***" in segment for segment in segments):
        raise BadPattern("three stars in a row mean nothing: write `*` or `**`")
    if pattern.endswith("/**") and is_literal(pattern[:-3]):
        base, below = pattern[:-3], pattern[:-2]
        return lambda text: text.startswith(below) or text == base
    return _path_expression(pattern, segments)


def _whole(pattern: str) -> Matcher:
    if pattern == "*":
        return lambda text: "/" not in text
    return lambda text: text.startswith("/")


def _path_expression(pattern: str, segments: list[str]) -> Matcher:
    pieces = re.findall(r"/\*\*/|/\*\*$|\*+|\?|/|[^*?/]+", pattern)
    expression = "".join(_path_piece(piece) for piece in pieces)
    deep = pattern.count("**")
    simple = all(segment in ("*", "**") or is_literal(segment) for segment in segments)
    if simple and (deep == 0 or (deep == 1 and segments[-1] == "**")):
        fullmatch = re.compile(expression, re.DOTALL).fullmatch
        return lambda text: fullmatch(text) is not None
    certain = "".join("*" if "*" in piece or piece == "?" else piece for piece in pieces)
    return Linear(expression, max(certain.split("*"), key=len))


def _path_piece(piece: str) -> str:
    match piece:
        case "/**/":
            return "/(?:.*/)?"
        case "/**":
            return "(?:/.*)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _:
            return re.escape(piece)


def compile_name(pattern: str) -> Callable[[Sequence[str], bool], bool | Unknown]:
    """A SQL name pattern, aligned from the right: `email`, `customers.email`, `public.customers.email`. Raises BadPattern.

    The function takes a name's parts and whether it judges for an allow (`strict`). A name with fewer parts than the
    pattern is unknown. A last part `*` is a whole row: it contains every column, so it satisfies no allow.
    """
    _checked(pattern)
    parts = [pattern] if pattern.startswith("re:") else pattern.split(".")
    if not all(parts):
        raise BadPattern(f"`{pattern}` has an empty part")
    matchers = [compile_text(part) for part in reversed(parts)]

    def matches(name: Sequence[str], strict: bool) -> bool | Unknown:
        backwards = name[::-1]
        for index, matcher in enumerate(matchers[: len(backwards)]):
            part = backwards[index]
            if index == 0 and part == "*":
                if strict:
                    return False
            elif not matcher(part):
                return False
        return True if len(backwards) >= len(matchers) else UNKNOWN

    return matches


def compile_program(pattern: str, *, strict: bool) -> Matcher:
    """A command word. Strict (allow): without `/` only a bare word, or one in the system's directories; else the word or its basename."""
    matcher = compile_text(pattern)
    if not strict:
        return lambda word: matcher(word) or matcher(word.rpartition("/")[2])
    if "/" in pattern:
        return matcher

    def matches(word: str) -> bool:
        directory, slash, name = word.rpartition("/")
        return matcher(name) and (not slash or directory in _SYSTEM_DIRECTORIES)

    return matches


def compile_network(pattern: str) -> Matcher:
    """An address or network in CIDR form. IPv4 addresses in IPv6 clothing (`::ffff:10.0.0.1`) are compared as IPv4. Raises BadPattern."""
    try:
        network: IPv4Network | IPv6Network = ip_network(pattern)
    except ValueError as error:
        raise BadPattern(f"not an address or network: {error}") from None

    def matches(text: str) -> bool:
        address = ip_address(text.partition("%")[0])  # ValueError here leaves the rule unknown
        mapped = getattr(address, "ipv4_mapped", None)
        return address in network or (mapped is not None and mapped in network)

    return matches
