"""Mask JSON text: what changes is rewritten, what does not comes back as the same bytes, and no number changes its value.

orjson reads and writes where it is exact. Where it is not (integers beyond 64 bits, decimals longer than a double, NaN, lone surrogates,
duplicate member names, deep nesting) the standard library reads, and numbers keep their text.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final

import orjson

from rules.masking import numbers
from rules.masking.document import DocumentMasks
from rules.masking.numbers import Number
from rules.masking.result import Counts, Unmaskable

_ESCAPED_COLON: Final = re.compile(rb"\\u003[aA]")
_UNICODE_ESCAPE: Final = re.compile(rb"\\u[0-9a-fA-F]{4}")


class NotJson(ValueError):
    """The text is not one JSON value."""


def mask_json(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """Mask one JSON text in UTF-8 without a byte order mark. Raises NotJson, and Unmaskable where it is JSON that cannot be masked."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _mask_exactly(data, masks, counts)
    if b"\\" in data:
        try:
            text = orjson.dumps(document)  # as short as possible: hardly an escape is left to hide behind
        except orjson.JSONEncodeError:  # nested deeper than orjson writes
            return _mask_exactly(data, masks, counts)
        plain = without_escapes(text)
    else:
        text = plain = data
        suspecting = masks.scanner.suspecting(data) if masks.scanner else None
        if (masked := masks.tokens(data, suspecting, counts)) is not None:
            return masked
    scanner = masks.scanner.narrowed(plain, literals_in=text) if masks.scanner else None
    touched = scanner is not None or masks.named_in(text)
    if not touched and text is data:
        return data  # a member that a duplicate name shadows was looked at as well
    tried = Counts()
    holder = [document]
    changed = touched and masks.apply(holder, tried, text, scanner)
    if changed and numbers.any_changes(data):
        return _mask_exactly(data, masks, counts)
    try:
        written = text if not changed and text is not data else orjson.dumps(holder[0])
    except (orjson.JSONEncodeError, TypeError):
        return _mask_exactly(data, masks, counts)
    if not changed:
        # each member has one colon outside of strings, and strings keep theirs: fewer colons means that a duplicate was dropped
        if _ESCAPED_COLON.search(data) is None and data.count(b":") == written.count(b":"):
            return data
        return _mask_exactly(data, masks, counts)
    counts.add_all(tried)
    return written


def without_escapes(text: bytes) -> bytes:
    """JSON text in which blanks stand for escapes, so that `\\nAKIA…` does not read as one word."""
    if b"\\" not in text:
        return text
    text = text.replace(rb"\\", b"  ")  # pairs first: what is left of a run of backslashes begins an escape
    if b"\\u" in text:
        text = _UNICODE_ESCAPE.sub(b"      ", text)
    return re.sub(rb"\\.", b"  ", text, flags=re.DOTALL)


def _mask_exactly(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    duplicates = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicates
        found = dict(pairs)
        duplicates = duplicates or len(found) != len(pairs)
        return found

    try:
        document = json.loads(
            data.decode(), parse_int=numbers.parse_int, parse_float=numbers.parse_float, parse_constant=Number, object_pairs_hook=members
        )
    except RecursionError:
        raise Unmaskable("the JSON is nested too deeply to be masked") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise NotJson(type(error).__name__) from None
    holder = [document]
    if not masks.apply(holder, counts, None, masks.scanner or None) and not duplicates:
        return data
    return write(holder[0])


def write(document: Any) -> bytes:
    """JSON text of what `_mask_exactly` read: any depth, numbers with their own text, lone surrogates as escapes."""
    pieces: list[str] = []
    stack: list[Any] = [_Value(document)]
    while stack:
        item = stack.pop()
        if type(item) is str:
            pieces.append(item)
            continue
        value = item.value
        if type(value) is dict:
            stack.append("}")
            for index, (name, member) in enumerate(reversed(value.items()), 1 - len(value)):
                stack += [_Value(member), ("," if index else "") + _string(name) + ":"]
            stack.append("{")
        elif type(value) is list:
            stack.append("]")
            for index, member in enumerate(reversed(value), 1 - len(value)):
                stack += [_Value(member), "," if index else ""]
            stack.append("[")
        else:
            pieces.append(_scalar(value))
    return "".join(pieces).encode()


class _Value:
    """A value on the writer's stack, where a str is text already written."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _string(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return encode_basestring_ascii(text)
    return encode_basestring(text)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Number):
        return value.text
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)
