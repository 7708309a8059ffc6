"""Durations and sizes."""

from __future__ import annotations

import pytest

from rules.quantities import parse_duration, parse_size


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("50s", 50), ("10m", 600), ("1h", 3600), ("90d", 7_776_000)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-1s", "1.5h", "10 m", "10M", "1h30m", "１s", "9999999999s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("65536", 65536), ("64KiB", 65536), ("50MB", 50_000_000), ("1 GB", 10**9), ("5B", 5)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5MB", "1mb", "1M", "1e3"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)
