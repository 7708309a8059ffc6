"""Mask Server-Sent Events (WHATWG HTML 9.2): the `data` lines of an event are one text, JSON as a rule."""

from __future__ import annotations

import codecs
import re
from typing import Final

from rules.masking.document import DocumentMasks
from rules.masking.result import Counts, Unmaskable
from rules.masking.texts import mask_text

# The end of an event is an empty line. Atomic, or the two bytes of one CRLF would pass for two line ends.
BORDER: Final = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)")
_FIELD: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?[\w. -]*"
)  # what has quotes or braces in the place of a field's name is JSON with the wrong label
_LINE: Final = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")


def mask_events(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """Mask a whole stream of events. Raises Unmaskable."""
    if data.lstrip()[:1] in (b"{", b"["):
        tried = Counts()
        try:
            masked = _within_blanks("application/json", data, masks, tried)
        except Unmaskable:
            pass  # not as a whole: its parts are looked at one by one
        else:
            counts.add_all(tried)
            return masked
    pieces = []
    position = 0
    for border in BORDER.finditer(data):
        pieces.append(mask_event(data[position : border.end()], masks, counts))
        position = border.end()
    pieces.append(mask_event(data[position:], masks, counts))
    masked = b"".join(pieces)
    return data if masked == data else masked


def mask_event(event: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """Mask one event, with the empty line that ends it. Raises Unmaskable."""
    if not event.strip(b"\r\n"):
        return event
    mark = codecs.BOM_UTF8 if event.startswith(codecs.BOM_UTF8) else b""
    lines: list[tuple[bytes, bytes, bytes, bytes]] = []  # (as it was, field, value, line end)
    for match in _LINE.finditer(event[len(mark) :]):
        line, end = match.groups()
        field, _, value = line.partition(b":")
        lines.append((line, field, value.removeprefix(b" "), end))
    if any(_FIELD.fullmatch(field) is None for _, field, _, _ in lines):
        return _within_blanks("application/json", event, masks, counts)
    data = b"\n".join(value for _, field, value, _ in lines if field == b"data")
    masked = mask_text("", data, masks, counts) if data else data
    pieces = [mark]
    written = False
    for line, field, value, end in lines:
        if field != b"data":
            pieces += [_other(line, value, masks, counts), end]
        elif masked is data:
            pieces += [line, end]
        elif not written:
            written = True
            pieces += [b"data: " + part + (end or b"\n") for part in re.split(rb"\r\n|\n|\r", masked)]
    return b"".join(pieces)


def _within_blanks(essence: str, text: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    core = text.strip()
    masked = mask_text(essence, core, masks, counts)
    return text if masked is core else text.replace(core, masked, 1)


def _other(line: bytes, value: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """A comment, `id`, `event`, or a field that nobody knows."""
    masked = mask_text("", value, masks, counts) if value else value
    if masked is not value:
        line = line[: len(line) - len(value)] + re.sub(rb"[\r\n]+", b" ", masked)
    return masks.scanner.mask(line, counts) if masks.scanner else line
