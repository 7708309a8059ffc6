"""Rows of COPY … TO STDOUT in text format with masked columns replaced (PostgreSQL 18, COPY, Text Format).

Other formats carry no types and other rules of quoting; with masked columns they are refused, and with detectors CSV is looked at
a row at a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from relays.postgres.values import Replace, Value
from relays.wire import RemoteProtocolError
from rules.masking import Plan
from rules.masking.result import Counts
from rules.masking.strategies import Treatment

_NULL: Final = b"\\N"
_SPECIAL: Final = {b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\v": b"\\v", b"\\": b"\\\\"}
_PLAIN: Final = {escape[1:]: character for character, escape in _SPECIAL.items()}
_TO_ESCAPE: Final = re.compile(rb"[\b\f\n\r\t\v\\]")
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)


def text_options(options: Sequence[tuple[str, str]]) -> bool:
    """Whether these options of COPY leave the text format as it is."""
    return all(name == "format" and value == "text" for name, value in options)


def csv_options(options: Sequence[tuple[str, str]]) -> bool:
    return ("format", "csv") in options or ("csv", "true") in options


class CopyMasker:
    """Masks the payloads of CopyData messages of one COPY. `counts`: rule -> values hidden so far."""

    def __init__(self, columns: Sequence[tuple[Treatment, Value | Replace] | None] | None, plan: Plan, *, csv: bool = False) -> None:
        """`columns` is None where none is to be replaced: then rows are only looked through by `plan`. CSV can only be looked through."""
        assert columns is None or not csv
        self._columns = columns
        self._plan = plan
        self._csv = csv
        self.counts: Counts = Counts()

    def feed(self, payload: bytes) -> bytes:
        """One payload, which must be whole rows, as the server sends them. Raises RemoteProtocolError."""
        if not payload:
            return payload
        if not payload.endswith(b"\n"):
            raise RemoteProtocolError("COPY data that is not whole rows cannot be masked")
        if self._columns is None and (self._csv or b"\\" not in payload):
            masked = self._plan.text(payload)
            self.counts.add_all(masked.counts)
            return masked.data
        return b"".join([self._row(row) + b"\n" for row in payload[:-1].split(b"\n")])

    def _row(self, row: bytes) -> bytes:
        fields = row.split(b"\t")
        columns = self._columns if self._columns is not None else [None] * len(fields)
        if len(fields) != len(columns):
            raise RemoteProtocolError("a row of COPY with another number of columns than its statement gives")
        for index, (field, column) in enumerate(zip(fields, columns, strict=True)):
            if field == _NULL:
                continue
            if column is None:
                fields[index] = self._scanned(field)
                continue
            treatment, replacement = column
            self.counts.add(treatment.rule)
            value = replacement(unescaped(field)) if callable(replacement) else replacement
            fields[index] = _NULL if value is None else escaped(value)
        return b"\t".join(fields)

    def _scanned(self, field: bytes) -> bytes:
        if self._plan.empty:
            return field
        value = unescaped(field) if b"\\" in field else field
        masked = self._plan.text(value)
        if masked.data is value:
            return field
        self.counts.add_all(masked.counts)
        return escaped(masked.data)


def escaped(value: bytes) -> bytes:
    """A value as COPY's text format writes it."""
    return _TO_ESCAPE.sub(lambda match: _SPECIAL[match.group()], value)


def unescaped(field: bytes) -> bytes:
    """What a field of COPY's text format stands for. The server writes no octal or hexadecimal escapes."""
    return _ESCAPED.sub(lambda match: _plain(match.group(1)), field) if b"\\" in field else field


def _plain(character: bytes, known: Mapping[bytes, bytes] = _PLAIN) -> bytes:
    return known.get(character, character)
