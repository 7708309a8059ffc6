"""Request bodies -> values that conditions can look into. Whatever could be read in two ways is UNKNOWN."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from rules.match import FormText
from rules.members import Members
from rules.model import UNKNOWN
from rules.request_target import form_parameters

MAX_BODY: Final = 1 << 20  # bytes after decoding
FORM: Final = "application/x-www-form-urlencoded"
_MOST_DIGITS: Final = 1000
# a server that reads JSON as YAML finds members behind `<<` which no JSON reader sees
_OTHER_NOTATION: Final = re.compile(r"yaml|\bxml\b|multipart/")
_UTF8: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


class Undecodable(ValueError):
    """A content coding that is unknown, stacked or corrupt, or whose output is beyond the bound."""


def decode_content(data: bytes, encodings: Sequence[str], limit: int) -> bytes:
    """`data` without its Content-Encoding, at most `limit` bytes of it. Raises Undecodable.

    Identity, gzip and deflate only: others (br, zstd) are rare in requests, and stacked ones serve to hide.
    """
    codings = [coding.strip().lower() for value in encodings for coding in value.split(",")]
    if not codings or codings == ["identity"]:
        return data
    if len(codings) > 1:
        raise Undecodable("the body has more than one content coding")
    match codings[0]:
        case "gzip" | "x-gzip":
            return _inflate(data, zlib.MAX_WBITS | 16, limit)
        case "deflate":
            return _inflate(data, zlib.MAX_WBITS, limit)
        case _:
            raise Undecodable("the body has a content coding that the gateway does not read")


def _inflate(data: bytes, wbits: int, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits)
    try:
        decoded = decoder.decompress(data, limit + 1)
    except zlib.error:
        raise Undecodable("the body does not decode") from None
    if len(decoded) > limit:
        raise Undecodable(f"the body decodes to more than {limit} bytes")
    if not decoder.eof or decoder.unused_data:
        # a second member or trailing bytes: some servers read them, some do not
        raise Undecodable("the body does not end where its content coding does")
    return decoded


def parse_body(data: bytes, content_type: str, charset: str) -> Any:
    """The JSON or form value of a decoded body; None for an empty one; UNKNOWN for any other, and for an ambiguous one.

    Form fields become lists of their values when a name is repeated. Numbers keep their value: decimals are Decimal.
    """
    if not data:
        return None
    labelled = content_type == "application/json" or content_type.endswith("+json")
    looks = data.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"[")
    form = content_type == FORM
    if charset not in _UTF8 or _OTHER_NOTATION.search(content_type) is not None:
        return UNKNOWN
    if form and looks and (b"=" in data or b"&" in data):
        return UNKNOWN  # a form to one server, JSON to the next
    if labelled or looks:
        return _json(data)
    return _form(data) if form else UNKNOWN


def _json(data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
        return _DECODER.decode(text)
    except (ValueError, RecursionError, ArithmeticError):
        return UNKNOWN


def _form(data: bytes) -> Any:
    if b";" in data:
        return UNKNOWN  # separates fields for some servers (Rack 2, Python before 3.10), as in a query
    try:
        parameters = form_parameters(data.decode("ascii"))
    except UnicodeDecodeError:
        return UNKNOWN
    if parameters is None:
        return UNKNOWN
    return Members(
        {name: FormText(values[0]) if len(values) == 1 else [FormText(value) for value in values] for name, values in parameters.items()}
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = Members(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _decimal(text: str) -> Decimal:
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number that is too long")
    return Decimal(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")  # NaN, Infinity


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_decimal, parse_constant=_constant)
