"""Search for byte strings in everything that passes. `rules.masking._needles` does the same, compiled; both run under the same tests."""

from __future__ import annotations

from collections.abc import Iterable


class Needles:
    """Search for any of some byte strings, each two bytes long at least."""

    quick = False  # than RE2, for many needles

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._needles = tuple(needles)
        if any(len(needle) < 2 for needle in self._needles):
            raise ValueError("a needle has two bytes at least")

    def found_in(self, data: bytes) -> bool:
        """Whether one of them occurs."""
        return any(needle in data for needle in self._needles)


def holds_byte(data: bytes, wanted: bytes) -> bool:
    """Whether any of these bytes occurs. (`in` with a byte string first makes an error to say that it is no number.)"""
    return any(byte in data for byte in wanted)
