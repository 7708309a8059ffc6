"""Walk one ledger: numbers, hashes, signatures, and the heads that others have seen of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hopgate.ledger_format import CHECKPOINT, BadLine, Head, Line, genesis, head_of, link, open_plain, parse_line
from hopgate.verify.report import Finding, Kind

MANY: Final = 50  # findings of one file; more say nothing new


class Claim(NamedTuple):
    """Somebody saw line `i` of a ledger: with the chain hash `h`, or, for a signed head, after a line with the hash `before`."""

    i: int
    source: str
    h: str = ""
    before: str = ""
    anchor: bool = False


@dataclass(slots=True)
class Walk:
    """The state of a walk through one ledger file, and what it found."""

    path: Path
    file: str  # relative to the state directory
    process: str
    key: Ed25519PublicKey
    claims: dict[int, list[Claim]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    anchored: int | None = None
    number: int = 0  # of the line, from 1
    offset: int = 0
    following: int = 0  # the `i` that comes next
    previous: bytes | None = None  # the hash that comes next is chained to; None after a line that could not be read
    signed: int = 0  # lines up to the last checkpoint
    final: bool = False
    unreadable: int = 0  # lines just before this one
    gaps: dict[int, int] = field(default_factory=dict)  # missing `i` -> the line that should have come after it
    rechained: int = 0

    def run(self, on_event: Callable[[Line, Walk], None]) -> None:
        """Walk to the end, give every readable event to `on_event`, and leave the findings."""
        self.previous = genesis(self.process)
        torn = False
        try:
            still_open = is_locked(self.path)
            file = open_plain(self.path)
        except OSError as error:
            self.findings.append(Finding("deleted", self.file, f"the ledger cannot be read: {(error.strerror or '').lower()}"))
            return
        with file:
            for raw in file:
                self.number += 1
                if not raw.endswith(b"\n"):
                    torn = True
                    break
                if not self._line(raw[:-1], on_event):
                    return
                self.offset += len(raw)
        self._finish(torn, still_open)

    def found(self, kind: Kind, message: str, *, line: int | None = None) -> None:
        if len(self.findings) < MANY:
            self.findings.append(Finding(kind, self.file, message, line=line or self.number, offset=None if line else self.offset))

    def _line(self, raw: bytes, on_event: Callable[[Line, Walk], None]) -> bool:
        try:
            line = parse_line(raw)
        except BadLine as error:
            self.found("edited", str(error))
            self.previous = None
            self.unreadable += 1
            return True
        if line.i == 0 and line.event == "started" and line.fields.get("process") != self.process:
            self.found("swapped", f"this is the ledger of `{line.fields.get('process')}`")
            return False
        if line.i < self.following:
            self._out_of_order(line, on_event)
            return True
        self._chained(line)
        self._claimed(line)
        if line.event == CHECKPOINT:
            self._checkpoint(line)
        else:
            if line.event == "started":
                self._started(line)
            self.final = False
            on_event(line, self)
        self.previous, self.following = line.h, line.i + 1
        return True

    def _out_of_order(self, line: Line, on_event: Callable[[Line, Walk], None]) -> None:
        if self.gaps.pop(line.i, None) is not None:
            self.found("reordered", f"event {line.i} stands after event {self.following - 1}")
            on_event(line, self)
        else:
            self.found("reordered", f"event {line.i} stands here a second time")

    def _chained(self, line: Line) -> None:
        unreadable, self.unreadable = self.unreadable, 0
        if line.i > self.following:
            # an unreadable line was one of those that are missing
            for missing in range(self.following + unreadable, min(line.i, self.following + 100_000)):
                self.gaps[missing] = self.number
            self.previous = None
        elif self.previous is not None and link(self.previous, line.body) != line.h:
            self.found("edited", "the line does not have the hash that it was written with, or does not follow from the line before it")

    def _checkpoint(self, line: Line) -> None:
        if self.previous is None:
            return  # already found: what stood before it is gone or unreadable
        head = head_of(line, self.process, self.previous)
        if head is None or not head.signed_by(self.key):
            self.rechained += 1
            if self.rechained == 1:
                self.found("rechained", "the checkpoint is not signed with the gateway's key over what stands above it")
        self.signed, self.final = self.number, bool(line.fields.get("final"))

    def _started(self, line: Line) -> None:
        missing = line.fields.get("missing")
        if isinstance(missing, dict):
            self.found("cut", f"the store knew this ledger up to event {missing.get('i')} when the gateway started again")
        if self.number > 1 and not self.final:
            torn = line.fields.get("torn")
            bytes_torn = torn.get("bytes", 0) if isinstance(torn, dict) else 0
            self.found("interrupted", f"the process did not end in order before this start; {bytes_torn} unsigned bytes were moved away")

    def _claimed(self, line: Line) -> None:
        for claim in self.claims.pop(line.i, ()):
            before = self.previous.hex() if self.previous is not None else claim.before
            if (claim.h and claim.h != line.h.hex()) or (claim.before and claim.before != before):
                self.found("rechained", f"{claim.source} has another hash for event {line.i}")
            elif claim.anchor:
                self.anchored = max(self.anchored or 0, line.i)

    def _finish(self, torn: bool, still_open: bool) -> None:
        self._report_gaps()
        if self.rechained > 1:
            self.found("rechained", f"{self.rechained} checkpoints are not signed with the gateway's key")
        unseen = [claim for claims in self.claims.values() for claim in claims]
        if unseen:
            last = max(unseen)
            self.found("cut", f"{last.source} has seen event {last.i}, and {self.following} events are left")
        if still_open:
            self._say_end("open", "a gateway is writing it")
        elif torn or self.number > self.signed:
            lines = self.number - self.signed
            self.found("torn", f"the last {lines} line{'' if lines == 1 else 's'} were never signed", line=self.signed + 1)
        elif not self.final:
            self.found("interrupted", "the last checkpoint is not a final one: the process was killed", line=max(self.number, 1))
        else:
            self._say_end("whole", f"{self.following} events")

    def _say_end(self, kind: Kind, message: str) -> None:
        if not self.findings:
            self.findings.append(Finding(kind, self.file, message))

    def _report_gaps(self) -> None:
        gaps = sorted(self.gaps)
        while gaps:
            first = last = gaps.pop(0)
            while gaps and gaps[0] == last + 1:
                last = gaps.pop(0)
            which = f"event {first} is" if first == last else f"events {first} to {last} are"
            self.found("deleted", f"{which} missing before this line", line=self.gaps[first])


def claims_of(heads: list[tuple[Head, str, bool]], key: Ed25519PublicKey) -> tuple[dict[str, dict[int, list[Claim]]], list[Finding]]:
    """Heads (with the name of their source, and whether it is off this machine) as claims for each process.

    The store keeps heads without their signature: it can only accuse. An anchor can also vouch, so that its heads must be signed.
    """
    claims: dict[str, dict[int, list[Claim]]] = {}
    findings = []
    for head, source, anchor in heads:
        if head.signed_by(key) or (not head.signature and not anchor):
            add_claim(claims, head.process, Claim(head.i, source, before=head.h, anchor=anchor))
        else:
            findings.append(
                Finding("rechained", f"ledger/{head.process}.ndjson", f"{source} has a head that the gateway's key has not signed")
            )
    return claims, findings


def add_claim(claims: dict[str, dict[int, list[Claim]]], process: str, claim: Claim) -> None:
    claims.setdefault(process, {}).setdefault(claim.i, []).append(claim)


def is_locked(path: Path) -> bool:
    """Whether a process holds `path` open for writing, as ledgers and recordings are."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
