"""One SQLite database shared by every process of a gateway: opening it, transactions, and the doorbell that says that something changed.

The rows are the truth. `PRAGMA data_version` only tells that another connection has committed: a process in which somebody waits
looks every 10 ms, others every 250 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, Self, cast

from sqlalchemy import URL, Select, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hopgate.errors import Misconfigured, Unavailable
from hopgate.store.schema import migrate
from hopgate.tasks import spawn

BUSY: Final = 3.0  # seconds that a statement waits for another process's transaction before the store counts as unavailable
HURRIED: Final = 0.01  # seconds between looks while somebody waits for an approval
CALM: Final = 0.25  # … and otherwise: revocations and locks must be in force within 1 s
_PRAGMAS: Final = ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF", f"busy_timeout={int(BUSY * 1000)}")


class Subscription:
    """Somebody who keeps a view of the store in memory. `age` tells how old that view may be."""

    def __init__(self, read: Callable[[], Awaitable[None]], read_now: Callable[[], None] | None = None) -> None:
        self.read = read
        self.read_now = read_now
        self.reading = asyncio.Lock()
        self.generation = -1  # the change that the view includes
        self.seen = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since the view was last known to equal the store; infinite before the first refresh."""
        return time.monotonic() - self.seen


class Database:
    """Connections, transactions and the doorbell. Every failure of the driver is Unavailable, without parameters in its text."""

    def __init__(self, path: Path, engine: AsyncEngine, bell: sqlite3.Connection) -> None:
        self.path = path
        self._engine = engine
        self._bell = bell
        self._inode = _inode(path)
        self._heard = -1
        self._generation = 0
        self._writing = asyncio.Lock()
        self._subscriptions: list[Subscription] = []
        self._hurry = 0
        self._hurried = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

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
        """Stop watching, let a transaction that has begun finish, and let go of the file."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        async with self._writing:
            await self._engine.dispose()
        self._bell.close()

    async def read[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` on one consistent view of the database."""
        return await self._shielded(self._reading(work))

    async def write[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction that alone may write. What it raises undoes it; a caller that is cancelled meanwhile does not."""
        return await self._shielded(self._alone(work))

    async def _shielded[T](self, transaction: Coroutine[Any, Any, T]) -> T:
        # a cancelled caller must not leave a COMMIT half awaited: nobody would know what the database holds
        result, error = await asyncio.shield(spawn(_outcome(transaction), name="store transaction"))
        if error is not None:
            raise error
        return cast("T", result)

    async def _reading[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._transaction("BEGIN") as connection:
            return await work(connection)

    async def _alone[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._writing, self._transaction("BEGIN IMMEDIATE") as connection:
            return await work(connection)

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[AsyncConnection]:
        with told(self.path):
            self._check_place()
            async with self._engine.connect() as connection:
                await connection.execution_options(begin=begin)
                async with connection.begin():
                    yield connection

    def _check_place(self) -> None:
        """SQLite goes on writing to a file that was deleted or replaced, where no other process would ever see it."""
        if self._closed:
            raise Unavailable(f"{self.path}: the store is closed")
        if _inode(self.path) != self._inode:
            raise Unavailable(f"{self.path}: was replaced while in use: restart hopgate")

    def changed(self) -> bool:
        """Whether any connection, of this process or another, has committed since the last call. About 8 µs; raises Unavailable."""
        heard = -1
        try:
            with told(self.path):
                self._check_place()
                heard = self._bell.execute("PRAGMA data_version").fetchone()[0]
        finally:
            changed = bool(heard != self._heard or heard == -1)
            self._heard = heard
            self._generation += changed  # after a failure too: whatever happened meanwhile must be read
        return changed

    async def subscribe(self, read: Callable[[], Awaitable[None]], *, read_now: Callable[[], None] | None = None) -> Subscription:
        """Call `read` now and after each change, at most 250 ms later. What it raises now is raised; later it is tried again.

        `read_now` does the same without waiting, for a view that must not fall behind on a busy loop: reading through the driver takes
        dozens of turns, which are a second there.
        """
        subscription = Subscription(read, read_now)
        await self.refresh(subscription)
        self._subscriptions.append(subscription)
        if self._watch is None:
            self._watch = spawn(self._watching(), name="store watch")
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    def confirm(self, subscription: Subscription) -> bool:
        """Whether the view equals the store at this moment, found out (or made so) without waiting. Raises Unavailable."""
        now = time.monotonic()
        self.changed()
        generation = self._generation
        if subscription.generation != generation:
            if subscription.read_now is None:
                return False
            subscription.read_now()
        subscription.generation, subscription.seen = generation, now
        return True

    def rows_now(self, statement: Select[Any]) -> list[dict[str, Any]]:
        """The rows of a statement without parameters, read at once on the bell's connection. For tables that stay small."""
        names = [column.name for column in statement.selected_columns]
        with told(self.path):
            self._check_place()
            return [dict(zip(names, row, strict=True)) for row in self._bell.execute(str(statement))]
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """Look every `HURRIED` seconds instead of every `CALM` while inside."""
        self._hurry += 1
        self._hurried.set()
        try:
            yield
        finally:
            self._hurry -= 1
            if not self._hurry:
                self._hurried.clear()

    async def _watching(self) -> None:
        while not self._closed:
            await self.look()
            if self._hurry:
                await asyncio.sleep(HURRIED)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurried.wait(), CALM)

    async def look(self) -> None:
        """Bring every view up to date if the database has changed. One that fails is tried again next time, and its age grows."""
        for subscription in tuple(self._subscriptions):
            with contextlib.suppress(Unavailable):
                if not self.confirm(subscription):
                    await self.refresh(subscription)

    async def refresh(self, subscription: Subscription) -> None:
        """Bring one view up to date now. Raises what reading raises."""
        async with subscription.reading:  # or an older answer could arrive after a newer one
            started = time.monotonic()
            self.changed()
            generation = self._generation
            await subscription.read()
            subscription.generation, subscription.seen = generation, started


async def _outcome[T](transaction: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    try:
        return await transaction, None
    except Exception as error:
        return None, error


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
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or 'cannot be opened'}") from None
    return path


def _engine(path: Path) -> AsyncEngine:
    # hide_parameters: an error of the driver would otherwise quote what it was to store
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(path)), hide_parameters=True, pool_size=4, max_overflow=4)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions late, and never IMMEDIATE
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


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
