"""Bound values as rules see them: one value is the same in every spelling and format that the server takes it in."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import uuid
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Json, Jsonb

from playground.postgres import Postgres
from relays.postgres import params, recorded
from relays.postgres.codec import Bind
from rules.model import UNKNOWN

SOME = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        (params.BOOL, ["t", "TRUE", " yes ", "on", "1", "tru"], True),
        (params.BOOL, ["f", "No", "off", "0", "fals"], False),
        (params.BOOL, ["o", "2", "", "wahr"], UNKNOWN),
        (params.INT4, ["13", " 13 ", "+13", "0013"], 13),
        (params.INT8, ["-5"], -5),
        (params.INT4, ["0x0d", "1_3", "13.0", "١٣", "", "9" * 41], UNKNOWN),
        (params.NUMERIC, ["13", "13.0", "1.3e1", " 0013.000", "+13."], 13),
        (params.FLOAT8, [".5", "5e-1", "0.50"], 0.5),
        (params.NUMERIC, ["NaN", "Infinity", "1e999", "13.00000000000000000001", "0x0d", "1" * 65], UNKNOWN),
        (params.TEXT, ["13"], "13"),
        (params.TEXT, [" x "], " x "),
        (0, ["x"], "x"),
        (0, ["13", "t", " 1e3 ", "off"], UNKNOWN),
        (params.BPCHAR, ["ab", "ab   "], "ab"),
        (params.NAME, ["x" * 63], "x" * 63),
        (params.NAME, ["x" * 64], UNKNOWN),
        (params.UUID, [SOME, "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"], SOME),
        (params.UUID, ["", "no uuid"], UNKNOWN),
        (params.JSONB, ['{"b": 1, "a": "\\u0078"}', '{"a":"x","b":1}'], '{"a":"x","b":1}'),
        (params.JSON, ["{", ""], UNKNOWN),
        (params.DATE, ["2026-05-01", " 2026-05-01"], "2026-05-01"),
        (params.DATE, ["05/01/2026", "today", "20260501", "2026-13-01", "2026-05-01 BC"], UNKNOWN),
        (params.TIME, ["12:00", "12:00:00", "12:00:00.000"], "12:00:00"),
        (params.TIME, ["24:00", "12:00 PM", "120000", "12:00:61"], UNKNOWN),
        (params.TIMESTAMP, ["2026-05-01 12:00", "2026-05-01T12:00:00", "2026-05-01 12:00:00+05"], "2026-05-01 12:00:00"),
        (params.TIMESTAMP, ["now", "2026-05-01", "May 1 2026", "2026-05-01 24:00:00"], UNKNOWN),
        (params.TIMESTAMPTZ, ["2026-05-01 12:00:00+02", "2026-05-01 10:00:00Z", "2026-05-01T15:30+0530"], "2026-05-01 10:00:00+00:00"),
        (params.TIMESTAMPTZ, ["2026-05-01 12:00:00", "2026-05-01 12:00 Europe/Berlin"], UNKNOWN),
        (params.INET, ["10.0.0.1", "10.0.0.1/32"], "10.0.0.1"),
        (params.INET, ["10.0.0.1/24"], "10.0.0.1/24"),
        (params.CIDR, ["10.1", "x"], UNKNOWN),
        (params.BYTEA, ["\\x00"], UNKNOWN),
        (16500, ["x"], UNKNOWN),  # a type of the database's own
    ],
)  # fmt: skip
def test_text(kind: int, texts: list[str], expected: Any) -> None:
    for text in texts:
        found = params.value(text.encode(), kind, 0)
        assert found == expected, text
        assert type(found) is type(expected) or not isinstance(expected, bool), text


VALUES = [
    True, False, 0, 13, -1, 32767, 2**31 - 1, -(2**63),
    0.5, -1e300, decimal.Decimal("13.50"), decimal.Decimal("-0.001"), decimal.Decimal("1234567890123"), decimal.Decimal(0),
    "text", "ü", "", uuid.UUID(SOME),
    datetime.date(2026, 5, 1), datetime.date(1969, 12, 31), datetime.time(12, 30, 1, 5000), datetime.datetime(2026, 5, 1, 12, 0, 0, 500),
    datetime.datetime(1999, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fe80::1"), ipaddress.ip_interface("10.0.0.1/24"),
    ipaddress.ip_network("10.0.0.0/8"),
]  # fmt: skip


@pytest.mark.peer
def test_a_real_driver_says_the_same_in_both_formats(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        for value in (*VALUES, Json({"b": [1], "a": "x"}), Jsonb({"b": [1], "a": "x"})):
            seen = []
            for format in (psycopg.adapt.PyFormat.TEXT, psycopg.adapt.PyFormat.BINARY):
                transformer = psycopg.adapt.Transformer(connection)
                (data,) = transformer.dump_sequence([value], [format])
                assert data is not None
                kind = transformer.types[0] or params.TEXT  # psycopg leaves str to the server
                seen.append(params.value(bytes(data), kind, 0 if format is psycopg.adapt.PyFormat.TEXT else 1))
            assert seen[0] == seen[1] != UNKNOWN, (value, seen)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (params.INT4, b"\0\0\1"),
        (params.INT4, b""),
        (params.FLOAT8, bytes.fromhex("7ff8000000000000")),  # NaN
        (params.FLOAT8, bytes.fromhex("7ff0000000000000")),
        (params.NUMERIC, bytes.fromhex("00000000c0000000")),  # NaN
        (params.NUMERIC, b"\0\2\0\0\0\0\0\0\0\1"),  # a digit is missing
        (params.NUMERIC, b"\0\1\0\0\0\0\0\0\x7f\xff"),  # no digit in base 10,000
        (params.TEXT, b"\xff"),
        (params.DATE, b"\x7f\xff\xff\xff"),  # infinity
        (params.TIMESTAMP, b"\x7f" + b"\xff" * 7),
        (params.TIME, (86_400_000_000).to_bytes(8, "big")),  # 24:00
        (params.JSONB, b"\x02{}"),
        (params.INET, b"\2\x20\0\4\1\2\3"),
        (params.UUID, b"short"),
        (params.BYTEA, b"anything"),
        (1007, b""),  # arrays: rules compare single values
    ],
)
def test_binary_that_is_not_known_for_certain(kind: int, value: bytes) -> None:
    assert params.value(value, kind, 1) is UNKNOWN


@given(st.binary(max_size=40), st.sampled_from([*params._BINARY, 0, 17, 1007, 99999]), st.sampled_from([0, 1]))
def test_noise(noise: bytes, kind: int, format: int) -> None:
    found = params.value(noise, kind, format)
    assert found is UNKNOWN or isinstance(found, bool | int | float | str)
    assert isinstance(params.shown(noise, kind, format), str)


def test_what_people_read() -> None:
    numbers = b"".join(number.to_bytes(4, "big") for number in (1, 0, params.INT4, 2, 1, 4, 7, 4, 8))
    bind = Bind(b"", b"", (1, 1, 1, 0, 1, 0), (b"\0\0\0\x0d", b"\xff\0", numbers, b"a\n-- $9 = 1", None, b"13"))
    types = (params.INT4, params.BYTEA, 1007, params.TEXT)
    assert recorded.values(bind, types) == ["13", "'\\\\xff00'", "'{7,8}'", "'a\\n-- $9 = 1'", "NULL", "'13'"]
    assert recorded.statement(b"SELECT 1", bind, types).split(b"\n") == [
        *(b"SELECT 1", b"-- $1 = 13", b"-- $2 = \\xff00", b"-- $3 = {7,8}", b"-- $4 = a\\n-- $9 = 1", b"-- $5 = NULL", b"-- $6 = 13")
    ]
