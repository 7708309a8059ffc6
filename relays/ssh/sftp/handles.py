"""Open files and directories: what their OPEN was allowed for, and what has gone through them since."""

from __future__ import annotations

import hashlib
from typing import Final

from rules.printable import visible
from rules.remote_paths import text_of

MAX_HANDLES: Final = 1024


class Transfer:
    """The bytes of one direction. Their SHA-256 counts only while they come in order from the start of the file."""

    __slots__ = ("bytes", "cut", "digest", "failed", "in_order", "packets")

    def __init__(self) -> None:
        self.bytes = 0
        self.packets = 0
        self.failed = 0  # packets that the target refused
        self.digest = hashlib.sha256()
        self.in_order = True
        self.cut = False  # the last packet did not come whole

    def add(self, offset: int, data: memoryview) -> None:
        """A packet's data, or the beginning of it."""
        if offset != self.bytes:
            self.in_order = False
        self.packets += 1
        self.go_on(data)

    def go_on(self, data: memoryview) -> None:
        """More data of the same packet."""
        if self.in_order:
            self.digest.update(data)
        self.bytes += len(data)

    def told(self) -> str:
        """`1048576 bytes, sha256 …`, or why there is none."""
        size = f"{self.bytes} bytes"
        if self.cut:
            return f"{size}, cut off"
        if self.failed:
            return f"{size}, {self.failed} of {self.packets} writes failed"
        return f"{size}, sha256 {self.digest.hexdigest()}" if self.in_order else f"{size}, not in order"


class Handle:
    """What stands behind one handle of the target."""

    __slots__ = ("appends", "lists", "paths", "read", "reads", "shown", "writes", "written")

    def __init__(self, ops: tuple[str, ...], paths: tuple[bytes, ...]) -> None:
        self.paths = paths  # absolute; the first is the one that the client named
        self.shown = visible(text_of(paths[0]))
        self.lists = "list" in ops
        self.reads = "read" in ops
        self.appends = "append" in ops
        self.writes = self.appends or "write" in ops
        self.read = Transfer()
        self.written = Transfer()

    def records(self, closed: bool) -> list[str]:
        """What the recording says when the handle is closed, or is still open at the end of the channel."""
        end = "" if closed else ", not closed"
        found = []
        if self.reads:
            found.append(f"sftp read {self.shown}: {self.read.told()}{end}")
        if self.writes:
            # where appended bytes land is the target's affair: their offsets mean nothing
            told = self.written.told()
            found.append(f"sftp {'append' if self.appends else 'write'} {self.shown}: {told}{end}")
        return found
