"""Keys of a terminal -> lines, with the echo that the terminal shows. No I/O.

Only what shows can be entered: a line is what its author, its reviewers and the shell all read alike.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

MAX_LINE: Final = 16 << 10  # characters
MAX_HISTORY: Final = 200
MAX_COLUMNS: Final = 500  # of what is shown of a line: whoever types pays for it with each key
BELL: Final = "\a"
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~]|[@-NP-Z\\-~])")
_PARTIAL: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_MAX_SEQUENCE: Final = 64
_KEYS: Final = {
    "\x1b[A": "\x10", "\x1b[B": "\x0e", "\x1b[C": "\x06", "\x1b[D": "\x02", "\x1b[H": "\x01", "\x1b[F": "\x05",
    "\x1bOA": "\x10", "\x1bOB": "\x0e", "\x1bOC": "\x06", "\x1bOD": "\x02", "\x1bOH": "\x01", "\x1bOF": "\x05",
    "\x1b[1~": "\x01", "\x1b[4~": "\x05", "\x1b[3~": "\x04",
}  # fmt: skip


class Line(NamedTuple):
    """A line that was entered, without its end."""

    text: str


class Interrupt(NamedTuple):
    """^C."""


class End(NamedTuple):
    """^D on an empty line."""


type Event = Line | Interrupt | End


class LineEditor:
    """One line at a time. `feed` gives what was entered; `take_echo` what to show for it."""

    def __init__(self, prompt: str = "", columns: int = 80) -> None:
        self.prompt = prompt
        self.columns = columns
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""  # the beginning of an escape sequence
        self._line: list[str] = []
        self._at = 0
        self._history: list[str] = []
        self._back = 0  # how far into the history
        self._last_return = False
        self._echo: list[str] = []
        self._stale = False  # what is shown is not what the line is

    def show(self) -> None:
        """Show the prompt, and the line as far as it is."""
        self._redraw()

    def take_echo(self) -> bytes:
        if self._stale:
            self._draw()
        echo, self._echo = "".join(self._echo), []
        return echo.encode()

    def feed(self, data: bytes) -> list[Event]:
        """Keys. Stops for nobody: what follows a line belongs to the next."""
        events: list[Event] = []
        text = self._pending + self._decoder.decode(data)
        self._pending = ""
        at = 0
        while at < len(text):
            key = text[at]
            if key == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:
                    if _PARTIAL.match(text, at) and len(text) - at < _MAX_SEQUENCE:
                        self._pending = text[at:]
                        break
                    at += 1
                    continue
                at = found.end()
                key = _KEYS.get(found.group(), "")
                if key == "\x04" and self._at >= len(self._line):
                    key = ""  # Delete is no end of input
                if not key:
                    continue
            else:
                at += 1
            if key == "\n" and self._last_return:
                self._last_return = False
                continue
            self._last_return = key == "\r"
            self._key(key, events)
        return events

    def _key(self, key: str, events: list[Event]) -> None:
        line = self._line
        match key:
            case "\r" | "\n":
                self._enter(events)
            case "\x03":
                if self._stale:
                    self._draw()
                self._echo.append("^C\r\n")
                self._clear()
                events.append(Interrupt())
            case "\x04":
                if not line:
                    events.append(End())
                elif self._at < len(line):
                    del line[self._at]
                    self._redraw()
            case "\x7f" | "\b":
                if self._at:
                    self._at -= 1
                    del line[self._at]
                    self._redraw()
            case "\x15" | "\x17":
                start = 0 if key == "\x15" else self._word_start()
                del line[start : self._at]
                self._at = start
                self._redraw()
            case "\x0b":
                del line[self._at :]
                self._redraw()
            case "\x01" | "\x05" | "\x02" | "\x06":
                moved = {"\x01": 0, "\x05": len(line), "\x02": self._at - 1, "\x06": self._at + 1}[key]
                self._at = min(max(0, moved), len(line))
                self._redraw()
            case "\x10" | "\x0e":
                self._recall(1 if key == "\x10" else -1)
            case "\x0c":
                self._echo.append("\x1b[H\x1b[2J")
                self._redraw()
            case _:
                self._insert(key)

    def _insert(self, key: str) -> None:
        if key == "\t":
            key = " "
        if not key.isprintable() or len(self._line) >= MAX_LINE:
            self._echo.append(BELL)
            return
        self._line.insert(self._at, key)
        self._at += 1
        if not self._stale and self._at == len(self._line) < self._room and self._room > _width(self._line):
            self._echo.append(key)
        else:
            self._redraw()

    def _enter(self, events: list[Event]) -> None:
        text = "".join(self._line)
        if self._stale:
            self._draw()
        self._echo.append("\r\n")
        self._clear()
        if text.strip() and text not in self._history[-1:]:
            self._history.append(text)
            del self._history[:-MAX_HISTORY]
        events.append(Line(text))

    def _clear(self) -> None:
        self._line, self._at, self._back = [], 0, 0

    def _recall(self, step: int) -> None:
        back = self._back + step
        if not 0 <= back <= len(self._history):
            self._echo.append(BELL)
            return
        self._back = back
        self._line = list(self._history[-back]) if back else []
        self._at = len(self._line)
        self._redraw()

    def _word_start(self) -> int:
        at = self._at
        while at and self._line[at - 1] == " ":
            at -= 1
        while at and self._line[at - 1] != " ":
            at -= 1
        return at

    @property
    def _room(self) -> int:
        return max(8, min(self.columns, MAX_COLUMNS) - _width(self.prompt) - 1)

    def _redraw(self) -> None:
        """Draw the line again before its next echo is taken: once for all keys until then."""
        self._stale = True

    def _draw(self) -> None:
        """One row: of a long line, the part around the cursor. Takes as long as the row is, not the line."""
        self._stale = False
        line, room = self._line, self._room
        start = end = self._at
        width = 0
        while start and self._at - start < 2 * room and (more := width + _columns(line[start - 1])) < room:
            start, width = start - 1, more
        while end < len(line) and end - self._at < 2 * room and (more := width + _columns(line[end])) <= room:
            end, width = end + 1, more
        behind = _width(line[self._at : end])
        shown = "".join(line[start:end])
        self._echo.append(f"\r{self.prompt}{shown}\x1b[K" + (f"\x1b[{behind}D" if behind else ""))


def _width(text: str | list[str]) -> int:
    """Columns that a terminal takes for it."""
    return sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(each: str) -> int:
    return 0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
