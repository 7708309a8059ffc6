"""After a kill: cut recordings to their last whole record and attest what the ledger had not seen. After their time: find what expires."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import orjson

from hopgate.flow_format import record_end
from hopgate.ledger import Ledger, move_tail
from hopgate.ledger_format import lines_with
from hopgate.verify.evidence import FILE, Evidence, Gathered, unpack


def recover_recordings(directory: Path, markers: Path, ledger: Ledger) -> tuple[list[Path], list[str]]:
    """Recover every recording that has a marker and no writer. Raises OSError, Unavailable.

    Back come the markers to remove once the ledger is durable, and the sessions that were recovered.
    """
    if not markers.is_dir() or not (left := sorted(markers.iterdir())):
        return [], []
    known, done, recovered = _known(ledger.path.parent, {marker.name for marker in left}), [], []
    for marker in left:
        evidence = known.get(marker.name, Evidence(marker.name))
        name = _file_of(marker) or evidence.file
        if name and evidence.closed is None and not evidence.expired:
            outcome = _recover(directory / name, evidence, ledger)
            if outcome is None:
                continue
            recovered += [marker.name] if outcome else []
        done.append(marker)
    return done, recovered


def _recover(path: Path, known: Evidence, ledger: Ledger) -> bool | None:
    """False: there is no such file, which `verify` will say. None: somebody is still writing it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _attest_rest(fd, path, known, ledger)
    except BlockingIOError:
        return None
    finally:
        os.close(fd)
    return True


def _attest_rest(fd: int, path: Path, known: Evidence, ledger: Ledger) -> None:
    start = at = sum(length for length, _ in unpack(known.entries()[0]))
    size = os.fstat(fd).st_size
    records: list[tuple[int, str]] = []
    while at < size and (end := record_end(fd, at, size)) is not None:
        records.append((end - at, hashlib.sha256(os.pread(fd, end - at, at)).hexdigest()))
        at = end
    torn: dict[str, int | str] = {"bytes": 0}
    if at < size:
        torn = {"bytes": size - at, "sha256": move_tail(fd, at, path.with_suffix(f".{time.time_ns()}.torn"))}
    ledger.sync_first(fd)
    file = path.relative_to(path.parents[3]).as_posix()
    if not known.file:
        # the line that opened it was not yet on the disk when the process was killed
        ledger.append("recording_opened", session=known.session, file=file, meta={})
    ledger.append("recording_recovered", session=known.session, file=file, offset=start, length=at, records=records, torn=torn)


def _file_of(marker: Path) -> str:
    try:
        name = orjson.loads(marker.read_bytes())["file"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""
    matched = FILE.fullmatch(name) if isinstance(name, str) else None
    return matched[0] if matched and matched[1] == marker.name else ""


def _known(ledgers: Path, sessions: set[str]) -> Gathered:
    """What the ledgers say of these sessions, read without verifying: `verify` judges the same lines later."""
    gathered = Gathered()
    for line in lines_with(ledgers, b'"session":'):
        if line.fields.get("session") in sessions:
            with contextlib.suppress(ValueError):
                gathered.add(line)
    return gathered


def expired_recordings(directory: Path, markers: Path, before: float) -> list[tuple[Path, int]]:
    """(file, bytes) of each recording last written before that time that nobody writes or has to recover. Raises OSError."""
    old = []
    for path in sorted(directory.glob("*/*/*/*.mitm")):
        status = path.lstat()
        if status.st_mtime < before and FILE.fullmatch(path.relative_to(directory).as_posix()) and not (markers / path.stem).exists():
            old.append((path, status.st_size))
    return old


def delete_recordings(paths: Iterable[Path]) -> None:
    """Delete recordings and what lies beside them for the same session. Raises OSError."""
    for path in paths:
        for beside in path.parent.glob(f"{path.stem}.*"):
            beside.unlink(missing_ok=True)
