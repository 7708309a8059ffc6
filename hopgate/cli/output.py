"""What commands print: tables and JSON on stdout, one line for an error on stderr.

Names, titles and payloads come from agents and targets. A terminal obeys control characters, and bidirectional ones make text read
other than it is, so both are shown as what they are.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

_UNSEEN: Final = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
)  # control, format (bidi, zero width), surrogate, private, none, separators


def visible(text: object, *, lines: bool = False) -> str:
    """`text` with every character that a terminal would obey, hide or reorder written as `\\u{…}`; `lines` keeps line feeds and tabs."""
    keep = "\n\t" if lines else ""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(each if each in keep or unicodedata.category(each) not in _UNSEEN else f"\\u{{{ord(each):x}}}" for each in shown)


def say(text: object = "") -> None:
    """A line on stdout, for text of our own or already made visible."""
    try:
        print(text, flush=True)
    except UnicodeEncodeError:  # a terminal that is not UTF-8
        print(str(text).encode("ascii", "backslashreplace").decode(), flush=True)


def note(text: object) -> None:
    """A line on stderr, for progress and warnings."""
    print(visible(text), file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """JSON on stdout; ASCII only, so that no character in it can act on a terminal."""
    print(json.dumps(value, default=_plain, indent=2 if sys.stdout.isatty() else None), flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Aligned columns; `empty` when there are no rows."""
    if not rows:
        say(empty)
        return
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(line[index]) for line in (headings, *cells)) for index in range(len(headings))]
    for line in (headings, *cells):
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as local time; a dash for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


def span(seconds: float) -> str:
    """A length of time, roughly: `45 s`, `9 min`, `3 h`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
