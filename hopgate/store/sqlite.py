"""The store as one SQLite file (WAL), shared by the processes of one machine.

`PRAGMA data_version` tells that another connection has committed: reading it takes microseconds and waits for nobody. A transaction runs
whole in a thread: statement by statement through the loop it takes a dozen turns of both, which is most of what a login costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, Self, cast

from sqlalchemy import URL, Connection, CursorResult, Dialect, Engine, Select, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hopgate.errors import Misconfigured, Unavailable
from hopgate.store.bells import Bell
from hopgate.store.migrations import migrate

BUSY: Final = 3.0  # seconds that a statement waits for another process's transaction before the store counts as unavailable
HURRIED: Final = 0.05  # seconds between looks while somebody waits for an approval and hears no bell
CALM: Final = 0.25  # … and otherwise: revocations and locks must be in force within 1 s
CHECKPOINT: Final = 4 << 20  # bytes of write-ahead log that are brought into the database, beside whoever commits
CHECKPOINT_SECONDS: Final = 2.0
_THREADS: Final = 4  # transactions at a time; of those that write, one
# wal_autocheckpoint: SQLite would let whoever commits next do it, with two more syncs
_PRAGMAS: Final = (
    "synchronous=FULL",
    "foreign_keys=ON",
    "trusted_schema=OFF",
    f"busy_timeout={int(BUSY * 1000)}",
    "wal_autocheckpoint=0",
)


class SqliteBackend:
    """Connections to `state`/state.db. Every failure of the driver is Unavailable, without parameters in its text."""

    def __init__(self, path: Path, engine: AsyncEngine, bell: sqlite3.Connection) -> None:
        self.where = str(path)
        self._path = path
        self._engine = engine
        self._inline = _inline_engine(path)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self._bell = bell
        self._inode = _inode(path)
        self._closed = False
        self._others = Bell(path.parent / "run" / "bells")
        self._rung = asyncio.Event()
        self._checkpointed: tuple[float, object] = (time.monotonic(), None)

    @classmethod
    async def open(cls, state: Path) -> Self:
        """Open `state`/state.db, made if missing (0600, in a directory 0700).

        Raises Misconfigured when it is no database of ours, is from a newer hopgate or lies where others may write; Unavailable otherwise.
        """
        path = private_file(Path(state), "state.db")
        engine = _engine(path)
        try:
            with told(path):
                await _prepare(engine, path)
                bell = sqlite3.connect(path, timeout=0, isolation_level=None)
        except BaseException:
            await engine.dispose()
            raise
        return cls(path, engine, bell)

    async def close(self) -> None:
        self._closed = True
        self._others.close()
        await self._engine.dispose()
        self._threads.shutdown(wait=False)
        self._inline.dispose()
        self._bell.close()

    async def run[T](self, work: Callable[[AsyncConnection], Awaitable[T]], *, write: bool, lazy: bool = False) -> T:
        """`work`, which may wait for its connection alone, in one `transaction`."""
        with told(self._path):
            self._check_place()
            result = await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, write, lazy)
        if write and not lazy:
            self._others.ring()
        return result

    def _run[T](self, work: Callable[[AsyncConnection], Awaitable[T]], write: bool, lazy: bool) -> T:
        with self._inline.connect() as connection:
            connection.execution_options(**_options(write, lazy))
            with connection.begin():
                return _driven(work(cast("AsyncConnection", Inline(connection))))

    @contextlib.asynccontextmanager
    async def transaction(self, *, write: bool, lazy: bool = False) -> AsyncIterator[AsyncConnection]:
        """One consistent view, or, with `write`, one transaction that alone may write.

        `lazy`: a power failure may undo it. It does not sync, and so holds up nobody who waits to write.
        """
        with told(self._path):
            self._check_place()
            async with self._engine.connect() as connection:
                await connection.execution_options(**_options(write, lazy))
                async with connection.begin():
                    yield connection
        if write and not lazy:
            self._others.ring()

    def mark(self) -> tuple[object, float]:
        """What differs after anybody's commit, and the moment it was so. About 8 µs; raises Unavailable."""
        now = time.monotonic()
        with told(self._path):
            self._check_place()
            return self._bell.execute("PRAGMA data_version").fetchone()[0], now
        raise AssertionError("unreachable")

    def rows_now(self, statement: Select[Any]) -> list[dict[str, Any]]:
        """The rows of a statement without parameters, read at once on the bell's connection. For tables that stay small."""
        text, names = _written(statement)
        with told(self._path):
            self._check_place()
            return [dict(zip(names, row, strict=True)) for row in self._bell.execute(text)]
        raise AssertionError("unreachable")

    async def look(self) -> None:
        """`mark` is always of this moment."""

    async def doze(self, hurried: asyncio.Event) -> None:
        """Until another process has rung, or it is time to look again."""
        self._others.listen(self._rung.set)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), HURRIED if hurried.is_set() else CALM)
        self._rung.clear()
        await self._checkpoint()

    async def _checkpoint(self) -> None:
        """Keep the write-ahead log short, now and then, where nobody waits for it."""
        now, (last, mark) = time.monotonic(), self._checkpointed
        if now - last < CHECKPOINT_SECONDS:
            return
        self._checkpointed = (now, mark)
        with contextlib.suppress(Unavailable, OSError):
            found, _ = self.mark()
            if found != mark and os.stat(f"{self._path}-wal").st_size > CHECKPOINT:
                with told(self._path):
                    async with self._engine.connect() as connection:
                        raw = await connection.get_raw_connection()
                        await (await raw.driver_connection.execute("PRAGMA wal_checkpoint(PASSIVE)")).close()  # type: ignore[union-attr]
                self._checkpointed = (now, found)

    def _check_place(self) -> None:
        """SQLite goes on writing to a file that was deleted or replaced, where no other process would ever see it."""
        if self._closed:
            raise Unavailable(f"{self._path}: the store is closed")
        if _inode(self._path) != self._inode:
            raise Unavailable(f"{self._path}: was replaced while in use: restart hopgate")


class Inline:
    """What a transaction's work sees of its connection when it runs in a thread: nothing waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    async def run_sync[T](self, work: Callable[..., T], *given: Any) -> T:
        return work(self._connection, *given)


def _driven[T](work: Awaitable[T]) -> T:
    """The result of a coroutine that waits for nothing. Raises what it raises."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        return cast("T", done.value)
    raise RuntimeError("a transaction in a thread waits for something else than its connection")


def _options(write: bool, lazy: bool) -> dict[str, Any]:
    return {"begin": "BEGIN IMMEDIATE" if write else "BEGIN", "synchronous": "NORMAL" if lazy else "FULL"}


@cache  # there are as many as `hopgate.store.watched` has, and writing one out takes longer than running it
def _written(statement: Select[Any]) -> tuple[str, list[str]]:
    return str(statement), [column.name for column in statement.selected_columns]


def private_file(state: Path, name: str) -> Path:
    """The database file, made with 0600 before SQLite sees it: SQLite itself would go by the umask."""
    path = state / name
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if state.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Misconfigured(f"{state}: others may write to the state directory: chmod 0700 it")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise Misconfigured(f"{path}: is no regular file: remove it, or name another state directory")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except FileExistsError:
        raise Misconfigured(f"{state}: is no directory: name another state directory") from None
    except OSError as error:
        raise Unavailable(f"{path}: cannot be opened: {(error.strerror or '').lower()}") from None
    return path


def _engine(path: Path) -> AsyncEngine:
    # hide_parameters: an error of the driver would otherwise quote what it was to store
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(path)), hide_parameters=True, pool_size=4, max_overflow=4)
    _set_up(engine.sync_engine)
    return engine


def _inline_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), hide_parameters=True, pool_size=_THREADS, max_overflow=0)
    _set_up(engine)
    return engine


def _set_up(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions late, and never IMMEDIATE
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        options = connection.get_execution_options()
        wanted = options.get("synchronous", "FULL")
        if connection.info.get("synchronous", "FULL") != wanted:
            connection.exec_driver_sql(f"PRAGMA synchronous={wanted}")
            connection.info["synchronous"] = wanted
        connection.exec_driver_sql(options.get("begin", "BEGIN"))


async def _prepare(engine: AsyncEngine, path: Path) -> None:
    await _enter_wal(engine)
    async with engine.connect() as connection:
        await connection.execution_options(begin="BEGIN IMMEDIATE")
        async with connection.begin():
            await connection.run_sync(migrate, str(path))


async def _enter_wal(engine: AsyncEngine) -> None:
    """Another process that opens the fresh file at the same moment makes this fail at once: SQLite does not wait for this lock."""
    until = time.monotonic() + BUSY
    while True:
        try:
            async with engine.connect() as connection:
                raw = await connection.get_raw_connection()
                cursor = await raw.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
                await cursor.close()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.02)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def told(path: Path | str) -> Iterator[None]:
    """Turn whatever the driver raises into one line that holds no parameters."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        if "not a database" in str(cause):
            raise Misconfigured(f"{path}: is not a SQLite database: remove it, or name another state directory") from None
        text = str(cause).splitlines()[0] if isinstance(cause, sqlite3.Error) and str(cause) else type(cause).__name__
        raise Unavailable(f"{path}: the store does not answer: {text}") from None
