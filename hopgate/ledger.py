"""The ledger: one append-only, hash-chained, signed file of events for each process.

`append` is synchronous and cheap; `durable` waits until what was appended is on the disk, sharing one sync among all who wait. When
a ledger cannot be written it stays failed: whoever needs it gets Unavailable, and nothing passes.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.metadata
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hopgate import ledger_format
from hopgate.errors import Misconfigured, Unavailable
from hopgate.ledger_format import DOMAIN, PROCESS, Head
from hopgate.ledger_keys import ledger_key

__all__ = ["Ledger", "append_once", "ledger_key"]

FLUSH_SECONDS: Final = 0.1
HEAD_SECONDS: Final = 1.0
_SHA256 = hashlib.sha256
_RESERVED: Final = frozenset(("i", "t", "event", "h"))


class Ledger:
    """One process's ledger, `<directory>/<process>.ndjson`. Not thread-safe: belongs to one event loop, or to a program without one."""

    def __init__(
        self,
        directory: Path,
        process: str,
        key: Ed25519PrivateKey,
        *,
        announce: bool = True,
        wait: bool = False,
        known: Head | None = None,
        on_head: Callable[[Head], None] | None = None,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        """Open or continue the ledger; what a killed process left unsigned is moved to `<process>.<time>.torn`.

        `known` is the head that the store remembers: a file that is shorter has been cut, and the first event says so. `on_head`
        gets a signed head at most once a second; `on_failure` the reason when nothing can be written any more. `wait`: wait for
        another writer instead of refusing. Raises Unavailable when another process writes this ledger or the disk refuses,
        Misconfigured when its last checkpoint has another key's signature.
        """
        if not PROCESS.fullmatch(process):
            raise Misconfigured(f"ledger: `{process}` is no name for a process: use letters, digits, `.`, `_` and `-`")
        self.path = directory / f"{process}.ndjson"
        self.process = process
        self.failed: str | None = None
        self.head: Head | None = None  # the last one on the disk
        self._key = key
        self._on_head, self._on_failure = on_head, on_failure
        self._buffer: list[bytes] = []
        self._unsynced: list[int] = []  # descriptors to sync before the next batch
        self._after: deque[tuple[int, Callable[[], None]]] = deque()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._refused: OSError | None = None
        self._writing = self._armed = self._reporting = self._closed = False
        self._fd = _open_locked(self.path, wait)
        try:
            resumed = self._continue()
        except BaseException:
            os.close(self._fd)
            raise
        self._durable = self._next - 1
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        if known is not None and known.i >= self._next:
            resumed["missing"] = {"i": known.i, "h": known.h}
        if announce or resumed:
            self.append(
                "started",
                process=process,
                version=_version(),
                pid=os.getpid(),
                heads=ledger_format.other_heads(directory, process),
                **resumed,
            )

    def _continue(self) -> dict[str, Any]:
        tail = ledger_format.find_tail(self._fd, self.process, self._key.public_key())
        if tail is None:
            raise Misconfigured(
                f"{self.path}: the last checkpoint is not signed with keys/ledger.pem: run `hopgate verify`, then move the file away"
            )
        self.head, self._chain, self._next, self._size = tail.head, tail.digest, tail.following, tail.end
        surplus = os.fstat(self._fd).st_size - tail.end
        if not surplus:
            return {}
        try:
            digest = move_tail(self._fd, tail.end, self.path.with_name(f"{self.process}.{time.time_ns()}.torn"))
        except OSError as error:
            raise Unavailable(f"{self.path}: cannot cut the torn end: {error.strerror}") from error
        return {"torn": {"bytes": surplus, "sha256": digest}}

    def append(self, event: str, /, **fields: Any) -> int:
        """Add one event; its line number comes back. It is on the disk after `durable`, or within 100 ms where a loop runs.

        `fields` are JSON values (sets and tuples become lists); the names i, t, event and h are taken. Raises Unavailable.
        """
        if self.failed is not None or self._closed:
            raise Unavailable(self.failed or f"ledger {self.process} is closed")
        i = self._next
        try:
            body = orjson.dumps({"i": i, "t": time.time_ns(), "event": event, **fields})[:-1]
        except TypeError:
            body = orjson.dumps({"i": i, "t": time.time_ns(), "event": event, **_plain(fields)})[:-1]
        if not _RESERVED.isdisjoint(fields):
            raise TypeError(f"ledger: a field of `{event}` has a name that every line uses")
        self._add(body)
        if not self._armed:
            self._arm()
        return i

    def _add(self, body: bytes) -> None:
        digest = _SHA256(b"".join((DOMAIN, self._chain, len(body).to_bytes(8), body)))
        self._chain = digest.digest()
        self._next += 1
        self._buffer.append(b'%b,"h":"%b"}\n' % (body, digest.hexdigest().encode()))

    def after(self, line: int, call: Callable[[], None]) -> None:
        """Call once `line`, the last one appended, is on the disk; never when the ledger fails before."""
        self._after.append((line, call))

    def sync_first(self, fd: int) -> None:
        """Sync the file `fd` (a duplicate is taken) before any line appended from now on becomes durable: a digest never outlives
        its bytes.
        """
        self._unsynced.append(os.dup(fd))

    async def durable(self, seq: int | None = None) -> None:
        """Return when line `seq` (default: all that was appended) is on the disk. Callers that come together share one sync. Raises
        Unavailable.
        """
        wanted = self._next - 1 if seq is None else seq
        if self.failed is not None:
            raise Unavailable(self.failed)
        if wanted <= self._durable:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, waiter))
        self._commit()
        await waiter

    def close(self) -> None:
        """Write what is left and the final checkpoint. Whoever still waits for `durable` is answered. Does nothing when failed or
        closed.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self.failed is None:
                batch, head = self._seal(final=True)
                self._worker.submit(self._write, batch, self._take_unsynced()).result()
                self._advance(head)
        except OSError as error:
            self._fail(error)
            raise Unavailable(self.failed) from error
        finally:
            self._worker.shutdown()
            os.close(self._fd)
            for fd in self._take_unsynced():
                os.close(fd)

    def _arm(self) -> None:
        try:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)
        except RuntimeError:
            return  # a program without a loop: close() writes everything
        self._armed = True

    def _tick(self) -> None:
        self._armed = False
        self._commit()

    def _commit(self) -> None:
        if self._writing or not self._buffer or self._closed or self.failed is not None:
            return
        self._writing = True
        batch, head = self._seal()
        written = self._worker.submit(self._write, batch, self._take_unsynced())
        loop = asyncio.get_running_loop()
        written.add_done_callback(lambda future: _call_soon(loop, self._committed, future, head))

    def _committed(self, written: Future[None], head: Head) -> None:
        self._writing = False
        error = written.exception()
        if self._closed:
            return  # close() has written behind this batch and told everybody
        if error is not None:
            self._fail(error)
            return
        self._advance(head)
        self._report()
        if self._waiting:
            self._commit()
        elif self._buffer and not self._armed:
            self._arm()

    def _seal(self, final: bool = False) -> tuple[bytes, Head]:
        body, head = ledger_format.checkpoint_body(self.process, self._next, time.time_ns(), final, self._chain, self._key)
        self._add(body)
        batch, self._buffer = b"".join(self._buffer), []
        return batch, head

    def _write(self, batch: bytes, unsynced: list[int]) -> None:
        """In the worker. One batch is on the disk as a whole or not at all, and none after one that is not."""
        try:
            if self._refused is not None:
                raise self._refused
            for fd in unsynced:
                os.fdatasync(fd)
            written = 0
            while written < len(batch):
                written += os.write(self._fd, batch[written:] if written else batch)
            os.fdatasync(self._fd)
        except OSError as error:
            self._refused = error
            os.ftruncate(self._fd, self._size)
            raise
        finally:
            for fd in unsynced:
                os.close(fd)
        self._size += len(batch)

    def _take_unsynced(self) -> list[int]:
        taken, self._unsynced = self._unsynced, []
        return taken

    def _advance(self, head: Head) -> None:
        self.head, self._durable = head, head.i
        rest = [(seq, waiter) for seq, waiter in self._waiting if seq > head.i]
        for seq, waiter in self._waiting:
            if seq <= head.i and not waiter.done():
                waiter.set_result(None)
        self._waiting = rest
        while self._after and self._after[0][0] <= head.i:
            self._after.popleft()[1]()

    def _fail(self, error: BaseException) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        self.failed = f"ledger {self.process} cannot be written: {reason.lower()}"
        self._buffer.clear()
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Unavailable(self.failed))
        self._waiting.clear()
        if self._on_failure is not None:
            self._on_failure(self.failed)

    def _report(self) -> None:
        if self._on_head is not None and not self._reporting:
            self._reporting = True
            asyncio.get_running_loop().call_later(HEAD_SECONDS, self._report_now)

    def _report_now(self) -> None:
        self._reporting = False
        if self._on_head is not None and self.head is not None:
            self._on_head(self.head)


def append_once(state: Path, event: str, **fields: Any) -> None:
    """Add one durable event to `ledger/cli.ndjson`, for programs that run for a moment; waits while another one does the same."""
    ledger = Ledger(state / "ledger", "cli", ledger_key(state), announce=False, wait=True)
    try:
        ledger.append(event, **fields)
    finally:
        ledger.close()


def _open_locked(path: Path, wait: bool) -> int:
    try:
        for directory in (path.parent.parent, path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"{path}: cannot open the ledger: {(error.strerror or str(error)).lower()}") from error
    try:
        _lock(fd, wait)
        os.fchmod(fd, 0o600)
        if fresh:
            sync_directory(path.parent)
    except BlockingIOError as error:
        os.close(fd)
        raise Unavailable(f"{path}: another process writes this ledger: is a second gateway running on this state directory?") from error
    except OSError as error:
        os.close(fd)
        raise Unavailable(f"{path}: cannot lock the ledger: {(error.strerror or str(error)).lower()}") from error
    return fd


def _lock(fd: int, wait: bool) -> None:
    """`hopgate verify` takes a shared lock for a moment, to learn whether somebody is writing: that is no second gateway."""
    for _ in range(0 if wait else 5):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def sync_directory(directory: Path) -> None:
    """Make a new name in `directory` survive a power failure."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_tail(fd: int, start: int, target: Path) -> str:
    """Move the bytes of `fd` from `start` on into the new file `target`; their SHA-256 as hex comes back."""
    rest = os.pread(fd, os.fstat(fd).st_size - start, start)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as torn:
        torn.write(rest)
        torn.flush()
        os.fsync(torn.fileno())
    os.ftruncate(fd, start)
    return hashlib.sha256(rest).hexdigest()


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return  # the loop was closed before the ledger; close() still writes


def _plain(value: Any) -> Any:
    """`value` as orjson takes it: sets and tuples as lists, bytes and lone surrogates escaped, integers beyond 64 bits as text."""
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _version() -> str:
    try:
        return importlib.metadata.version("hopgate")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
