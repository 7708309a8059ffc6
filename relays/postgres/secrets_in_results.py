"""Credentials that the gateway injected do not come back, with or without a rule: what to do where one is seen in a result."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from relays.postgres.codec import HEADER, Report
from relays.postgres.masked_rows import RowMasker
from rules.masking import compile_plan
from rules.masking.literals import literals_of

_TEXT: Final = 25  # OID
_SAFE: Final = frozenset(b"SVCR")  # fields of a report that name severities, codes and routines


@lru_cache(maxsize=64)  # sessions on one connection have the same
def secrets_of(secrets: tuple[bytes, ...]) -> Secrets:
    """The spellings of these secrets."""
    return Secrets(secrets)


class Secrets:
    """The spellings of a session's injected secrets."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._literals = literals_of(secrets)
        self._plan = compile_plan((), secrets=secrets)
        self.found_in = self._literals.found_in

    def __bool__(self) -> bool:
        return bool(self._literals)

    def rows(self, data: bytes, at: int) -> RowMasker:
        """What hides them in the rows that begin at `at`: every column is taken for text."""
        width = int.from_bytes(data[at + HEADER : at + HEADER + 2], "big")
        return RowMasker([None] * width, [(_TEXT, 0)] * width, self._plan)

    def text(self, data: bytes) -> bytes:
        return self._plan.text(data).data

    def report(self, report: Report) -> Report:
        """An error or notice without them."""
        return Report(tuple((letter, value if letter[0] in _SAFE else self.text(value)) for letter, value in report.fields))
