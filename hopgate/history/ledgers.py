"""Reading ledgers that others are writing: what is signed so far, from where the last look ended.

Only lines above a checkpoint count: what follows it was never acknowledged, and a gateway that restarts takes it away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from hopgate.ledger_format import CHECKPOINT, SUFFIX, BadLine, Line, open_plain, parse_line
from hopgate.store.index import LedgerEvent, Source, storable

BLOCK: Final = 2 << 20  # bytes of one ledger that are read together: some 5,000 lines
_NUL: Final = b"\\u0000"
_MARK: Final = b'"event":"checkpoint"'


@dataclass(frozen=True, slots=True)
class Reach:
    """Lines of one ledger that are to be indexed, in order, each with where its end is. `more`: there is more to read at once."""

    before: Source  # as the index has it
    source: Source  # … and from where these lines are
    lines: tuple[tuple[int, Line], ...]  # (offset after the line, the line)
    more: bool

    @property
    def newest(self) -> int:
        return max(line.t for _, line in self.lines)

    def up_to(self, t: int) -> tuple[list[LedgerEvent], Source]:
        """The events not younger than `t` (nanoseconds), and how far the ledger is indexed after them."""
        events: list[LedgerEvent] = []
        source = self.source
        for end, line in self.lines:
            if line.t > t:
                break
            # of a ledger that is read again from its start, only what is younger than all that is known
            if line.i >= source.line or line.t > source.t:
                fields = storable(line.fields) if _NUL in line.body else line.fields
                events.append(LedgerEvent(source.process, line.i, line.t, line.event, fields))
            source = replace(source, position=end, line=max(line.i + 1, source.line), h=line.h.hex(), t=max(line.t, source.t))
        return events, source


def read(path: Path, before: Source) -> Reach:
    """What is new in a ledger since `before`. Raises OSError when it cannot be read."""
    source = before
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not _continues(file, source, size):
            source = replace(source, position=0, h="", problem="was cut or replaced since it was read: run `hopgate verify`")
        data = _signed(file, source.position, size)
    lines, bad = _lines(data, source)
    return Reach(before, replace(source, problem=source.problem or bad), lines, source.position + len(data) < size and bool(lines))


def merge(reaches: Iterable[Reach]) -> tuple[list[LedgerEvent], list[tuple[Source, Source]]]:
    """The events of several ledgers by time, as far as none can lack an earlier one; with (before, after) of each ledger."""
    some = tuple(reaches)
    until = min((each.newest for each in some if each.more), default=1 << 63)
    events: list[LedgerEvent] = []
    moves: list[tuple[Source, Source]] = []
    for each in some:
        found, after = each.up_to(until)
        events += found
        if after != each.before:
            moves.append((each.before, after))
    events.sort(key=lambda event: event.t)  # stable: the lines of one ledger stay in order where its clock stood still
    return events, moves


def _continues(file: BinaryIO, source: Source, size: int) -> bool:
    """Whether the file is the one that was read: it is not shorter, and the last line that was read is where it was."""
    if not source.position:
        return True
    if size < source.position:
        return False
    file.seek(max(0, source.position - SUFFIX - 1))
    return file.read(SUFFIX + 1)[:-1].endswith(b'"%b"}' % source.h.encode())


def _signed(file: BinaryIO, start: int, size: int) -> bytes:
    """Whole lines from `start` on, about a block of them, above a checkpoint; empty where none has come."""
    file.seek(start)
    data = file.read(BLOCK)
    if end := _after_checkpoint(data):
        return data[:end]
    line_end = data.rfind(b"\n") + 1
    while not line_end and start + len(data) < size:  # one line longer than a block
        data += file.read(BLOCK)
        line_end = data.rfind(b"\n") + 1
    # a batch longer than a block: its lines are good if its checkpoint is there, however far behind
    rest = data[line_end:]
    while more := file.read(BLOCK):
        rest += more
        if _after_checkpoint(rest):
            return data[:line_end]
        rest = rest[rest.rfind(b"\n") + 1 :]
    return data[: _after_checkpoint(data)]


def _after_checkpoint(data: bytes) -> int:
    """Where the last checkpoint in `data`, which starts with a line, ends; 0 where there is none."""
    end = len(data)
    while (found := data.rfind(_MARK, 0, end)) >= 0:
        begin, after = data.rfind(b"\n", 0, found) + 1, data.find(b"\n", found) + 1
        try:
            if after and parse_line(data[begin : after - 1]).event == CHECKPOINT:
                return after
        except BadLine:
            pass
        end = found
    return 0


def _lines(data: bytes, source: Source) -> tuple[tuple[tuple[int, Line], ...], str]:
    lines: list[tuple[int, Line]] = []
    bad, at, expected = "", source.position, source.line
    for raw in data.split(b"\n")[:-1]:
        at += len(raw) + 1
        try:
            line = parse_line(raw)
        except BadLine:
            bad = f"has a line that no gateway wrote before byte {at}: run `hopgate verify`"
            continue
        if line.i > expected:
            bad = f"lacks lines before line {line.i}: run `hopgate verify`"
        expected = line.i + 1
        lines.append((at, line))
    return tuple(lines), bad
