"""Bound values as rules see them: `params`, in order. None is NULL, UNKNOWN what cannot be decoded for certain.

Rules compare values, not spellings: what the server takes for the same value must be the same here, in text and in binary format.
Numbers are numbers and truth values are booleans; text is itself; UUIDs, JSON, dates, times and addresses are text in one form
(`2026-05-01`, `2026-05-01 12:00:00`, with time zone in UTC: `2026-05-01 10:00:00+00:00`; JSON without spaces, keys sorted).
A spelling that depends on the session's settings, or that is not read here, is UNKNOWN.
"""

from __future__ import annotations

import datetime
import ipaddress
import math
import re
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import orjson

from relays.postgres.codec import Bind
from rules.model import UNKNOWN

BOOL, BYTEA, CHAR, NAME, INT8, INT2, INT4, TEXT, OID, JSON, XML = 16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142
FLOAT4, FLOAT8, CIDR, INET, BPCHAR, VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID, JSONB = (
    *(700, 701, 650, 869, 1042, 1043, 1082, 1083, 1114, 1184),
    *(1700, 2950, 3802),
)

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?", re.ASCII)
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_EPOCH: Final = datetime.datetime(2000, 1, 1)  # of the server's binary dates and times
_NAME_BYTES: Final = 63  # NAMEDATALEN - 1: the server cuts longer ones
_SPACE: Final = " \t\n\r\v\f"  # what the server's input functions skip around a value
_MAX_SHOWN: Final = 64 << 10  # bytes of JSON that are put into one form
_BOOLS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"), True),
    **dict.fromkeys(("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"), False),
}

type Reader = Callable[[bytes], Any]  # raises ValueError or struct.error


def _text(read: Callable[[str], Any]) -> Reader:
    return lambda value: read(value.decode())


def _bool(text: str) -> Any:
    return _BOOLS.get(text.strip(_SPACE).lower(), UNKNOWN)


def _int(text: str) -> Any:
    stripped = text.strip(_SPACE)
    return int(stripped) if _INTEGER.fullmatch(stripped) else UNKNOWN


def _float(text: str) -> Any:
    stripped = text.strip(_SPACE)
    return _number(stripped) if len(stripped) <= 64 and _NUMBER.fullmatch(stripped) else UNKNOWN


def _number(text: str) -> Any:
    """Only where a float holds all of it: an allow on 13 is none on 13.00000000000000001."""
    found = float(text)
    return found if math.isfinite(found) and Decimal(repr(found)) == Decimal(text) else UNKNOWN


def _finite(found: float) -> Any:
    return found if math.isfinite(found) else UNKNOWN  # for the server NaN is greater than any number


def _str(text: str) -> Any:
    return text


def _untyped(text: str) -> Any:
    """The server chooses the type: what could as well be a number or a truth value is not known to be text."""
    stripped = text.strip(_SPACE)
    return UNKNOWN if _NUMBER.fullmatch(stripped) or stripped.lower() in _BOOLS else text


def _name(text: str) -> Any:
    return text if len(text.encode()) <= _NAME_BYTES else UNKNOWN


def _padded(text: str) -> Any:
    return text.rstrip(" ")  # what character(n) compares


def _uuid(text: str) -> Any:
    return str(uuid.UUID(text.strip("{}"))) if text.isascii() else UNKNOWN


def _json(value: bytes) -> Any:
    return orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS).decode() if len(value) <= _MAX_SHOWN else UNKNOWN


def _jsonb(value: bytes) -> Any:
    return _json(value[1:]) if value[:1] == b"\x01" else UNKNOWN


def _date(text: str) -> Any:
    stripped = text.strip(_SPACE)
    return datetime.date.fromisoformat(stripped).isoformat() if _DATE.fullmatch(stripped) else UNKNOWN


def _time(text: str) -> Any:
    stripped = text.strip(_SPACE)
    return datetime.time.fromisoformat(_microseconds(stripped)).isoformat() if _TIME.fullmatch(stripped) else UNKNOWN


def _timestamp(text: str) -> Any:
    found = _STAMP.fullmatch(text.strip(_SPACE))
    # without time zone the server ignores one that is there
    return _stamp(datetime.datetime.fromisoformat(f"{found[1]} {_microseconds(found[2])}")) if found else UNKNOWN


def _timestamptz(text: str) -> Any:
    found = _STAMP.fullmatch(text.strip(_SPACE))
    if not found or not found[3]:
        return UNKNOWN  # the session's TimeZone decides
    zone = "+00" if found[3] == "Z" else found[3]
    return _stamp(datetime.datetime.fromisoformat(f"{found[1]} {_microseconds(found[2])}{zone}").astimezone(datetime.UTC))


def _microseconds(clock: str) -> str:
    if clock.startswith("24"):
        raise ValueError("the end of a day")
    whole, point, fraction = clock.partition(".")
    return f"{whole}.{fraction:0<6}" if point else whole


def _stamp(when: datetime.datetime) -> str:
    return when.isoformat(" ")


def _address(text: str) -> Any:
    return str(ipaddress.ip_interface(text.strip(_SPACE))).removesuffix("/32").removesuffix("/128")


# --- binary formats (the *_send functions of the server)


def _packed(format: str) -> Reader:
    unpack = struct.Struct(format).unpack
    return lambda value: unpack(value)[0]


def _binary_date(value: bytes) -> Any:
    return (_EPOCH.date() + datetime.timedelta(days=struct.unpack("!i", value)[0])).isoformat()


def _binary_time(value: bytes) -> Any:
    since = _since(value)
    return (_EPOCH + since).time().isoformat() if datetime.timedelta(0) <= since < datetime.timedelta(days=1) else UNKNOWN


def _binary_timestamp(value: bytes) -> Any:
    return _stamp(_EPOCH + _since(value))


def _binary_timestamptz(value: bytes) -> Any:
    return _stamp((_EPOCH + _since(value)).replace(tzinfo=datetime.UTC))


def _since(value: bytes) -> datetime.timedelta:
    return datetime.timedelta(microseconds=struct.unpack("!q", value)[0])


def _binary_numeric(value: bytes) -> Any:
    """numeric_send: digits in base 10,000, weight of the first, sign, digits behind the point."""
    count, weight, sign, _ = struct.unpack_from("!hhHh", value)
    digits = struct.unpack(f"!{count}h", value[8:])
    if sign not in (0, 0x4000) or not -100 <= weight <= 100 or any(not 0 <= digit < 10_000 for digit in digits):
        return UNKNOWN
    whole = "".join(f"{digit:04}" for digit in digits) or "0"
    return _number(f"{'-' if sign else ''}{whole}e{4 * (weight - count + 1)}")


def _binary_address(value: bytes) -> Any:
    family, bits, _, size = struct.unpack_from("!BBBB", value)
    if (family, size, len(value)) not in ((2, 4, 8), (3, 16, 20)):
        return UNKNOWN
    return _address(f"{ipaddress.ip_address(value[4:])}/{bits}")


_TEXT: Final[Mapping[int, Reader]] = {
    0: _text(_untyped),
    BOOL: _text(_bool),
    **dict.fromkeys((INT8, INT2, INT4, OID), _text(_int)),
    **dict.fromkeys((FLOAT4, FLOAT8, NUMERIC), _text(_float)),
    **dict.fromkeys((TEXT, VARCHAR), _text(_str)),
    NAME: _text(_name),
    BPCHAR: _text(_padded),
    UUID: _text(_uuid),
    **dict.fromkeys((JSON, JSONB), _json),
    DATE: _text(_date),
    TIME: _text(_time),
    TIMESTAMP: _text(_timestamp),
    TIMESTAMPTZ: _text(_timestamptz),
    **dict.fromkeys((INET, CIDR), _text(_address)),
}
_BINARY: Final[Mapping[int, Reader]] = {
    BOOL: _packed("!?"),
    INT8: _packed("!q"),
    INT2: _packed("!h"),
    INT4: _packed("!i"),
    OID: _packed("!I"),
    FLOAT4: lambda value: _finite(struct.unpack("!f", value)[0]),
    FLOAT8: lambda value: _finite(struct.unpack("!d", value)[0]),
    NUMERIC: _binary_numeric,
    **dict.fromkeys((TEXT, VARCHAR), _text(_str)),
    NAME: _text(_name),
    BPCHAR: _text(_padded),
    UUID: lambda value: str(uuid.UUID(bytes=value)),
    JSON: _json,
    JSONB: _jsonb,
    DATE: _binary_date,
    TIME: _binary_time,
    TIMESTAMP: _binary_timestamp,
    TIMESTAMPTZ: _binary_timestamptz,
    **dict.fromkeys((INET, CIDR), _binary_address),
}


def decode(bind: Bind, types: Sequence[int], *, utf8: bool = True) -> tuple[Any, ...]:
    """The values of a Bind message, for parameters of these types (OIDs; 0 and missing ones are not known).

    Without `utf8` the client writes another encoding: of its texts only ASCII is known.
    """
    found = tuple(
        None if each is None else value(each, types[index] if index < len(types) else 0, bind.format_of(index))
        for index, each in enumerate(bind.values)
    )
    return found if utf8 else tuple(UNKNOWN if isinstance(each, str) and not each.isascii() else each for each in found)


def value(raw: bytes, kind: int, format: int) -> Any:
    """One value of a type (its OID) in text (0) or binary (1) format; UNKNOWN where that is not certain."""
    reader = (_BINARY if format else _TEXT).get(kind)
    try:
        return UNKNOWN if reader is None else reader(raw)
    except (ValueError, struct.error, OverflowError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return UNKNOWN


def shown(raw: bytes, kind: int, format: int) -> str:
    """One value for people, whether rules know it or not: as it was sent, or as what its binary format says; else in hexadecimal."""
    if format == 0:
        return raw[:_MAX_SHOWN].decode("utf-8", "backslashreplace")
    found = value(raw, kind, 1)
    if found is UNKNOWN:
        found = _array(raw)
    return f"\\x{raw[:512].hex()}" if found is UNKNOWN else str(found)


def _array(raw: bytes) -> Any:
    """A binary array of one dimension as the server writes it (array_send): `{1,2}`; UNKNOWN for what is none."""
    try:
        dimensions, _, kind, length, _ = struct.unpack_from("!iiIii", raw)
        if dimensions != 1 or not 0 <= length <= 1000 or kind not in _BINARY:
            return UNKNOWN
        at, found = 20, []
        for _ in range(length):
            (size,) = struct.unpack_from("!i", raw, at)
            at += 4
            one = "NULL" if size < 0 else value(raw[at : at + size], kind, 1)
            if one is UNKNOWN:
                return UNKNOWN
            found.append(str(one))
            at += max(size, 0)
    except struct.error:
        return UNKNOWN
    return "{" + ",".join(found) + "}" if at == len(raw) else UNKNOWN
