"""Mask a text in UTF-8 by what it is: JSON, a sequence of JSON texts, JSON in a wrapper, a form, or only text."""

from __future__ import annotations

import json
import re
from typing import Final

from rules.masking.document import DocumentMasks
from rules.masking.forms import mask_form
from rules.masking.json_text import NotJson, mask_json, without_escapes
from rules.masking.result import Counts, Unmaskable

NDJSON: Final = frozenset(
    f"application/{name}"
    for name in ("ndjson", "x-ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-seq", "stream+json", "x-json-stream")
) | {"text/x-ndjson"}
_JSON_STARTS: Final = frozenset(b' \t\r\n{["-0123456789tfnNI')
_BLANK: Final = b" \t\r\n\x1e"  # RFC 7464 begins each text with a record separator
_SEQUENCE: Final = re.compile(rb"\A[\s\x1e]*[{\[]|\n[ \t\r\x1e]*[{\[]")
_LOOKS_JSON: Final = re.compile(rb"\A[\s\x1e]*(?:[{\[](?s:.*?)[\"']\s*:|\{\s*[\w$]+\s*:)")
_ANTI_HIJACKING: Final = re.compile(rb"\A\s*(?:\)\]\}'?,?|while\s*\(1\);|for\s*\(;;\);|throw [^;\n]{1,20};|&&&START&&&)\s*(?=[{\[])")
_CALLBACK: Final = re.compile(
    rb"\A\s*(?:/\*.{0,200}?\*/\s*)?(?:typeof [\w$.]{1,200} === 'function' && )?[\w$.\[\]'\"]{1,200}\s*\(\s*(?=[{\[])", re.DOTALL
)

# The same documents in another notation: a JSONPath means something in them, and cannot be applied.
_OTHER_NOTATION: Final = re.compile(
    r"(?:.*[/+.-])?(?:cbor|msgpack|messagepack|bson|ubjson|smile|yaml|protobuf|avro|ion|flatbuffers)(?:[-+;].*)?"
)


def mask_text(essence: str, data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """The masked text, or the very same object. `essence` is the label without parameters; it is believed only where it demands more.

    Raises Unmaskable.
    """
    if not data.strip(_BLANK):
        return data
    if essence in NDJSON and (sequence := _mask_strung_together(data, masks, counts)) is not None:
        return sequence
    if data[:1] and data[0] in _JSON_STARTS:
        try:
            return mask_json(data, masks, counts)
        except NotJson:
            pass
    for attempt in (_mask_sequence, _mask_wrapped):
        if (found := attempt(data, masks, counts)) is not None:
            return found
    claims = "json" in essence
    if masks.has_paths and (claims or _LOOKS_JSON.match(data) is not None):
        raise Unmaskable("the body claims to be JSON, or looks like it, and does not parse")
    if masks.has_paths and (_OTHER_NOTATION.fullmatch(essence) is not None or essence.startswith("multipart/")):
        raise Unmaskable(f"JSONPath masks are in force and cannot be applied to {essence}")
    if essence == "application/x-www-form-urlencoded":
        return mask_form(data, masks, counts)
    masked = masks.scanner.mask(data, counts)
    if b"\\" in masked and masks.scanner and (claims or _LOOKS_JSON.match(data)):
        _refuse_escaped(masked, masks)
    return masked


def _refuse_escaped(data: bytes, masks: DocumentMasks) -> None:
    """Broken JSON is masked as text; a reader that mends it would undo its escapes as well."""
    view = re.sub(rb"(?<!\\)\\+u00([0-7][0-9a-fA-F])", lambda match: bytes((int(match.group(1), 16),)), data).replace(b"\\/", b"/")
    if masks.scanner.find(view) or masks.scanner.find(without_escapes(view)):
        raise Unmaskable("the body looks like JSON, does not parse, and hides what is masked behind escapes")


def _mask_sequence(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes | None:
    """JSON texts one after the other: NDJSON, RFC 7464, or only strung together. None when it is not that."""
    return None if _SEQUENCE.search(data) is None else _mask_strung_together(data, masks, counts)


def _mask_strung_together(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes | None:
    tried = Counts()
    try:
        masked = _mask_lines(data, masks, tried)
    except NotJson:
        tried.clear()
        try:
            masked = _mask_strung(data, masks, tried)
        except NotJson:
            return None
    counts.add_all(tried)
    return masked


def _mask_lines(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    changed = False
    lines = data.split(b"\n")
    for index, line in enumerate(lines):
        text = line.strip(_BLANK)
        if text and (masked := mask_json(text, masks, counts)) is not text:
            lines[index] = line.replace(text, masked, 1)
            changed = True
    return b"\n".join(lines) if changed else data


def _mask_strung(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NotJson("not UTF-8") from None
    decoder = json.JSONDecoder(parse_int=len, parse_float=len)  # only to find where a text ends
    pieces = []
    position = end = 0
    try:
        while True:
            while position < len(text) and text[position] in " \t\r\n\x1e":
                position += 1
            pieces.append(text[end:position].encode())
            if position >= len(text):
                break
            _, end = decoder.raw_decode(text, position)
            pieces.append(mask_json(text[position:end].encode(), masks, counts))
            position = end
    except RecursionError:
        raise Unmaskable("the JSON is nested too deeply to be masked") from None
    except json.JSONDecodeError:
        raise NotJson("not a sequence of JSON texts") from None
    masked = b"".join(pieces)
    return data if masked == data else masked


def _mask_wrapped(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes | None:
    """JSON behind a prefix that keeps pages from loading it as a script, or as the argument of a callback. None when it is not that."""
    if (prefix := _ANTI_HIJACKING.match(data)) is not None:
        start, end = prefix.end(), len(data)
    elif (prefix := _CALLBACK.match(data)) is not None and (call := data.rstrip().removesuffix(b";").rstrip()).endswith(b")"):
        start, end = prefix.end(), len(call) - 1
    else:
        return None
    text = data[start:end]
    try:
        masked = mask_json(text, masks, counts)
    except NotJson:
        if masks.has_paths and _LOOKS_JSON.match(text):
            raise Unmaskable("the body wraps what looks like JSON and does not parse") from None
        return None
    if masked is text:
        return data
    return masks.scanner.mask(data[:start], counts) + masked + masks.scanner.mask(data[end:], counts)
