"""Durations and sizes as people write them: `10m`, `90d`, `50MB`."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_BYTES: Final = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `50s`, `10m`, `1h`, `90d`. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a duration such as 50s, 10m, 1h or 90d, got `{text[:40]}`")
    return int(found[1]) * _SECONDS[found[2]]


def parse_size(text: str) -> int:
    """Bytes of `65536`, `64KiB`, `50MB` (decimal units are powers of 1000). Raises ValueError."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a size such as 65536, 64KiB or 50MB, got `{text[:40]}`")
    return int(found[1]) * _BYTES[found[2] or "B"]
