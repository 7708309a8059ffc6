"""What verification says: findings, each with its place, and one verdict over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

type Kind = Literal[
    "whole",
    "open",
    "expired",
    "torn",
    "interrupted",
    "edited",
    "deleted",
    "reordered",
    "cut",
    "rechained",
    "recording_missing",
    "swapped",
    "unknown",
]

KINDS: Final[Mapping[Kind, str]] = {
    "whole": "as it was written, and ended in order",
    "open": "as it was written, and a gateway is still writing it",
    "expired": "the payload was deleted by retention; the ledger keeps its digests",
    "torn": "an unfinished end that nobody was ever told is durable",
    "interrupted": "what is there is as it was written, but its writer was stopped or could not go on",
    "edited": "bytes differ from those that were written",
    "deleted": "lines, flows or a whole ledger are gone",
    "reordered": "everything is there, in another order",
    "cut": "the end is gone",
    "rechained": "the hashes were computed anew without the gateway's key",
    "recording_missing": "the ledger knows a recording that is not there",
    "swapped": "the content of another session or process",
    "unknown": "a recording that no ledger knows",
}
ALTERED: Final[frozenset[Kind]] = frozenset(
    ("edited", "deleted", "reordered", "cut", "rechained", "recording_missing", "swapped", "unknown"),
)
UNFINISHED: Final[frozenset[Kind]] = frozenset(("torn", "interrupted"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `file` is relative to the state directory; lines and flows count from 1, bytes from 0."""

    kind: Kind
    file: str
    message: str
    session: str = ""
    line: int | None = None
    flow: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        places = [
            f"{name} {place}" for name, place in (("line", self.line), ("flow", self.flow), ("byte", self.offset)) if place is not None
        ]
        return f"{self.file}{': ' if places else ''}{', '.join(places)}: {self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings.

    `anchored` holds, for each process, the line up to which a head from off this machine was found in its ledger; `remembered` says
    whether heads from outside the ledgers were there to compare with at all.
    """

    findings: tuple[Finding, ...]
    ledgers: int
    recordings: int
    anchored: Mapping[str, int] = field(default_factory=dict)
    remembered: bool = False

    @property
    def verdict(self) -> Literal["whole", "interrupted", "altered"]:
        kinds = {finding.kind for finding in self.findings}
        if kinds & ALTERED or not kinds:
            return "altered"
        return "interrupted" if kinds & UNFINISHED else "whole"

    @property
    def sentence(self) -> str:
        """One line for people. Who has the gateway's key can write a ledger that verifies; only heads kept elsewhere tell."""
        what = f"{_count(self.ledgers, 'ledger')} and {_count(self.recordings, 'recording')}"
        if self.verdict == "altered":
            found = [finding for finding in self.findings if finding.kind in ALTERED]
            return f"altered: {_count(len(found), 'finding')} in {what}"
        state = "unaltered" if self.verdict == "whole" else "interrupted, and what is there is unaltered"
        if self.anchored:
            return f"{what}: {state}; anchored up to " + ", ".join(
                f"line {i + 1} of {process}" for process, i in sorted(self.anchored.items())
            )
        limits = "" if self.remembered else "; an end that was cut off between two runs shows only with the store or an anchor"
        return f"{what}: {state} unless the gateway's key was used{limits}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
