"""Recordings of terminals as asciicast v2: a header, then one event a line, `[seconds, "o", text]`.

Source: https://docs.asciinema.org/manual/asciicast/v2/. Events are "o" (output), "r" (new size) and "m" (marker); what is typed is not
recorded, for passwords are. Any player obeys what it plays, so only what prints, moves the cursor or colours is written.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from hopgate.terminal_text import TerminalText, shows

VERSION: Final = 2
CAST: Final = "asciicast"  # in a flow's metadata: the number of the terminal whose lines its messages are
MAX_SIZE: Final = 1000  # columns or rows
MAX_LINE: Final = 1 << 20  # characters of one line when it is read
MAX_MARKER: Final = 1000  # characters

type Kind = Literal["o", "r", "m"]


class Cast:
    """Writes one terminal's recording. `write` gets whole lines; `clock` tells seconds and never goes back. Output comes in any pieces."""

    def __init__(self, write: Callable[[bytes], None], width: int, height: int, clock: Callable[[], float], timestamp: float = 0.0) -> None:
        """`timestamp` is when it began, in seconds since the epoch, where that is known."""
        self._write = write
        self._clock = clock
        self._began = clock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = TerminalText()
        self._size = _sized(width, height)
        self._closed = False
        header: dict[str, Any] = {"version": VERSION, "width": self._size[0], "height": self._size[1]}
        if timestamp:
            header["timestamp"] = int(timestamp)
        write(json.dumps(header).encode() + b"\n")

    def output(self, data: bytes) -> None:
        """What the terminal showed, after masking."""
        if not self._closed:
            self._event("o", self._text.feed(self._decoder.decode(data)))

    def resize(self, width: int, height: int) -> None:
        """The client's window has another size."""
        size = _sized(width, height)
        if size != self._size and not self._closed:
            self._size = size
            self._event("r", f"{size[0]}x{size[1]}")

    def marker(self, text: str) -> None:
        """A note at this moment: a command and what was decided about it."""
        if not self._closed:
            self._event("m", "".join(each if shows(each) else " " for each in text)[:MAX_MARKER])

    def close(self) -> None:
        """Nothing follows. What was left of a character shows as one that could not be read."""
        if not self._closed:
            self._event("o", self._text.feed(self._decoder.decode(b"", True)))
            self._closed = True

    def _event(self, kind: Kind, text: str) -> None:
        if text:
            at = max(0.0, self._clock() - self._began)
            self._write(json.dumps([round(at, 6), kind, text]).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: seconds since the beginning, what kind, and its text."""

    at: float
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """The size at the beginning, in columns and rows."""

    width: int
    height: int
    timestamp: float = 0.0  # seconds since the epoch; 0 = not known


class BadCast(ValueError):
    """A line that is no asciicast."""


def read_cast(lines: Iterable[bytes]) -> Iterator[Header | Event]:
    """The header and the events of one recording or of several, one behind the other. Raises BadCast.

    Whoever wrote it, output comes out as `Cast` would have written it.
    """
    text = TerminalText()
    for line in lines:
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise ValueError
            value = json.loads(line)
            if isinstance(value, dict):
                text.finish()
                yield _header(value)
                continue
            at, kind, content = value
            if kind not in ("o", "r", "m", "i") or not isinstance(content, str) or isinstance(at, bool):
                raise ValueError
            if kind != "i":
                yield Event(float(at), kind, text.feed(content) if kind == "o" else "".join(filter(shows, content)))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise BadCast("a line that is no asciicast v2") from None


def _header(value: dict[str, Any]) -> Header:
    if value["version"] != VERSION:
        raise ValueError
    return Header(*_sized(int(value["width"]), int(value["height"])), float(value.get("timestamp", 0)))


def _sized(width: int, height: int) -> tuple[int, int]:
    return min(max(width, 1), MAX_SIZE) if width else 80, min(max(height, 1), MAX_SIZE) if height else 24
