"""Lengths of time, sizes, and the words for wrong ones."""

from __future__ import annotations

import pytest

from hopgate.config.values import parse_duration, parse_size

DURATIONS = [("50s", 50), ("10m", 600), ("1h30m", 5400), ("90d", 7_776_000), ("200ms", 0.2), ("2w", 1_209_600)]
SIZES = [(0, 0), (65536, 65536), ("65536", 65536), ("50MB", 50_000_000), ("64KiB", 65536), ("1 gb", 10**9), ("7B", 7)]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", [10, 1.5, True, None, "", "10", "m", "-5m", "10 m", "0s", "1.5h", "10M", "5m ", "٣m", ["5m"]])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="with its unit"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [-1, True, 1.5, None, "", "MB", "5 TB", "-1KB", "1e6", "٣MB"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="number of bytes"):
        parse_size(text)
