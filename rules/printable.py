"""Text from outside, with what would move a cursor or reorder a line made visible."""

from __future__ import annotations


def visible(text: str) -> str:
    """`text` with every character that does not print (controls, bidirectional marks, lone surrogates) as an escape."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
