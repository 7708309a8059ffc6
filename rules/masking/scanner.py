"""Detectors and known secrets over a piece of data: what to hide where, and the data with it hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rules.masking.detectors import Detector, any_of, detector, first_look, marks_of, set_of
from rules.masking.literals import Literals, Needles, literals_of
from rules.masking.result import Counts
from rules.masking.strategies import Treatment, strongest

CREDENTIAL: Final = "credential"  # counts hidden secrets that no rule names


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of data to hide, and how."""

    start: int
    end: int
    treatment: Treatment


class Scanner:
    """The detectors in force, each with its strongest treatment, and the secrets that are hidden with no rule needed."""

    def __init__(self, detectors: tuple[tuple[Detector, Treatment], ...], literals: Literals) -> None:
        self.detectors = detectors
        self.literals = literals
        self._literal_treatment = Treatment(CREDENTIAL)
        # for text that is looked at a second time in another form
        self.secrets: Scanner = self if not detectors else Scanner((), literals)
        names = tuple([found.name for found, _ in detectors])
        self._any: Any = any_of(names) if len(names) > 1 else None
        self._first_look: Any = first_look(names, literals.first_look) if literals and names else self._any
        marks = marks_of(names)
        self._marks = Needles((*marks, *literals.needles)) if marks and Needles.quick else None
        self._set: Any = set_of(names) if len(names) > 1 else None

    @classmethod
    def of(cls, treatments: dict[str, list[Treatment]], secrets: tuple[bytes, ...]) -> Scanner:
        chosen = tuple((detector(name), strongest(given)) for name, given in sorted(treatments.items()))
        return cls(chosen, literals_of(secrets))

    def __bool__(self) -> bool:
        return bool(self.detectors) or bool(self.literals)

    def narrowed(self, data: bytes, *, literals_in: bytes | None = None) -> Scanner | None:
        """A scanner with what really occurs in `data`, to look at its pieces with; None when nothing does.

        Pieces are cut at characters that no detector takes for part of a value, as the quotes and commas of JSON are.
        """
        detectors = tuple(pair for pair in self._candidates(data) if next(pair[0].find(data), None) is not None)
        literals = self.literals if self.literals and self.literals.found_in(data if literals_in is None else literals_in) else _NO_LITERALS
        return Scanner(detectors, literals) if detectors or literals else None

    def suspecting(self, data: bytes) -> Scanner | None:
        """A scanner with what may occur in `data`: one pass, and nothing is looked at closely. None when nothing can."""
        detectors = self._candidates(data)
        literals = self.literals if self.literals and self.literals.found_in(data) else _NO_LITERALS
        return Scanner(detectors, literals) if detectors or literals else None

    def _candidates(self, data: bytes) -> tuple[tuple[Detector, Treatment], ...]:
        """One pass over `data` tells which detectors are worth one of their own."""
        if len(self.detectors) < 2:
            return self.detectors
        if self._any.search(data) is None:
            return ()
        # a set that runs out of memory says that nothing matches: then all of them look for themselves
        return tuple([self.detectors[index] for index in self._set.Match(data) or ()]) or self.detectors

    def find(self, data: bytes) -> list[Found]:
        """Disjoint and ordered; where spans overlap, their union gets the strongest treatment."""
        if self._holds_nothing(data):
            return []
        spans = [Found(start, end, treatment) for found, treatment in self._candidates(data) for start, end in found.find(data)]
        if self.literals and self.literals.found_in(data):
            spans += [Found(start, end, self._literal_treatment) for start, end in self.literals.find(data)]
        return _merged(spans) if len(spans) > 1 else spans

    def _holds_nothing(self, data: bytes) -> bool:
        """A first look, which most data does not get past."""
        if self._marks is not None and not self._marks.found_in(data) and not self.literals.may_be_spelled(data):
            return True
        return self._first_look is not None and self._first_look.search(data) is None

    def mask(self, data: bytes, counts: Counts) -> bytes:
        """The very same object when nothing is found."""
        spans = self.find(data)
        return hide(data, spans, counts) if spans else data

    def mask_text(self, text: str, counts: Counts) -> str:
        data = text.encode("utf-8", "surrogatepass")
        masked = self.mask(data, counts)
        return text if masked is data else masked.decode("utf-8", "surrogatepass")


_NO_LITERALS: Final = Literals(())


def hide(data: bytes, spans: list[Found], counts: Counts) -> bytes:
    """`data` with these pieces, disjoint and ordered, hidden."""
    pieces = []
    position = 0
    for found in spans:
        counts.add(found.treatment.rule)
        pieces += [data[position : found.start], found.treatment.of_bytes(data[found.start : found.end])]
        position = found.end
    pieces.append(data[position:])
    return b"".join(pieces)


def _merged(spans: list[Found]) -> list[Found]:
    spans.sort(key=lambda found: (found.start, found.end))
    merged = [spans[0]]
    for found in spans[1:]:
        last = merged[-1]
        if found.start < last.end:
            merged[-1] = Found(last.start, max(last.end, found.end), strongest((last.treatment, found.treatment)))
        else:
            merged.append(found)
    return merged
