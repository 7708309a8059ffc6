"""Mask what comes in pieces: Server-Sent Events and NDJSON. What a border may have cut is held back, within bounds."""

from __future__ import annotations

from typing import Final, Protocol

from rules.masking.document import DocumentMasks
from rules.masking.events import BORDER, mask_event
from rules.masking.result import Counts, Unmaskable
from rules.masking.texts import mask_text

LONGEST_UNIT: Final = 4 << 20  # bytes of one event or line


class Stream(Protocol):
    """Bytes in, masked bytes out. Both raise Unmaskable, and do so ever after: nothing more may pass."""

    counts: Counts

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _Units:
    """Gathers units (lines, events), masks each when it is whole, bounds what is held."""

    def __init__(self, masks: DocumentMasks) -> None:
        self._masks = masks
        self._held = bytearray()
        self._searched = 0  # bytes of `_held` known to hold no border
        self._failed = False
        self.counts = Counts()

    def feed(self, data: bytes) -> bytes:
        self._held += data
        return self._guarded(final=False)

    def finish(self) -> bytes:
        return self._guarded(final=True)

    def _guarded(self, *, final: bool) -> bytes:
        if self._failed:
            raise Unmaskable("the stream could not be masked before")
        try:
            return self._released(final=final)
        except BaseException:
            self._failed = True
            self._held.clear()
            raise

    def _released(self, *, final: bool) -> bytes:
        pieces = []
        start = 0
        while (end := self._border(max(start, self._searched))) >= 0:
            pieces.append(self._mask(bytes(self._held[start:end])))
            self._searched = start = end
        del self._held[:start]
        self._searched = max(0, len(self._held) - 3)
        if final and self._held:
            pieces.append(self._mask(bytes(self._held)))
            self._held.clear()
        if len(self._held) > LONGEST_UNIT:
            raise Unmaskable(f"one event or line of the stream is longer than {LONGEST_UNIT >> 20} MiB")
        return b"".join(pieces)

    def _border(self, position: int) -> int:
        """The end of the unit that is whole at or behind `position`, or -1."""
        raise NotImplementedError

    def _mask(self, unit: bytes) -> bytes:
        raise NotImplementedError


class LineStream(_Units):
    """NDJSON: one JSON text a line."""

    def _border(self, position: int) -> int:
        return self._held.find(b"\n", position) + 1 or -1

    def _mask(self, unit: bytes) -> bytes:
        text = unit.strip(b" \t\r\n\x1e")
        masked = mask_text("application/json", text, self._masks, self.counts) if text else text
        return unit if masked is text else unit.replace(text, masked, 1)


class EventStream(_Units):
    """Server-Sent Events: an event ends with an empty line."""

    def _border(self, position: int) -> int:
        found = BORDER.search(self._held, position)
        return found.end() if found else -1

    def _mask(self, unit: bytes) -> bytes:
        return mask_event(unit, self._masks, self.counts)
