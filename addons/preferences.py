"""`Prefer` (RFC 7240): how long a caller is willing to wait for a reviewer."""

from __future__ import annotations

import re
from typing import Final

# possessive throughout: a head may hold 256 KiB of quotes that never close, and no byte may be looked at twice
_PREFERENCE: Final = re.compile(rb'(?:[^,"]++|"(?:[^"\\]++|\\.?+)*+"?+)++', re.DOTALL)


def parse_wait(values: list[bytes], longest: float) -> tuple[float, tuple[bytes, ...]]:
    """Seconds to wait, at most `longest`, and what is left of the header once our own preferences are taken out.

    `respond-async` means not at all. The first of several equal preferences counts (section 2), and a value that is no number is ignored.
    """
    wait: float | None = None
    asynchronous = False
    kept: list[bytes] = []
    for value in values:
        for element in _PREFERENCE.findall(value):
            preference = element.strip()
            name, _, given = preference.partition(b";")[0].partition(b"=")
            match name.strip().lower():
                case b"wait":
                    number = given.strip().strip(b'"')
                    if wait is None and number.isdigit() and len(number) < 10:
                        wait = float(number)
                case b"respond-async":
                    asynchronous = True
                case _:
                    kept += [preference] if preference else []
    if wait is None:
        wait = 0.0 if asynchronous else longest
    return min(wait, longest), tuple(kept)
