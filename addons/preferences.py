"""`Prefer` (RFC 7240): how long a caller is willing to wait for a reviewer."""

from __future__ import annotations

import re
from typing import Final

_PREFERENCE: Final = re.compile(
    rb"""\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?[^,"]*(?:"(?:[^"\\]|\\.)*"[^,"]*)*"""
)


def parse_wait(values: list[bytes], longest: float) -> tuple[float, tuple[bytes, ...]]:
    """Seconds to wait, at most `longest`, and what is left of the header once our own preferences are taken out.

    `respond-async` means not at all. The first of several equal preferences counts (section 2), and a value that is no number is ignored.
    """
    wait: float | None = None
    asynchronous = False
    kept: list[bytes] = []
    for value in values:
        for match in _PREFERENCE.finditer(value):
            name, given = match[1].lower(), (match[2] or b"").strip(b'"')
            if name == b"wait":
                if wait is None and given.isdigit() and len(given) < 10:
                    wait = float(given)
            elif name == b"respond-async":
                asynchronous = True
            else:
                kept.append(match[0].strip())
    if wait is None:
        wait = 0.0 if asynchronous else longest
    return min(wait, longest), tuple(kept)
