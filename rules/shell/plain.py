"""Plain command lines, read without the grammar: words and quotes, `|`, `&&`, `||`, `;`, and what goes to or comes from /dev/null.

Most of what agents run is this, and the grammar takes most of the time of reading it. A line that has anything else (an expansion,
a keyword, an assignment, a glob, a backslash, a newline between commands) is not read here at all.
"""

from __future__ import annotations

import re
from typing import Final

from rules.shell.programs import NAMES_ONLY, RESERVED
from rules.shell.words import Word

_END: Final = r"(?=[ \t|;&]|\Z)"
_TOKEN: Final = re.compile(
    rf"""[ \t]*(?:
      (?P<redirect>(?:[12]?>[ \t]*/dev/null|2>&1|0?<[ \t]*/dev/null){_END})
    | (?P<bare>(?:[A-Za-z0-9_./,:=@%+^-]+|\{{\}}){_END})
    | (?P<quoted>(?:[A-Za-z0-9_./,:=@%+^-]++|'[^']*+'|"[^"$`\\]*+")+{_END})
    | (?P<operator>\|\||&&|\||;)
    )""",
    re.VERBOSE,
)
_REST: Final = re.compile(r"[ \t\n]*\Z")
_QUOTES: Final = re.compile(r"""'([^']*)'|"([^"]*)\"""")
# where these stand first, the shell reads what follows in another way
_FIRST: Final = RESERVED | NAMES_ONLY | {"time", "coproc"}
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")

type Plain = tuple[tuple[Word, ...], str]  # the words of a command, and its standard input where it is said: "pipe", "null", ""


def plain_commands(text: str) -> list[Plain] | None:
    """The simple commands of a plain line, in order; None where it is not plain."""
    found: list[Plain] = []
    words: list[Word] = []
    stdin = piped = ""
    at, end = 0, len(text)
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            if _REST.match(text, at):
                break
            return None
        at = token.end()
        kind = token.lastgroup
        if kind == "bare":
            raw = token["bare"]
            words.append(Word(raw, raw))
        elif kind == "quoted":
            raw = token["quoted"]
            words.append(Word(raw, _QUOTES.sub(r"\1\2", raw), quoted=True))
        elif kind == "redirect":
            if "<" in token["redirect"]:
                stdin = "null"
        else:
            if not _begins_plainly(words):
                return None
            found.append((tuple(words), stdin or piped))
            words, stdin = [], ""
            piped = "pipe" if token["operator"] == "|" else ""
            if token["operator"] == ";" and _REST.match(text, at):
                return found
    if not _begins_plainly(words):
        return None
    found.append((tuple(words), stdin or piped))
    return found


def _begins_plainly(words: list[Word]) -> bool:
    """Whether these are the words of a command, whose first is neither keyword nor assignment."""
    if not words:
        return False
    first = words[0]
    return bool(first.value) and first.value not in _FIRST and not _ASSIGNMENT.match(first.raw)
