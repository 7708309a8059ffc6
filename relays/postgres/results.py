"""The head of each result as the session's recording has it: readable, bounded, and only what the client was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relays.postgres.codec import Report
from relays.postgres.fast_path.core import CUT, row_shown

HEAD_BYTES: Final = 65_536


class Head:
    """Gathers rows of one result, as they are after masking, until its budget is spent."""

    __slots__ = ("_parts", "bytes", "left", "tell")

    def __init__(self, size: int = HEAD_BYTES) -> None:
        self.bytes = size  # budget of a result
        self.left = size
        self.tell: Callable[[bytes], None] | None = None
        self._parts: list[bytes] = []

    def size(self, size: int) -> None:
        """Set the budget of a result, in bytes."""
        self.bytes = self.left = size

    def begin(self) -> None:
        """A result starts."""
        self.left = self.bytes

    def row(self, body: bytes) -> None:
        """One DataRow's body."""
        self._add(row_shown(body))

    def copy(self, data: bytes) -> None:
        """One CopyData's body."""
        self._add(data if data.endswith(b"\n") else data + b"\n")

    def _add(self, line: bytes) -> None:
        if len(line) > self.left:
            self._parts.append(line[: self.left] + CUT)
            self.left = 0
        else:
            self._parts.append(line)
            self.left -= len(line)

    def end(self, tag: bytes) -> None:
        """A result is complete: its rows and its tag are told."""
        parts, self._parts = self._parts, []
        self.left = self.bytes
        if self.tell is not None:
            self.tell(b"".join(parts) + tag if parts else tag)

    def failed(self, report: Report) -> None:
        """A result has ended in an error: the code alone, for a text may quote what is masked."""
        self.end(b"ERROR " + report.get(b"C"))
