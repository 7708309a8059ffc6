"""Byte strings are found wherever they are, in Python and compiled alike."""

from __future__ import annotations

import os
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.masking import needles as twin

try:
    from rules.masking import _needles as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]
    if os.environ.get("HOPGATE_COMPILED"):
        raise

MODULES: list[ModuleType] = [module for module in (twin, compiled) if module is not None]
NEEDLES = [(b"secret",), (b"ab", b"abcdefgh"), (b"x" * 300, b"yz" * 4), (b"bear", b"Bear", b"AKIA", b"ear_q"), ()]


@settings(max_examples=200, deadline=None)
@given(needles=st.sampled_from(NEEDLES), data=st.data())
def test_needles_are_found_wherever_they_are(needles: tuple[bytes, ...], data: st.DataObject) -> None:
    alphabet = sorted({bytes([byte]) for needle in needles for byte in needle} | {b"q"})
    pieces = data.draw(st.lists(st.sampled_from([*alphabet, *needles, *[needle[:-1] for needle in needles]]), max_size=30))
    hay = b"".join(pieces)
    for module in MODULES:
        assert module.Needles(needles).found_in(hay) == any(needle in hay for needle in needles)


@pytest.mark.parametrize("module", MODULES)
def test_needles_are_no_single_bytes(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="two bytes"):
        module.Needles((b"a",))
    assert module.holds_byte(b"a+b", b"%+")
    assert not module.holds_byte(b"ab", b"%+")
    assert not module.holds_byte(b"", b"%+")
    assert module.Needles((b"ab",)).found_in(bytearray(b"xxab"))
