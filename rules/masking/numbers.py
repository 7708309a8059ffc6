"""JSON numbers that a double or a 64-bit integer cannot hold keep the text they came in."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

import orjson
import re2

_LONGEST_INT: Final = 4000  # digits; the interpreter refuses to convert more than 4300

# Numbers that orjson may change: 19 digits or more in a row, 17 characters and more with a point in them, or an exponent.
_LONGEST_MATCH: Final = re2.Options()
_LONGEST_MATCH.longest_match = True
_SUSPECT: Final = re2.compile(
    rb"[:,\[\s](-?(?:[0-9]{19,}|[0-9][0-9.]{16,}|[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+))",
    _LONGEST_MATCH,
)


class Number(float):
    """A number with the text that it was written in; compares as a float."""

    text: str

    def __new__(cls, text: str) -> Number:
        self = super().__new__(cls, text.replace("Infinity", "inf"))
        self.text = text
        return self


def parse_int(text: str) -> int | Number:
    return int(text) if len(text) <= _LONGEST_INT else Number(text)


def parse_float(text: str) -> float:
    value = float(text)
    return value if repr(value) == text else Number(text)


def changes(text: str) -> bool:
    """Whether orjson's reading of this number is another value than the text names."""
    if text.lstrip("-").isdigit():
        return len(text) > 20 or not -(2**63) <= int(text) < 2**64
    try:
        return Decimal(text) != Decimal(repr(float(text)))
    except ArithmeticError:
        return True


def any_changes(data: bytes) -> bool:
    """Whether a document (one that orjson accepts) holds a number whose value would change by rewriting it.

    Digits inside of strings may be taken for numbers: that costs time, never exactness.
    """
    return any(changes(match.group(1).decode()) for match in _SUSPECT.finditer(data))


def canonical(value: Any) -> str:
    """The text of a JSON value that is not a string: what `hash` and `partial` work on, and what detectors see of numbers."""
    if isinstance(value, Number):
        return value.text
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except (TypeError, orjson.JSONEncodeError):  # integers beyond 64 bits, lone surrogates, very deep
        try:
            return json.dumps(value, sort_keys=True, separators=(",", ":"))
        except (RecursionError, ValueError):
            return type(value).__name__
