"""What a terminal may be sent of text that somebody else's program wrote: what prints, moves the cursor, colours or erases. Nothing else.

A terminal does much more on request: it sets the clipboard (OSC 52) and its title, answers questions as if they had been typed, loads
fonts, prints. So a sequence passes only when it is in a table here. Source: ECMA-48; xterm's control sequences (ctlseqs).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_SEQUENCE: Final = 128  # characters of one control sequence; a longer one is dropped
MAX_PARAMETER: Final = 9999

# final bytes of CSI sequences without an intermediate byte: cursor (A-I, Z, `, a, d, e, f, s, u), erase and shift (J-M, P, X, @), scroll
# (S, T, r), tabs (g), colours (m)
_CSI: Final = frozenset("ABCDEFGHIJKLMPSTXZ@`adefgmrsu")
_PRIVATE: Final = frozenset({"25", "7", "1049", "1047", "47", "2004"})  # cursor, wrap, other screen; 2004 has no effect on what is shown
_ESC: Final = frozenset("78DEM")  # save and restore the cursor, index, next line, reverse index
_CHARSETS: Final = re.compile(r"[()][0AB]")
_PARAMETERS: Final = re.compile(r"[0-9;:]*")
_CONTROLS: Final = "\b\t\n\r\x0e\x0f"  # SO and SI choose between the two character sets
_STRINGS: Final = "PX]^_"  # DCS, SOS, OSC, PM, APC: until ST, or BEL
_PLAIN: Final = re.compile(r"[\x20-\x7e\n\r\t]*")
# every attribute, character set, mode and region as it was
RESET: Final = "\x1b[0m\x1b(B\x0f\x1b[?7h\x1b[?25h\x1b[r"

_TEXT, _ESCAPE, _CHARSET, _SEQUENCE, _STRING, _STRING_ESCAPE = range(6)


class TerminalText:
    """feed(text) -> what of it may be shown. Keeps a sequence that is cut off between two pieces; `finish` drops it."""

    def __init__(self) -> None:
        self._state = _TEXT
        self._held = ""

    def feed(self, text: str) -> str:
        if self._state == _TEXT and _PLAIN.fullmatch(text):
            return text
        out: list[str] = []
        for character in text:
            self._one(character, out)
        return "".join(out)

    def finish(self) -> None:
        """What comes next is another text."""
        self._state, self._held = _TEXT, ""

    def _one(self, character: str, out: list[str]) -> None:
        if character == "\x1b" and self._state != _STRING:
            self._state, self._held = _ESCAPE, ""
        elif character in "\x18\x1a" and self._state != _TEXT:  # CAN and SUB abandon a sequence
            self._state = _TEXT
        elif self._state == _TEXT:
            if character in _CONTROLS or shows(character):
                out.append(character)
        elif self._state == _ESCAPE:
            self._escape(character, out)
        elif self._state == _CHARSET:
            if _CHARSETS.fullmatch(self._held + character):
                out.append(f"\x1b{self._held}{character}")
            self._state = _TEXT
        elif self._state == _SEQUENCE:
            self._sequence(character, out)
        elif self._state == _STRING:
            self._state = _STRING_ESCAPE if character == "\x1b" else _TEXT if character in "\x07\x9c" else _STRING
        else:
            self._state = _TEXT if character == "\\" else _STRING

    def _escape(self, character: str, out: list[str]) -> None:
        self._state = _TEXT
        if character == "[":
            self._state = _SEQUENCE
        elif character in _STRINGS:
            self._state = _STRING
        elif "\x20" <= character <= "\x2f":
            self._state, self._held = _CHARSET, character
        elif character in _ESC:
            out.append(f"\x1b{character}")

    def _sequence(self, character: str, out: list[str]) -> None:
        if "\x20" <= character <= "\x3f":
            if len(self._held) < MAX_SEQUENCE:
                self._held += character
            return
        self._state = _TEXT
        if "\x40" <= character <= "\x7e" and _permitted(self._held, character):
            out.append(f"\x1b[{self._held}{character}")


def shows(character: str) -> bool:
    """Whether a character does nothing but show: no control, and nothing that reorders or hides others."""
    category = unicodedata.category(character)
    return category not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character == "\u200d"  # which joins emoji


def _permitted(parameters: str, final: str) -> bool:
    if len(parameters) >= MAX_SEQUENCE:
        return False
    if final in "hl" and parameters[:1] == "?":
        return set(parameters[1:].split(";")) <= _PRIVATE
    if final not in _CSI or not _PARAMETERS.fullmatch(parameters):
        return False
    if final == "T" and ";" in parameters:  # tracks the mouse
        return False
    return all(int(number or 0) <= MAX_PARAMETER for number in re.split("[;:]", parameters))
