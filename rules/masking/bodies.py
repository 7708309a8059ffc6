"""Mask a whole body: find its character encoding, and what it is."""

from __future__ import annotations

import codecs
from typing import Final

from rules.masking.charsets import MediaType, encoding_of
from rules.masking.document import DocumentMasks
from rules.masking.events import mask_events
from rules.masking.result import Counts, Unmaskable
from rules.masking.texts import mask_text

LARGEST: Final = 64 << 20  # bytes of a body that is masked


def mask_body(media_type: MediaType, data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """The masked body, or the very same object. Raises Unmaskable."""
    if len(data) > LARGEST:
        raise Unmaskable(f"the body is larger than the {LARGEST >> 20} MiB that can be masked")
    encoding = encoding_of(media_type, data)
    if encoding is None:
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        text = data[len(mark) :] if mark else data
        masked = _mask(media_type.essence, text, masks, counts)
        return data if masked is text else mark + masked
    codec, mark, certain = encoding
    try:
        text = data[len(mark) :].decode(codec).encode()
    except UnicodeError:
        if certain:
            raise Unmaskable("the body is not in the character encoding that it is labelled with") from None
        return _mask(media_type.essence, data, masks, counts)
    masked = _mask(media_type.essence, text, masks, counts)
    if masked is text:
        return masks.scanner.mask(data, counts)
    try:
        return mark + masked.decode().encode(codec)
    except UnicodeError:
        raise Unmaskable("what masks the body cannot be written in its character encoding") from None


def _mask(essence: str, text: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    if essence == "text/event-stream":
        return mask_events(text, masks, counts)
    return mask_text(essence, text, masks, counts)
