"""What the ledgers say about recordings, gathered by session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hopgate.ledger_format import Line

ENTRY: Final = 40  # length (8 bytes) and SHA-256 of one record
FILE: Final = re.compile(r"\d{4}/\d\d/\d\d/([A-Za-z0-9][A-Za-z0-9_-]{0,127})\.mitm")


@dataclass(slots=True)
class Evidence:
    """One recording as the ledgers know it."""

    session: str
    file: str = ""  # relative to recordings/
    segments: dict[int, bytes] = field(default_factory=dict)  # offset -> entries
    closed: tuple[int, int] | None = None  # bytes, records
    failed: str = ""
    recovered: str = ""
    expired: bool = False

    def entries(self) -> tuple[bytes, int | None]:
        """All entries in the order of the file, and the offset of the first byte that no segment covers although a later one exists."""
        at = 0
        joined: list[bytes] = []
        for offset, entries in sorted(self.segments.items()):
            if offset != at:
                return b"".join(joined), at
            joined.append(entries)
            at += sum(length for length, _ in unpack(entries))
        return b"".join(joined), None


def unpack(entries: bytes) -> Iterator[tuple[int, bytes]]:
    """(length, SHA-256) of each record."""
    for at in range(0, len(entries), ENTRY):
        yield int.from_bytes(entries[at : at + 8]), entries[at + 8 : at + ENTRY]


class Gathered(dict[str, Evidence]):
    """Evidence by session."""

    def add(self, line: Line) -> None:
        """Take what one event says. Raises ValueError when it does not say it as a gateway does."""
        if line.event != "segment" and not line.event.startswith("recording_"):
            return
        session = line.fields.get("session")
        if not isinstance(session, str):
            raise ValueError(f"`{line.event}` without a session")
        try:
            self._add(self.setdefault(session, Evidence(session)), line)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"`{line.event}` is not written as a gateway writes it") from error

    def _add(self, known: Evidence, line: Line) -> None:
        said = line.fields
        match line.event:
            case "recording_opened":
                matched = FILE.fullmatch(said["file"])
                if not matched or matched[1] != known.session or known.file:
                    raise ValueError("`recording_opened` names a file that is not the session's own, or a second one")
                known.file = said["file"]
            case "segment":
                self._segment(known, said["offset"], said["records"])
            case "recording_closed":
                known.closed, known.failed = (int(said["length"]), int(said["records"])), known.failed or str(said["failed"])
            case "recording_failed":
                known.failed = str(said["reason"])
            case "recording_recovered":
                self._segment(known, said["offset"], said["records"])
                known.recovered = (
                    f"{len(said['records'])} flows were attested only after the restart, {int(said['torn']['bytes'])} torn bytes moved away"
                )
            case "recording_expired":
                known.expired = True

    def _segment(self, known: Evidence, offset: Any, records: Any) -> None:
        entries = b"".join([int(length).to_bytes(8) + _digest(digest) for length, digest in records])
        if type(offset) is not int or known.segments.get(offset):
            raise ValueError("a segment that begins where another one does")
        known.segments[offset] = entries


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != 32:
        raise ValueError("a digest that is none")
    return digest
