"""Mask text without structure that comes in pieces: a terminal's output, a log, a long plain body."""

from __future__ import annotations

import re
from typing import Final

import re2

from rules.masking.detectors import LATIN1
from rules.masking.literals import SHORTEST, Needles
from rules.masking.result import Counts
from rules.masking.scanner import Found, Scanner

HOLD: Final = 16 << 10  # bytes held back at most
_OVERLAP: Final = 2048  # of a word longer than that, what is looked at again with the next piece

_WORD: Final = b"\x1b" + bytes(range(33, 256))  # a colour belongs to the word that it stands before
# What may go on in the next word: `Bearer `, groups of digits, an IBAN in groups, the BEGIN line of a key.
# (By RE2, which reads from the end: re tries every digit of a log line's times and numbers.)
_OPENERS: Final = re2.compile(
    rb"(?:(?i:bearer)[ \t]{1,4}|[+(]*[0-9][0-9 .()/-]*[ (]"
    rb"|[A-Za-z]{2}[0-9]{2}(?:[ -]?[0-9A-Za-z]{1,4}){0,9} |-{4,5} ?B?[A-Z0-9 -]{0,60} )\z",
    LATIN1,
)
_OPENER_LENGTH: Final = 160
_OPENERS_KEPT: Final = 4  # no value has more of them
_BLANKS: Final = (b" ", b"\t")
_KEY_BEGIN: Final = re.compile(rb"-{4,5} ?BEGIN [0-9A-Z ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|Private-Lines: [0-9]{1,6}")
_KEY_WORDS: Final = Needles((b"PRIVATE KEY", b"Private-Lines: "))  # in each that matches: looked for ten times as fast
_KEY_END: Final = re.compile(rb"-{4,5} ?END |Private-MAC:")
_KEY_END_LENGTH: Final = 12
_KEY_PARTIAL: Final = re.compile(rb"-{4,5} ?BEGIN[A-Z0-9 -]{0,60}\Z")


class TextStream:
    """feed(bytes) -> bytes that are safe to pass on; finish() -> the rest.

    Holds back the last word, and more where words may belong together; an END line that never comes hides all that follows BEGIN.
    """

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._held = b""
        self._in_key = False
        self._in_word = False  # of a hidden word that is longer than what is held, the rest is dropped
        self._key = next((treatment for found, treatment in scanner.detectors if found.name == "private_key"), None)
        self._overlap = max(_OVERLAP, 8 * scanner.literals.longest)
        self._limit = max(HOLD, 2 * self._overlap)
        self.counts = Counts()

    def feed(self, data: bytes) -> bytes:
        if not self._scanner:
            return data
        self._held += data
        return self._released(final=False)

    @property
    def holding(self) -> bool:
        """Whether something is held back that `idle` may let go."""
        return bool(self._held) and not self._in_key

    def idle(self) -> bytes:
        """What waits for the next word that does not come: a prompt, say. What may be the beginning of a known secret or of a key stays."""
        if not self.holding:
            return b""
        begin = _KEY_PARTIAL.search(self._held) if self._key is not None else None
        cut = min(len(self._held) if begin is None else begin.start(), self._scanner.literals.open_tail(self._held))
        kept = self._held[cut:] if len(self._held) - cut >= SHORTEST else b""
        self._held = self._held[: len(self._held) - len(kept)]
        shown = self._released(final=True)
        self._held += kept
        return shown

    def finish(self) -> bytes:
        return self._released(final=True)

    def _released(self, *, final: bool) -> bytes:
        pieces: list[bytes] = []
        while self._key is not None:
            if self._in_key and not self._leave_key(final=final):
                return b"".join(pieces)
            held = self._held
            if not _KEY_WORDS.found_in(held) or (begin := _KEY_BEGIN.search(held)) is None:
                break
            pieces += [self._words(begin.end(), final=True), self._key.of_bytes(b"")]
            self.counts.add(self._key.rule)
            self._in_key = True
        pieces.append(self._words(len(self._held), final=final))
        return b"".join(pieces)

    def _leave_key(self, *, final: bool) -> bool:
        """Drop a key's lines; True when its END line has come."""
        end = _KEY_END.search(self._held)
        if end is None:
            self._held = b"" if final else self._held[-_KEY_END_LENGTH:]
            return False
        self._held = self._held[end.start() :]
        self._in_key = False
        return True

    def _words(self, end: int, *, final: bool) -> bytes:
        """Mask and release of `_held[:end]` what nothing can change any more."""
        if self._in_word:
            dropped = len(self._held) - len(self._held.lstrip(_WORD))
            self._held = self._held[dropped:]
            end = max(0, end - dropped)
            self._in_word = not self._held
        text = self._held[:end]
        cut = end if final else self._cut(text)
        if end - cut > self._limit:
            return self._forced(text)
        self._held = self._held[cut:]
        return self._scanner.mask(text[:cut], self.counts)

    def _cut(self, text: bytes) -> int:
        cut = self._word_before(text, len(text))
        # each of them ends in a blank. Only a few: `Bearer Bearer Bearer …` that comes byte by byte is looked at with every byte
        for _ in range(_OPENERS_KEPT):
            before = text[max(0, cut - _OPENER_LENGTH) : cut]
            if before[-1:] not in _BLANKS or (opener := _OPENERS.search(before)) is None:
                break
            cut = self._word_before(text, cut - len(before) + opener.start())
        return min(cut, self._scanner.literals.open_tail(text))

    def _word_before(self, text: bytes, end: int) -> int:
        """Where the word begins that ends at `end`; somewhere in it when it is longer than may be held."""
        begin = max(0, end - self._limit - 1)
        return begin + len(text[begin:end].rstrip(_WORD))

    def _forced(self, text: bytes) -> bytes:
        """A word longer than may be held: pass on its beginning, unless that is hidden; then all of the word is."""
        cut = len(text) - self._overlap
        last: Found | None = next((found for found in reversed(self._scanner.find(text)) if found.end > cut), None)
        if last is None:
            self._held = self._held[cut:]
            return self._scanner.mask(text[:cut], self.counts)
        self._held = self._held[len(text) :]
        self._in_word = True
        treatment = last.treatment
        self.counts.add(treatment.rule)
        return self._scanner.mask(text[: last.start], self.counts) + treatment.of_bytes(b"")
