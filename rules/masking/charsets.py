"""Which character encoding a body is in, by its mark, its label or its NULs. Labels lie, so what no encoding explains is an error."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rules.masking.result import Unmaskable

# In these, ASCII bytes mean ASCII and the rest can be left as it is.
_ASCII_SUPERSETS: Final = re.compile(
    r"utf-?8|us-ascii|ascii|(?:iso-?)?8859-?\d+.*|iso-ir-\d+|latin-?\d|l1|(?:windows|cp)-?125\d|koi8-?[a-z]|mac(?:-?roman|intosh)|euc-(?:jp|kr|tw)|binary|none"
)
# Python codecs that are not character encodings, or that could be made to say anything.
_REFUSED: Final = re.compile(r"idna|punycode|unicode.?escape|raw.?unicode.?escape|undefined|mbcs|oem|ansi|.*-?codec")

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type taken apart (RFC 9110 8.3.1): lower case, leniently. All charsets that it names, for there may be several."""

    essence: str
    charsets: tuple[str, ...]

    @classmethod
    @lru_cache(maxsize=512)
    def of(cls, label: str) -> MediaType:
        essence, _, parameters = label.lower().partition(";")
        return cls(essence.strip(), tuple(charset.strip(" \t\"'") for charset in re.findall(r"charset\s*=\s*([^;,]+)", parameters)))


def encoding_of(media_type: MediaType, data: bytes) -> tuple[str, bytes, bool] | None:
    """(Python codec, byte order mark, whether that is certain) of a body that is not a superset of ASCII; None for one that is.

    Raises Unmaskable for a label that no codec stands behind.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return codec, mark, True
    for charset in media_type.charsets:
        if not charset or _ASCII_SUPERSETS.fullmatch(charset):
            continue
        codec = _codec(charset)
        if codec in ("utf-16", "utf-32"):
            return (_by_nulls(data) or codec + "-be", b"", True)  # RFC 2781 4.3: without a mark, big-endian
        return codec, b"", True
    guess = _by_nulls(data)
    return None if guess is None else (guess, b"", False)


def _codec(charset: str) -> str:
    try:
        info = codecs.lookup(charset)
    except (LookupError, ValueError):
        info = None
    if info is None or _REFUSED.fullmatch(info.name) or not info._is_text_encoding:
        raise Unmaskable("the body is labelled with a character encoding that cannot be read")
    return info.name


def _by_nulls(data: bytes) -> str | None:
    """UTF-16 and UTF-32 of text that begins with ASCII (RFC 4627 3)."""
    if len(data) >= 4 and len(data) % 4 == 0:
        if data[:3] == b"\0\0\0" and data[3]:
            return "utf-32-be"
        if data[1:4] == b"\0\0\0" and data[0]:
            return "utf-32-le"
    if len(data) >= 2 and len(data) % 2 == 0 and (not data[0]) != (not data[1]):
        return "utf-16-be" if not data[0] else "utf-16-le"
    return None
