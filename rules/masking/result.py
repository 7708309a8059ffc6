"""What masking gives back, and what it says when it cannot hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Unmaskable(ValueError):
    """Masks are in force and cannot be applied for certain, so nothing of the body may pass. Quotes no data."""


class Masked(NamedTuple):
    """A body after masking. `counts` says how many values each rule hid; injected secrets count as `credential`."""

    data: bytes
    counts: Mapping[str, int]


class Counts(dict[str, int]):
    """Rule id -> values hidden; counted while a body is masked."""

    def add(self, rule: str, count: int = 1) -> None:
        self[rule] = self.get(rule, 0) + count

    def add_all(self, counts: Mapping[str, int]) -> None:
        for rule, count in counts.items():
            self.add(rule, count)
