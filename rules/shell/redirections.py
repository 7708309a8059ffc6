"""Redirections: which files a command opens, what its standard input is, and words of the command that stand behind them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final

from tree_sitter import Node

from rules.shell.words import Holes, Misread, Word, words_of

_REDIRECT: Final = re.compile(rb"([0-9]*)(&>>|&>|>>|>&|>\||<&|<<<|>|<)[ \t]*")
_COPY: Final = re.compile(r"[0-9]+-?|-")
_HEREDOC: Final = re.compile(
    rb"([0-9]*)<<(-?)[ \t]*(?:([A-Za-z0-9_.]+)|'([A-Za-z0-9_. ]+)'|\"([A-Za-z0-9_. ]+)\"|\\([A-Za-z0-9_.]+))(?=[ \t\n;&|<>)])"
)
_DEVICES: Final = ("/dev/tcp/", "/dev/udp/")
_KERNEL: Final = re.compile(r"/(?:dev|proc|sys)/")
_PLAIN_DEVICE: Final = re.compile(r"/dev/(?:null|stdout|stderr|tty|full|fd/[0-9]+|shm/.+|tcp/.+|udp/.+)")
_EXPANDS: Final = re.compile(rb"\$[A-Za-z0-9_{(\[@*#?$!-]|`")


@dataclass(frozen=True, slots=True)
class Redirection:
    """One redirection. `stdin` is what it makes of standard input: "" (nothing), "file", "null", "text"."""

    facets: frozenset[str] = frozenset()
    stdin: str = ""
    text: bytes | None = None  # of a here-document or here-string that expands nothing
    words: tuple[Word, ...] = ()  # words of the command behind it


def check_digits(node: Node, source: bytes) -> None:
    """A number or `{name}` before the operator names a descriptor; it must be the tree's too. Raises Misread."""
    start = node.start_byte
    if start and source[start : start + 1] in (b"<", b">") and source[start - 1 : start].isdigit() | (source[start - 1 : start] == b"}"):
        raise Misread("a number before a redirection")
    if source[start : start + 1].isdigit() and start and source[start - 1] not in b" \t\n;&|()<>":
        raise Misread("a number before a redirection")


def file_redirection(node: Node, source: bytes, holes: Holes) -> Redirection:
    """Of a file_redirect or herestring_redirect. Raises Misread."""
    check_digits(node, source)
    found = _REDIRECT.match(source, node.start_byte, node.end_byte)
    if found is None:
        raise Misread("a redirection that is not understood")
    descriptor, operator = found[1], found[2]
    words = words_of(source, found.end(), node.end_byte, holes)
    if not words:
        raise Misread("a redirection without a target")
    target, *behind = words
    if operator == b"<<<":
        if descriptor not in (b"", b"0"):
            raise Misread("a here-string of another descriptor")
        text = None if target.value is None else target.value.encode() + b"\n"
        return Redirection(target.facets, "text", text, tuple(behind))
    if target.value is None:
        raise Misread("an expansion decides the target of a redirection")
    if operator in (b">&", b"<&") and _COPY.fullmatch(target.value):
        stdin = "file" if operator == b"<&" and descriptor in (b"", b"0") else ""
        return Redirection(stdin=stdin, words=tuple(behind))
    reads = operator == b"<" and descriptor in (b"", b"0")
    if target.value == "/dev/null":
        return Redirection(stdin="null" if reads else "", words=tuple(behind))
    facets = frozenset({"redirect"})
    if target.value.startswith(_DEVICES) or "/dev/tcp" in target.value or "/dev/udp" in target.value:
        facets |= {"network"}
    if (
        b">" in operator
        and _KERNEL.match(path := posixpath.normpath(target.value).replace("//", "/"))
        and not _PLAIN_DEVICE.fullmatch(path)
    ):
        facets |= {"device"}
    stdin = "file" if reads or (descriptor == b"0") else ""
    return Redirection(facets, stdin, words=tuple(behind))


def heredoc(node: Node, source: bytes, holes: Holes) -> tuple[Redirection, int, int]:
    """Of a heredoc_redirect: the redirection, and where its body begins and ends. Raises Misread.

    The body is found here as the shell finds it; where the tree has another end, they differ.
    """
    check_digits(node, source)
    found = _HEREDOC.match(source, node.start_byte)
    if found is None or found[1] not in (b"", b"0"):
        raise Misread("a here-document that is not understood")
    plain = found[3]
    delimiter = next(text for text in found.groups()[2:] if text is not None)
    line_end = source.find(b"\n", found.end())
    if line_end < 0:
        raise Misread("a here-document without its text")
    start = at = line_end + 1
    while True:
        end = source.find(b"\n", at)
        line = source[at : end if end >= 0 else len(source)]
        if (line.lstrip(b"\t") if found[2] else line) == delimiter:
            break
        if end < 0:
            raise Misread("a here-document without its end")
        at = end + 1
    closing = next((child for child in node.children if child.type == "heredoc_end"), None)
    if closing is None or source[at : closing.end_byte].strip(b"\t\n") != delimiter or not at <= closing.start_byte <= closing.end_byte:
        raise Misread("the end of a here-document")
    body = source[start:at]
    for child in node.children:
        if child.type not in ("heredoc_body", "heredoc_end") and child.end_byte > line_end:
            raise Misread("a here-document whose line is not understood")
    if plain is None:
        return Redirection(stdin="text", text=_without_tabs(body, found[2])), start, at
    return Redirection(_expanded(source, start, at, holes), "text", _static(body, found[2])), start, at


def _without_tabs(body: bytes, strips: bytes) -> bytes:
    return re.sub(rb"(?m)^\t+", b"", body) if strips else body


def _static(body: bytes, strips: bytes) -> bytes | None:
    return None if re.search(rb"[\\$`]", body) else _without_tabs(body, strips)


def _expanded(source: bytes, start: int, end: int, holes: Holes) -> frozenset[str]:
    """The facets of an unquoted body; Raises Misread where something expands that the tree does not show."""
    facets = set()
    at = start
    while at < end:
        if at in holes:
            at, kind = holes[at]
            facets.add(kind)
            if at > end:
                raise Misread("an expansion reaches out of a here-document")
        elif source[at] == 0x5C:
            at += 2
        elif _EXPANDS.match(source, at):
            raise Misread("an expansion where the grammar sees none")
        else:
            at += 1
    return frozenset(facets)
