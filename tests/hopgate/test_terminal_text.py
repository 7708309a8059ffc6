"""What a terminal may be sent: every sequence that does more than show is left out, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopgate.terminal_text import RESET, TerminalText

PASSES = [
    "plain",
    "tab\tline\r\nback\b",
    "données 日本 \u3000 🙂\u200d🙂",
    "\x1b[31mred\x1b[0m",
    "\x1b[1;38;5;200m\x1b[38:2::1:2:3m",
    "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b[5G",
    "\x1b[?25l\x1b[?1049h\x1b[?7l\x1b[?25;7h",
    "\x1b7\x1b8\x1bM\x1bD\x1bE",
    "\x1b(0lqk\x1b(B",
    "\x0elqk\x0f",
    "\x1b[1;20r\x1b[2S\x1b[2T\x1b[4L\x1b[4M\x1b[4P\x1b[4@\x1b[4X",
    RESET,
]
CUT = [
    ("\x1b]52;c;ZXZpbA==\x07x", "x"),
    ("\x1b]0;title\x1b\\x", "x"),
    ("\x1b]8;;http://x\x1b\\link", "link"),
    ("\x1b]0;never ends", ""),
    ("\x1bPq#0;2\x1b\\x", "x"),
    ("\x1b_G\x1b\\x\x1b^y\x1b\\z\x1bXs\x1b\\", "xz"),
    ("\x1b]x\x1by\x1b\\z", "z"),
    ("\x1b[c\x1b[>c\x1b[6n\x1b[5n\x1b[?6n", ""),
    ("\x1b[14t\x1b[21t\x1b[8;1;1t", ""),
    ("\x1b[5i\x1b[?5i", ""),
    ("\x1b[?1000h\x1b[?1006h\x1b[?1004h\x1b[4h\x1b[20h", ""),
    ("\x1b[?25;1000h", ""),
    ("\x1b[>4;2m\x1b[?4m\x1b[=1;1u\x1b[>1u", ""),
    ("\x1b[!p\x1b[1 q\x1b[0\"q\x1b[1$r", ""),
    ("\x1b[1;2;3;4;5T", ""),
    ("\x1b[99999A\x1b[9999999999999b\x1b[3b", ""),
    ("\x1b[" + "1;" * 200 + "m", ""),
    ("\x1bc\x1b#8\x1b=\x1b>\x1bZ\x1b%G\x1bn\x1b|", ""),
    ("\x1b[3\x184x", "4x"),
    ("\x1b[3\x1b[1mx", "\x1b[1mx"),
    ("\x1b[3日mx", "mx"),
    ("\x07\x00\x05\x11\x7f\x85\x9b31mx\x90y", "31mxy"),
    ("a\u202eb\u2066c\u200bd\ufefff\u2028g\ud800", "abcdfg"),
    ("\x1b(1x\x1b)\x1b[1m", "x\x1b[1m"),
]  # fmt: skip


@pytest.mark.parametrize("text", PASSES)
def test_what_passes(text: str) -> None:
    whole, pieces = TerminalText(), TerminalText()
    assert whole.feed(text) == text
    assert "".join(pieces.feed(character) for character in text) == text


@pytest.mark.parametrize(("text", "shown"), CUT)
def test_what_does_not(text: str, shown: str) -> None:
    whole, pieces = TerminalText(), TerminalText()
    assert whole.feed(text) == shown
    assert "".join(pieces.feed(character) for character in text) == shown


@given(
    st.lists(st.sampled_from(["\x1b", "[", "]", "P", "\\", "\x07", "\x9b", "?", "1", ";", "m", "h", "c", "n", "t", "(", "0", "x", "\n"]))
)
def test_whatever_comes(characters: list[str]) -> None:
    """What passes once passes again unchanged, however it is cut."""
    text = "".join(characters)
    first = TerminalText().feed(text)
    pieces = TerminalText()
    assert "".join(pieces.feed(each) for each in characters) == first
    assert TerminalText().feed(first) == first
    assert "\x9b" not in first
    assert "\x07" not in first


def test_finish_begins_anew() -> None:
    text = TerminalText()
    text.feed("\x1b]0;x")
    text.finish()
    assert text.feed("y") == "y"
