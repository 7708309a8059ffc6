"""What stands for a masked value: valid for its type in both formats, or NULL."""

from __future__ import annotations

import struct

import orjson
import pytest

from relays.postgres.values import BINARY, TEXT, replacement, shown
from rules.masking.strategies import Treatment

REDACT, NULL = Treatment("r"), Treatment("r", "null")
HASH, PARTIAL = Treatment("r", "hash", hash_key=b"k"), Treatment("r", "partial", 4)


def fixed(value: str) -> Treatment:
    return Treatment("r", "fixed", value=value)


CONSTANT = [
    (REDACT, 25, TEXT, b"[redacted]"),
    (REDACT, 1043, BINARY, b"[redacted]"),
    (REDACT, 23, TEXT, None),
    (REDACT, 2950, BINARY, None),
    (REDACT, 114, TEXT, b'"[redacted]"'),
    (REDACT, 3802, BINARY, b'\x01"[redacted]"'),
    (REDACT, 17, BINARY, b"[redacted]"),
    (REDACT, 17, TEXT, b"\\x5b72656461637465645d"),
    (REDACT, 99999, TEXT, None),
    (REDACT, 1009, BINARY, None),
    (NULL, 25, TEXT, None),
    (REDACT, 25, 7, None),
    (HASH, 20, TEXT, None),
    (PARTIAL, 1700, BINARY, None),
    (fixed("7"), 23, TEXT, b"7"),
    (fixed("7"), 23, BINARY, struct.pack("!i", 7)),
    (fixed("7"), 21, BINARY, struct.pack("!h", 7)),
    (fixed("70000"), 21, BINARY, None),
    (fixed("x"), 23, TEXT, None),
    (fixed("1.5"), 701, BINARY, struct.pack("!d", 1.5)),
    (fixed("nan"), 701, TEXT, None),
    (fixed("t"), 16, BINARY, b"\x01"),
    (fixed("false"), 16, TEXT, b"f"),
    (fixed("12.50"), 1700, TEXT, b"12.50"),
    (fixed("1e999"), 1700, TEXT, None),
    (fixed("00000000-0000-0000-0000-000000000000"), 2950, BINARY, bytes(16)),
    (fixed("a\0b"), 25, TEXT, b"ab"),
]


@pytest.mark.parametrize(("treatment", "kind", "format", "expected"), CONSTANT)
def test_the_same_for_all_values(treatment: Treatment, kind: int, format: int, expected: bytes | None) -> None:
    assert replacement(treatment, kind, format) == expected


@pytest.mark.parametrize("value", ["x", "", "0123456789", "жжжж-жжжж-1234", "78-05-1120"])
@pytest.mark.parametrize("treatment", [HASH, PARTIAL], ids=["hash", "partial"])
def test_a_function_of_each_value_is_the_strategy(treatment: Treatment, value: str) -> None:
    replace = replacement(treatment, 25, TEXT)
    assert callable(replace)
    assert replace(value.encode()) == treatment.of_text(value).encode()


def test_json_stays_json() -> None:
    for kind, format, prefix in ((114, TEXT, b""), (3802, BINARY, b"\x01")):
        replace = replacement(PARTIAL, kind, format)
        assert callable(replace)
        for document in ('"0123456789"', "{}", "12345678", "not json"):
            masked = replace(prefix + document.encode())
            assert masked is not None
            assert masked.startswith(prefix)
            assert isinstance(orjson.loads(masked[len(prefix) :]), str)


def test_types_of_the_server_that_are_text() -> None:
    assert replacement(REDACT, 99999, BINARY, frozenset({99999})) == b"[redacted]"


SHOWN = [
    (20, BINARY, struct.pack("!q", -5), b"-5"),
    (1700, BINARY, struct.pack("!hhHh3h", 3, 1, 0, 2, 12, 3456, 7800), b"123456.78"),
    (1700, BINARY, struct.pack("!hhHhh", 1, 3, 0x4000, 0, 4111), b"-4111000000000000"),
    (1700, BINARY, b"\0", b"\0"),
    (17, TEXT, b"\\x6162", b"ab"),
    (17, TEXT, b"\\xzz", b"\\xzz"),
    (25, TEXT, b"a", b"a"),
]


@pytest.mark.parametrize(("kind", "format", "value", "expected"), SHOWN)
def test_what_detectors_look_at(kind: int, format: int, value: bytes, expected: bytes) -> None:
    assert shown(kind, format, value) == expected
