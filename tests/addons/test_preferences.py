"""`Prefer: wait=N` and `respond-async` (RFC 7240)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from addons.preferences import parse_wait

TABLE = [
    ([b"wait=10"], 10, ()),
    ([b"wait=100"], 50, ()),
    ([b"wait=0"], 0, ()),
    ([b"Wait = 10"], 10, ()),
    ([b'wait="7"'], 7, ()),
    ([b"wait=abc"], 50, ()),
    ([b"wait=-1"], 50, ()),
    ([b"wait=1.5"], 50, ()),
    ([b"wait"], 50, ()),
    ([b"wait=3, wait=9"], 3, ()),
    ([b"wait=3", b"wait=9"], 3, ()),
    ([b"respond-async"], 0, ()),
    ([b"respond-async, wait=5"], 5, ()),
    ([b"return=minimal"], 50, (b"return=minimal",)),
    ([b"return=minimal, wait=5"], 5, (b"return=minimal",)),
    ([b"handling=lenient; x=1, respond-async"], 0, (b"handling=lenient; x=1",)),
    ([b'return="a, wait=3", wait=5'], 5, (b'return="a, wait=3"',)),
    ([b'return="a\\", wait=3'], 50, (b'return="a\\", wait=3',)),
    ([b"wait=5;foo, , ,"], 5, ()),
    ([b""], 50, ()),
    ([b"wait=99999999999999999999"], 50, ()),
]


@pytest.mark.parametrize(("values", "wait", "kept"), TABLE)
def test_waiting(values: list[bytes], wait: float, kept: tuple[bytes, ...]) -> None:
    assert parse_wait(values, 50.0) == (wait, kept)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_give_a_wait_within_bounds(values: list[bytes]) -> None:
    wait, _ = parse_wait(values, 50.0)
    assert 0 <= wait <= 50


@pytest.mark.parametrize("part", [b'a\\"', b'a"', b" ", b"a ", b"\\", b'",', b"a=", b";"])
def test_a_long_header_is_read_once(part: bytes) -> None:
    """A head may hold 256 KiB. Looking back at each byte would take minutes, and every other caller would wait for them."""
    value = part * ((256 << 10) // len(part))
    assert parse_wait([value, b"wait=3"], 50.0)[0] == 3
