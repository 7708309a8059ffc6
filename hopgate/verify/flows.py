"""Compare one flow file with what the ledgers know of it, and say in terms of flows what differs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final, NamedTuple

from hopgate.flow_format import record_end
from hopgate.ledger_format import open_plain
from hopgate.verify.evidence import ENTRY, Evidence, unpack
from hopgate.verify.ledgers import MANY, is_locked
from hopgate.verify.report import Finding, Kind

_CHUNK: Final = 1 << 20
_COMPARABLE: Final = 4_000_000  # pairs of flows


class Flow(NamedTuple):
    """One record as it lies in the file. `whole` is false for bytes in which no record begins."""

    offset: int
    length: int
    digest: bytes
    whole: bool = True


@dataclass(slots=True)
class Compared:
    """The result for one recording: its findings. `ask` tells which session each digest belongs to; only damage makes it worth asking."""

    evidence: Evidence
    file: str
    ask: Callable[[], Mapping[bytes, str]]
    findings: list[Finding]

    @property
    def owners(self) -> Mapping[bytes, str]:
        return self.ask()

    def found(self, kind: Kind, message: str, *, flow: int | None = None, offset: int | None = None) -> None:
        if len(self.findings) < MANY:
            self.findings.append(Finding(kind, self.file, message, self.evidence.session, flow=flow, offset=offset))


def compare(state: Path, evidence: Evidence, owners: Callable[[], Mapping[bytes, str]]) -> list[Finding]:
    """Everything that is to be said about one recording; at least one finding."""
    result = Compared(evidence, f"recordings/{evidence.file}" if evidence.file else "recordings", owners, [])
    path = state / result.file
    if not evidence.file:
        result.found("deleted", "the ledger has digests of this session, but not the line that opened its recording")
        return result.findings
    entries, hole = evidence.entries()
    expected = list(unpack(entries))
    if hole is not None:
        result.found("deleted", "a segment is missing in the ledger", offset=hole)
    if evidence.closed is not None and hole is None and evidence.closed != (sum(length for length, _ in expected), len(expected)):
        result.found("deleted", "the segments in the ledger are not all that the recording had when it was closed")
    try:
        file = open_plain(path)
    except OSError as error:
        if evidence.expired and isinstance(error, FileNotFoundError):
            result.found("expired", f"{len(expected)} flows were deleted by retention")
        else:
            result.found("recording_missing", f"{len(expected)} flows are gone: {(error.strerror or '').lower()}")
        return result.findings
    with file:
        fd = file.fileno()
        still_open = is_locked(path)
        size = os.fstat(fd).st_size
        matched, end = _matches(fd, size, expected)
        if matched < len(expected):
            _differences(result, fd, size, expected)
        else:
            _surplus(result, fd, end, size, still_open)
    _ending(result, len(expected), still_open)
    return result.findings


def _ending(result: Compared, flows: int, still_open: bool) -> None:
    evidence = result.evidence
    if evidence.recovered:
        result.found("interrupted", f"the gateway was killed: {evidence.recovered}")
    elif evidence.failed:
        result.found("interrupted", f"the recording could not go on: {evidence.failed}")
    elif evidence.closed is None and not still_open:
        result.found("interrupted", f"the recording was never closed; {flows} flows are attested")
    if not result.findings:
        result.found("whole" if evidence.closed is not None else "open", f"{flows} flows")


def _matches(fd: int, size: int, expected: list[tuple[int, bytes]]) -> tuple[int, int]:
    """How many records from the beginning are what the ledger says, and the offset behind them."""
    at = 0
    for matched, (length, digest) in enumerate(expected):
        if at + length > size or _sha256(fd, at, length) != digest:
            return matched, at
        at += length
    return len(expected), at


def _surplus(result: Compared, fd: int, end: int, size: int, still_open: bool) -> None:
    """Bytes behind the last attested record: of a second that the ledger has not seen, or put there later."""
    if size == end or still_open:
        return
    flow = sum(len(entries) for entries in result.evidence.segments.values()) // ENTRY + 1
    rest = _records(fd, end, size)
    half = len(rest) == 1 and not rest[0].whole and bool(result.evidence.failed)  # a full disk, which refused even to cut it off
    if (result.evidence.closed is not None or result.evidence.recovered) and not half:
        result.found("edited", f"{size - end} bytes stand behind the end that the ledger knows", flow=flow, offset=end)
        return
    whole = sum(item.whole for item in rest)
    result.found("interrupted", f"{whole} flows ({size - end} bytes) were written but not attested any more", flow=flow, offset=end)
    if not rest[-1].whole:
        result.found("torn", f"the last {rest[-1].length} bytes are no whole flow", flow=flow + whole, offset=rest[-1].offset)


def _differences(result: Compared, fd: int, size: int, expected: list[tuple[int, bytes]]) -> None:
    actual = _records(fd, 0, size)
    known = {digest for _, digest in expected}
    others = {result.owners.get(item.digest, "") for item in actual}
    if actual and not {"", result.evidence.session} & others:
        result.found("swapped", f"these are flows of session {', '.join(sorted(others))}", offset=0)
    elif size == sum(length for length, _ in expected) and not _moved(result, expected, actual, known):
        _in_place(result, fd, expected)
    else:
        _diff(result, expected, actual, size)


def _moved(result: Compared, expected: list[tuple[int, bytes]], actual: list[Flow], known: set[bytes]) -> bool:
    """Whether any flow stands where another one was written, or belongs to another session."""
    places: dict[int, bytes] = {}
    at = 0
    for length, digest in expected:
        places[at] = digest
        at += length
    return any(places.get(item.offset) != item.digest and (item.digest in known or item.digest in result.owners) for item in actual)


def _in_place(result: Compared, fd: int, expected: list[tuple[int, bytes]]) -> None:
    """The file has its length and its order: name each flow whose bytes are not its own."""
    at = 0
    for number, (length, digest) in enumerate(expected, 1):
        if _sha256(fd, at, length) != digest:
            result.found("edited", "the flow is not the one that was written", flow=number, offset=at)
        at += length


def _diff(result: Compared, expected: list[tuple[int, bytes]], actual: list[Flow], size: int) -> None:
    wanted = [digest for _, digest in expected]
    steps = _steps(wanted, [item.digest for item in actual])
    place = {digest: number for number, digest in enumerate(wanted)}
    removed = {digest for a, b, _, _ in steps for digest in wanted[a:b]}
    added = {item.digest for _, _, c, d in steps for item in actual[c:d]}
    for a, b, c, d in steps:
        latest = a - 1
        for item in actual[c:d]:
            number = place[item.digest] if item.digest in removed else latest
            if number > latest and number < b:
                latest = number  # kept its order within this stretch
            elif item.digest in removed:
                result.found("reordered", f"flow {number + 1} stands elsewhere than it was written", flow=number + 1, offset=item.offset)
        foreign = [item for item in actual[c:d] if item.digest not in removed]
        gone = sum(digest not in added for digest in wanted[a:b])
        offset = actual[c].offset if c < len(actual) else size
        # less than the next flow, and no whole one: nothing was put in
        if gone and b == len(wanted) and d == len(actual) and all(not item.whole and item.length < expected[a][0] for item in actual[c:d]):
            result.found("cut", f"{gone} flow{'' if gone == 1 else 's'} at the end are gone", flow=a + 1, offset=offset)
        else:
            _not_as_written(result, foreign, gone, a + 1, offset)


def _steps(wanted: list[bytes], there: list[bytes]) -> list[tuple[int, int, int, int]]:
    """The stretches a:b of what was written for which c:d stands now. Very different lists are one: comparing would take for ever."""
    start, end = 0, 0
    shorter = min(len(wanted), len(there))
    while start < shorter and wanted[start] == there[start]:
        start += 1
    while end < shorter - start and wanted[-1 - end] == there[-1 - end]:
        end += 1
    middle, other = wanted[start : len(wanted) - end], there[start : len(there) - end]
    if len(middle) * len(other) > _COMPARABLE:
        return [(start, start + len(middle), start, start + len(other))]
    steps = SequenceMatcher(None, middle, other, autojunk=False).get_opcodes()
    return [(start + a, start + b, start + c, start + d) for tag, a, b, c, d in steps if tag != "equal"]


def _not_as_written(result: Compared, foreign: list[Flow], gone: int, flow: int, offset: int) -> None:
    """One stretch where `gone` flows, from number `flow` on, were replaced by `foreign` ones."""
    for item in foreign:
        owner = result.owners.get(item.digest)
        if owner == result.evidence.session:
            result.found("edited", "a flow stands here a second time", flow=flow, offset=item.offset)
        elif owner:
            result.found("swapped", f"a flow of session {owner}", flow=flow, offset=item.offset)
        else:
            result.found("edited", "the flow is not the one that was written", flow=flow, offset=item.offset)
    if gone > len(foreign) and all(item.whole for item in foreign):
        result.found("deleted", f"{gone - len(foreign)} flows are gone", flow=flow + len(foreign), offset=offset)


def _records(fd: int, start: int, size: int) -> list[Flow]:
    """The records of the file from `start` on; what follows a damaged length is one that is not whole."""
    flows = []
    while start < size:
        end = record_end(fd, start, size)
        stop = size if end is None else end
        flows.append(Flow(start, stop - start, _sha256(fd, start, stop - start), end is not None))
        start = stop
    return flows


def _sha256(fd: int, offset: int, length: int) -> bytes:
    digest = hashlib.sha256()
    while length > 0 and (chunk := os.pread(fd, min(length, _CHUNK), offset)):
        digest.update(chunk)
        offset += len(chunk)
        length -= len(chunk)
    return digest.digest()
