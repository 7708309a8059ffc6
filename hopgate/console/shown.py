"""Text from outside, made safe to look at: markup escaped, what is unseen made visible, SQL, shell and HTTP coloured.

Nothing is left out and nothing normalised: what stands on the page, read without the marks, is what was sent.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from markupsafe import Markup, escape

COLOURED: Final = 32 << 10  # characters; colouring 1 MB takes a second in which the console does nothing else
KEPT: Final = 2 << 10  # characters; the colours of shorter texts are remembered, in some 10 MB at most
BODY: Final = 16 << 10  # characters of a recorded body on a page
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SPACES: Final = frozenset({"Zs"})
_NAMES: Final = {"\x00": "NUL", "\x07": "BEL", "\x08": "BS", "\x0b": "VT", "\x0c": "FF", "\r": "CR", "\x1b": "ESC", "\x7f": "DEL"}
_LEXERS: Final = {"sql": "PostgresLexer", "ssh": "BashLexer", "json": "JsonLexer"}
# pygments' token types, the first letters of their names, as the few classes that the style sheet knows
_CLASSES: Final = (
    ("Token.Keyword", "k"),
    ("Token.Name.Builtin", "k"),
    ("Token.Name.Function", "f"),
    ("Token.Name.Tag", "f"),
    ("Token.Name.Variable", "v"),
    ("Token.Name.Attribute", "f"),
    ("Token.Literal.Number", "n"),
    ("Token.Literal", "s"),
    ("Token.Comment", "c"),
    ("Token.Operator", "o"),
)


def shown(text: object, *, lines: bool = False) -> Markup:
    """`text` escaped, with every character that is unseen, acts or reorders written out in a marked `<span>`.

    Letters that are not ASCII are marked too where they stand in a word with ASCII ones: such words imitate others. `lines` keeps
    line feeds and tabs.
    """
    raw = str(text)
    plain = raw.replace("\n", "").replace("\t", "") if lines else raw
    if plain.isascii() and plain.isprintable():
        return escape(raw)
    return Markup("").join(_marked(raw, lines))


def _marked(text: str, lines: bool) -> Iterator[Markup]:
    mixed = _mixed(text)
    start = 0
    for index, each in enumerate(text):
        mark = _mark(each, lines, index in mixed)
        if mark is None:
            continue
        yield escape(text[start:index])
        yield mark
        start = index + 1
    yield escape(text[start:])


def _mark(character: str, lines: bool, odd: bool) -> Markup | None:
    if character.isascii() and character.isprintable():
        return None
    if lines and character in "\n\t":
        return None
    category = unicodedata.category(character)
    if category in _UNSEEN or (category in _SPACES and character != " "):
        return _written(character)
    if odd or unicodedata.combining(character):
        return Markup('<span class="odd" title="{}">{}</span>').format(_name(character), character)
    return None


@lru_cache(maxsize=512)
def _written(character: str) -> Markup:
    point = f"U+{ord(character):04X}"
    return Markup('<span class="ctl" title="{}">{}</span>').format(_name(character), _NAMES.get(character, point))


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"


def _mixed(text: str) -> set[int]:
    """Where letters that are not ASCII stand in a word with ASCII letters."""
    found: set[int] = set()
    start = 0
    for index in range(len(text) + 1):
        if index < len(text) and (text[index].isalnum() or text[index] == "_"):
            continue
        word = text[start:index]
        if not word.isascii() and any(each.isascii() and each.isalpha() for each in word):
            found.update(start + offset for offset, each in enumerate(word) if not each.isascii())
        start = index + 1
    return found


def code(text: str, kind: str) -> Markup:
    """`text` coloured as the language of its kind of operation, each line in a `<span>`; plain where it is too long or unknown."""
    return (_coloured_before if len(text) <= KEPT else _coloured)(text, kind)


def _coloured(text: str, kind: str) -> Markup:
    lines = list(_lines(text, kind))
    # the line end stands inside its line: the text of the whole is then what was sent, to the byte
    ends = ["\n"] * (len(lines) - 1) + [""]
    return Markup("").join(Markup('<span class="ln">{}{}</span>').format(*pair) for pair in zip(lines, ends, strict=True))


_coloured_before = lru_cache(maxsize=1024)(_coloured)  # colouring is most of what an inbox costs, and its cards stay for minutes


def _lines(text: str, kind: str) -> Iterator[Markup]:
    parts: list[Markup] = []
    for name, value in _tokens(text, kind):
        for number, piece in enumerate(value.split("\n")):
            if number:
                yield Markup("").join(parts)
                parts = []
            if piece:
                inner = shown(piece, lines=True)
                parts.append(Markup('<span class="{}">{}</span>').format(name, inner) if name else inner)
    yield Markup("").join(parts)


def _tokens(text: str, kind: str) -> list[tuple[str, str]]:
    if kind == "http" and len(text) <= COLOURED:
        return _request_tokens(text)
    lexer = _lexer(kind)
    if lexer is None or len(text) > COLOURED:
        return [("", text)]
    try:
        # not get_tokens: that strips and adds line ends, and this is what a reviewer decides on
        found = [(_class(str(token)), value) for _, token, value in lexer.get_tokens_unprocessed(text)]
    except Exception:
        return [("", text)]  # a lexer's trouble is not the reviewer's
    return found if "".join(value for _, value in found) == text else [("", text)]


def _request_tokens(text: str) -> list[tuple[str, str]]:
    """A request as `rules.http` writes it out: the line, the header fields, an empty line, the body."""
    head, gap, body = text.partition("\n\n")
    first, *fields = head.split("\n")
    method, space, target = first.partition(" ")
    found = [("k", method), ("", space + target)]
    for line in fields:
        name, colon, value = line.partition(":")
        found += [("", "\n"), ("f" if colon else "", name), ("o", colon), ("", value)]
    kind = "json" if body.lstrip()[:1] in ("{", "[") else ""
    return [*found, ("", gap), *(_tokens(body, kind) if body else [])]


def _class(token: str) -> str:
    return next((name for prefix, name in _CLASSES if token.startswith(prefix)), "")


@lru_cache(maxsize=8)
def _lexer(kind: str) -> Any:
    import pygments.lexers

    name = _LEXERS.get(kind)
    return None if name is None else getattr(pygments.lexers, name)()


def plain(text: object) -> str:
    """`text` with what is unseen written as `U+202E`: for SVG and attributes, where a mark can have no element of its own."""
    raw = str(text)
    if raw.isascii() and raw.isprintable():
        return raw
    return "".join(f"⟨U+{ord(each):04X}⟩" if unicodedata.category(each) in _UNSEEN else each for each in raw)


# --- what recordings hold


def body(content: bytes | None, headers: Iterable[tuple[str, str]] = ()) -> Markup:
    """A recorded body as it can be read: JSON set out, text as it is, of the rest its size."""
    if content is None:
        return Markup('<span class="none">not recorded</span>')
    if not content:
        return Markup('<span class="none">empty</span>')
    kind = next((value.lower() for name, value in headers if name.lower() == "content-type"), "")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Markup('<span class="none">{} bytes that are no text</span>').format(len(content))
    if len(text) > BODY:
        rest = Markup('\n<span class="none">… {} more characters: export the recording</span>').format(len(text) - BODY)
        return shown(text[:BODY], lines=True) + rest
    return code(set_out(text), "json") if "json" in kind else shown(text, lines=True)


def set_out(text: str) -> str:
    """JSON on lines of its own, every token kept as it was written: a parser would round numbers and drop keys."""
    parts: list[str] = []
    depth, quoted, escaped = 0, False, False
    for each in text:
        if quoted:
            parts.append(each)
            quoted = escaped or each != '"'
            escaped = each == "\\" and not escaped
        elif each in "{[":
            depth += 1
            parts.append(each + "\n" + "  " * depth)
        elif each in "}]":
            depth = max(0, depth - 1)
            parts.append("\n" + "  " * depth + each)
        elif each == ",":
            parts.append(",\n" + "  " * depth)
        elif each == ":":
            parts.append(": ")
        elif not each.isspace():
            parts.append(each)
            quoted = each == '"'
    return "".join(parts)


def said(text: bytes) -> str:
    """One message of a relayed connection as text; bytes that are none are written out."""
    return text.decode("utf-8", "backslashreplace")
