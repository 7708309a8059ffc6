"""Recordings: one mitmproxy flow file for each session, attested record by record in the ledger.

A record is one tnetstring, written with one write before its last byte goes to the client; it is in the file whole or not at all.
Each second, every 256 KiB and at the close its digest becomes part of a `segment` line of the ledger, and the file is synced before
that line is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
from mitmproxy.version import FLOW_FORMAT_VERSION

from hopgate import flow_format
from hopgate.errors import Misconfigured, Unavailable
from hopgate.ledger import Ledger, sync_directory
from hopgate.recovery import delete_recordings, expired_recordings, recover_recordings

SEGMENT_SECONDS: Final = 1.0
SEGMENT_BYTES: Final = 256 << 10
_SESSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SHA256 = hashlib.sha256


class RecordingsConfig(Protocol):
    """What `recordings:` of the configuration says that matters here."""

    @property
    def retention(self) -> float | None: ...  # seconds


class Recording:
    """One session's flow file, open for appending. One writer: the file is locked until `close`."""

    def __init__(self, recordings: Recordings, session: str, path: Path, fd: int, marker: Path) -> None:
        self.session = session
        self.path = path
        self.failed: str | None = None
        self.length = 0  # bytes
        self.records = 0
        self._recordings, self._fd, self._marker = recordings, fd, marker
        self._offset = 0  # of the segment that is not yet in the ledger
        self._pending: list[tuple[int, str]] = []
        self._closed = False

    def append(self, record: bytes) -> int:
        """Write one record (an encoded flow) and return its offset. Raises Unavailable; the file then ends with its last whole record."""
        if self.failed is not None or self._closed:
            raise Unavailable(self.failed or f"recording {self.session} is closed")
        offset = self.length
        try:
            written = os.write(self._fd, record)
            while written < len(record):  # the disk is full: the next write says so
                written += os.write(self._fd, record[written:])
        except OSError as error:
            self._fail(error)
        self.length += len(record)
        self.records += 1
        self._pending.append((len(record), _SHA256(record).hexdigest()))
        if self.length - self._offset >= SEGMENT_BYTES:
            self.attest()
        elif len(self._pending) == 1:
            self._recordings._due(self)
        return offset

    def attest(self) -> None:
        """Put the digests of what was written since the last time into the ledger. Raises Unavailable."""
        if not self._pending:
            return
        ledger = self._recordings.ledger
        try:
            ledger.sync_first(self._fd)
            ledger.append("segment", session=self.session, offset=self._offset, length=self.length - self._offset, records=self._pending)
        except (OSError, Unavailable) as error:
            self.failed = self.failed or f"recording {self.session} cannot be attested: {error}"
            raise Unavailable(self.failed) from error
        self._offset, self._pending = self.length, []

    def close(self, reason: str = "") -> None:
        """Attest the rest and say in the ledger that nothing follows. Does nothing when closed already. Raises Unavailable."""
        if self._closed:
            return
        self._closed = True
        self._recordings._forget(self)
        ledger = self._recordings.ledger
        try:
            self.attest()
            what = {"length": self.length, "records": self.records, "reason": reason, "failed": self.failed or ""}
            line = ledger.append("recording_closed", session=self.session, **what)
        except Unavailable:
            os.close(self._fd)
            raise
        ledger.after(line, self._release)

    def _release(self) -> None:
        """The file stays locked until its closing line is durable, or another process would take it for one to recover."""
        with contextlib.suppress(OSError):
            self._marker.unlink(missing_ok=True)
        os.close(self._fd)

    def _fail(self, error: OSError) -> None:
        """A short write is as good as none: cut back, so that readers see whole records only."""
        reason = (error.strerror or type(error).__name__).lower()
        self.failed = f"recording {self.session} cannot be written: {reason}"
        try:
            os.ftruncate(self._fd, self.length)
        except OSError:
            self.failed += ", nor cut back to its last whole record"
        try:
            self._recordings.ledger.append("recording_failed", session=self.session, length=self.length, reason=reason)
        except Unavailable:
            pass  # the ledger has failed too, and every session with it
        raise Unavailable(self.failed) from error


class Recordings:
    """All recordings of a state directory, as one process writes them."""

    def __init__(self, state: Path, ledger: Ledger, config: RecordingsConfig) -> None:
        """Raises Misconfigured when the installed mitmproxy writes another flow format than the one that `flow_format` speaks."""
        if FLOW_FORMAT_VERSION != flow_format.VERSION:
            raise Misconfigured(
                f"recordings: the installed mitmproxy has flow format {FLOW_FORMAT_VERSION}, "
                f"hopgate writes {flow_format.VERSION}: install a mitmproxy that setup.cfg names",
            )
        self.ledger = ledger
        self.directory = state / "recordings"
        self.markers = self.directory / ".open"
        self._config = config
        self._dirty: set[Recording] = set()
        self._open: set[Recording] = set()
        self._armed = False

    def open(self, session: str, meta: Mapping[str, Any]) -> Recording:
        """Start the recording of a session; `meta` (JSON values) goes into the ledger with it. Raises Unavailable."""
        if not _SESSION.fullmatch(session):
            raise ValueError(f"`{session}` is no id for a session")
        relative = Path(time.strftime("%Y/%m/%d", time.gmtime()), f"{session}.mitm")
        path, marker = self.directory / relative, self.markers / session
        try:
            _make_private(path.parent, self.directory)
            _make_private(self.markers, self.directory)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Unavailable(f"recording {session} cannot be made: {(error.strerror or str(error)).lower()}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sync_name(path.parent)
            with open(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(orjson.dumps({"session": session, "file": str(relative)}))
            self.ledger.append("recording_opened", session=session, file=str(relative), meta=dict(meta))
        except (OSError, Unavailable) as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            marker.unlink(missing_ok=True)
            raise Unavailable(f"recording {session} cannot be started: {error}") from error
        recording = Recording(self, session, path, fd, marker)
        self._open.add(recording)
        return recording

    def _sync_name(self, directory: Path) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.ledger.sync_first(fd)
        finally:
            os.close(fd)

    def attest(self) -> None:
        """Put what was written since the last time into the ledger, for every open recording."""
        dirty, self._dirty = self._dirty, set()
        for recording in dirty:
            try:
                recording.attest()
            except Unavailable:
                continue  # the recording remembers, and refuses its next append

    async def close(self) -> None:
        """Close what is still open, before the ledger is closed. Raises Unavailable when the ledger cannot say so."""
        for recording in list(self._open):
            recording.close("the gateway stopped")
        await self.ledger.durable()

    async def recover(self) -> tuple[str, ...]:
        """Attest and cut what killed processes left, and return their sessions; to be called once, before the first `open`.

        A torn end is moved to `<session>.<time>.torn`. What another process is writing is left alone. Raises Unavailable.
        """
        try:
            markers, sessions = recover_recordings(self.directory, self.markers, self.ledger)
            await self.ledger.durable()
            for marker in markers:
                marker.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"recordings cannot be recovered: {(error.strerror or str(error)).lower()}") from error
        return tuple(sessions)

    async def expire(self, now: float) -> tuple[str, ...]:
        """Delete the payload of recordings not written to for longer than the retention; the ledger says so first. Raises Unavailable."""
        retention = self._config.retention
        if retention is None:
            return ()
        try:
            old = await asyncio.to_thread(expired_recordings, self.directory, self.markers, now - retention)
            for path, length in old:
                name = path.relative_to(self.directory).as_posix()
                self.ledger.append("recording_expired", session=path.stem, file=name, length=length)
            await self.ledger.durable()
            await asyncio.to_thread(delete_recordings, [path for path, _ in old])
        except OSError as error:
            raise Unavailable(f"recordings cannot be expired: {(error.strerror or str(error)).lower()}") from error
        return tuple(path.stem for path, _ in old)

    def _due(self, recording: Recording) -> None:
        self._dirty.add(recording)
        if not self._armed:
            try:
                asyncio.get_running_loop().call_later(SEGMENT_SECONDS, self._tick)
            except RuntimeError:
                return  # a program without a loop attests at 256 KiB and at the close
            self._armed = True

    def _tick(self) -> None:
        self._armed = False
        self.attest()

    def _forget(self, recording: Recording) -> None:
        self._dirty.discard(recording)
        self._open.discard(recording)


def _make_private(directory: Path, top: Path) -> None:
    """mkdir -p with mode 0700 for every level below and including `top`."""
    if directory.is_dir():
        return
    if directory != top:
        _make_private(directory.parent, top)
    directory.mkdir(mode=0o700, parents=directory == top, exist_ok=True)
    sync_directory(directory.parent)
