"""Rows are walked and masked alike by the twin in Python and by the compiled one, whatever they hold."""

from __future__ import annotations

import os
import struct
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relays.postgres import rows
from relays.wire import RemoteProtocolError
from rules.masking.strategies import Treatment

try:
    from relays.postgres import _frames as compiled
except ImportError:
    compiled = None
    if os.environ.get("HOPGATE_COMPILED"):
        raise

MODULES = [
    pytest.param(rows, id="python"),
    pytest.param(
        compiled,
        id="compiled",
        marks=pytest.mark.skipif(compiled is None, reason="relays.postgres._frames is not built: no Cython or no C compiler"),
    ),
]
both = pytest.mark.parametrize("module", MODULES)
REDACT = rows.wire_form(b"[redacted]")


def data_row(*values: bytes | None) -> bytes:
    body = struct.pack("!h", len(values)) + b"".join(map(rows.wire_form, values))
    return b"D" + struct.pack("!i", len(body) + 4) + body


@both
def test_values_are_replaced_and_the_rest_stays(module: ModuleType) -> None:
    data = data_row(b"1", b"secret", b"x") + data_row(b"2", None, b"") + b"C\0\0\0\x0dSELECT 2\0"
    tallies = [0, 0, 0]
    masked, end = module.mask_rows(data, 0, 3, [None, REDACT, lambda value: value[::-1] or None], tallies)
    assert masked == data_row(b"1", b"[redacted]", b"x") + data_row(b"2", None, None)
    assert data[end:].startswith(b"C")
    assert tallies == [0, 1, 2]


@both
def test_an_incomplete_row_is_left(module: ModuleType) -> None:
    data = data_row(b"secret") * 2
    for cut in range(len(data)):
        masked, end = module.mask_rows(data[:cut], 0, 1, [REDACT], [0])
        complete = cut // (len(data) // 2)
        assert end == complete * len(data) // 2
        assert masked == data_row(b"[redacted]") * complete


@both
def test_starts_where_it_is_told(module: ModuleType) -> None:
    data = b"T\0\0\0\x06\0\0" + data_row(b"a", b"b")
    assert module.skip_rows(data, 7) == (len(data), 1)
    assert module.skip_rows(data, 0) == (0, 0)
    assert module.skip_rows(data, 0, ord("T")) == (7, 1)
    assert module.collect_values(data, 7, 2, (1,)) == (len(data), [(1, b"b")])
    assert module.mask_rows(data, 7, 2, [rows.NULL], [0]) == (data_row(None, b"b"), len(data))


BROKEN = [
    (b"D\0\0\0\x03", "less than"),
    (b"D\xff\xff\xff\xff\0\0", "less than"),
    (b"D\0\0\0\x04", "another number"),
    (b"D\0\0\0\x05\0", "another number"),
    (data_row(b"a", b"b"), "another number"),
    (b"D\0\0\0\x06\0\x01", "ends inside"),
    (b"D\0\0\0\x09\0\x01\0\0\0", "ends inside"),
    (b"D\0\0\0\x0a\0\x01\0\0\0\x01", "longer"),
    (b"D\0\0\0\x0a\0\x01\x7f\xff\xff\xff", "longer"),
    (b"D\0\0\0\x0a\0\x01\xff\xff\xff\xfe", "longer"),
]


@both
@pytest.mark.parametrize(("data", "message"), BROKEN, ids=[data.hex() for data, _ in BROKEN])
def test_what_is_no_row_is_an_error(module: ModuleType, data: bytes, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        module.mask_rows(data, 0, 1, [REDACT], [0])
    with pytest.raises(RemoteProtocolError, match=message):
        module.collect_values(data, 0, 1, (0,))


@both
def test_what_a_replacement_raises_comes_out(module: ModuleType) -> None:
    def fail(value: bytes) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        module.mask_rows(data_row(b"a") * 3, 0, 1, [fail], [0])


@both
def test_rows_that_grow_and_shrink(module: ModuleType) -> None:
    data = data_row(b"", b"x" * 70_000) * 20
    masked, _ = module.mask_rows(data, 0, 2, [lambda _: b"y" * 100_000, rows.wire_form(b"")], [0, 0])
    assert masked == data_row(b"y" * 100_000, b"") * 20


VALUES = st.lists(st.lists(st.none() | st.binary(max_size=12), min_size=3, max_size=3), max_size=6)
ENDINGS = [rows.Ending(b"****", keep, Treatment("r", "partial", keep).of_bytes) for keep in (0, 1, 4)]
ACTIONS = st.lists(st.sampled_from([None, REDACT, rows.NULL, lambda value: None, lambda value: value * 2, *ENDINGS]), max_size=3)


@settings(max_examples=200, deadline=None)
@given(value=st.binary(max_size=20) | st.text(max_size=20).map(str.encode), keep=st.sampled_from([0, 1, 2, 4, 8, 2**40]))
def test_an_ending_is_the_treatment(value: bytes, keep: int) -> None:
    treatment = Treatment("r", "partial", keep)
    ending = rows.Ending(b"****", keep, treatment.of_bytes)
    for module in filter(None, (rows, compiled)):
        masked, _ = module.mask_rows(data_row(b"a", value, None), 0, 3, [None, ending, ending], [0] * 3)
        assert masked == data_row(b"a", treatment.of_bytes(value), None)


@pytest.mark.skipif(compiled is None, reason="relays.postgres._frames is not built: no Cython or no C compiler")
@settings(max_examples=300, deadline=None)
@given(VALUES, ACTIONS, st.binary(max_size=20), st.integers(0, 30), st.integers(0, 200), st.binary(max_size=3))
def test_both_give_the_same(values: Any, actions: Any, tail: bytes, start: int, at: int, change: bytes) -> None:
    data = b"".join(data_row(*row) for row in values) + tail
    data = data[:at] + change + data[at + len(change) :]

    def outcome(module: ModuleType) -> Any:
        tallies = [0] * 3
        try:
            masked = module.mask_rows(data, start, 3, actions, tallies)
            return masked, tallies, module.collect_values(data, start, 3, (0, 2)), module.skip_rows(data, start)
        except RemoteProtocolError as error:
            return str(error)

    assert outcome(rows) == outcome(compiled)
