"""The store as one PostgreSQL database, shared by the gateways of several machines.

A connection of its own, in a thread of its own, listens for the notification that each writing transaction sends, and looks every
250 ms in case one is lost. It keeps what every operation asks for (revoked tokens, locks, kills) in memory, with the moment at which
the server said so: an operation reads it without waiting, and a loop that is busy does not make it old. When the server has said
nothing for a second it is not believed any more, and nothing passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from sqlalchemy import Select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hopgate.errors import Misconfigured, Unavailable
from hopgate.store.migrations import migrate
from hopgate.store.watched import WATCHED

CONNECT: Final = 3.0  # seconds
BUSY: Final = 3.0  # seconds that a transaction waits for another one, and a statement for the server
LOOK: Final = 0.25  # seconds between looks when nothing is notified
MAX_AGE: Final = 1.0  # seconds for which what the server last said is believed
CHANNEL: Final = "hopgate"
WRITING: Final = 0x686F7067617465  # "hopgate": the advisory lock of whoever writes
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "hopgate",
    "idle_in_transaction_session_timeout": "5000",  # a gateway that hangs in a transaction holds up all others
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is. `where` is for people and has no password."""

    dsn: str = field(repr=False)
    where: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Read `postgresql+asyncpg://user:password@host:port/database?sslmode=…`. Raises Misconfigured, which quotes nothing secret."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 5432
        except ValueError:
            raise Misconfigured("store: is no URL: percent-encode what is special in its user and password") from None
        if parts.scheme not in ("postgresql+asyncpg", "postgresql"):
            raise Misconfigured("store: must start with postgresql+asyncpg://")
        if len(parts.path) < 2:
            raise Misconfigured("store: names no database, as in postgresql+asyncpg://user@host/hopgate")
        options = dict(parse_qsl(parts.query))
        if not (host in _LOOPBACK or "host" in options):
            options.setdefault("sslmode", "verify-full")
        query = urlencode(options, quote_via=quote, safe="/")  # asyncpg takes a + for a plus
        dsn = f"postgresql://{parts.netloc}{parts.path}{'?' + query if query else ''}"
        return cls(dsn, f"postgresql://{host or options.get('host', '')}:{port}{parts.path}")


class PostgresBackend:
    """Connections to one PostgreSQL database. Every failure of the driver is Unavailable, without parameters in its text."""

    def __init__(self, address: Address, engine: AsyncEngine) -> None:
        self.where = address.where
        self._engine = engine
        self._rung = asyncio.Event()
        self._closed = False
        self._follower = Follower(address, self._rung)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect, bring the tables up to date, begin to listen. Raises Misconfigured, Unavailable."""
        address = Address.of(url)
        backend = cls(address, engine_of(address))
        try:
            async with backend.transaction(write=True) as connection:
                await connection.run_sync(migrate, address.where)
            await backend._follower.start()
        except BaseException:
            await backend.close()
            raise
        return backend

    async def close(self) -> None:
        self._closed = True
        await self._follower.close()
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def transaction(self, *, write: bool, lazy: bool = False) -> AsyncIterator[AsyncConnection]:
        """One consistent view, or, with `write`, one transaction that alone may write; the others are told when it commits.

        `lazy`: a failure of the server may undo it, and nobody needs to be told.
        """
        if self._closed:
            raise Unavailable(f"{self.where}: the store is closed")
        with told(self.where):
            async with self._engine.connect() as connection:
                if not write:
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    if write:
                        # what is read after this has been committed, and stays so: as if there were one writer
                        bell = ", set_config('synchronous_commit', 'off', true)" if lazy else f", pg_notify('{CHANNEL}', '')"
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITING}){bell}"))
                    yield connection

    async def run[T](self, work: Callable[[AsyncConnection], Awaitable[T]], *, write: bool, lazy: bool = False) -> T:
        """`work` in one `transaction`."""
        async with self.transaction(write=write, lazy=lazy) as connection:
            return await work(connection)

    def mark(self) -> tuple[object, float]:
        """What differs after anybody's commit, and the moment at which the server said so. Raises Unavailable."""
        view = self._follower.view
        if self._closed or view is None or time.monotonic() - view.at > MAX_AGE:
            raise Unavailable(f"{self.where}: the store does not answer{': ' + self._follower.failed if self._follower.failed else ''}")
        return view.mark, view.at

    def rows_now(self, statement: Select[Any]) -> list[dict[str, Any]]:
        """The rows of a watched statement as of `mark`."""
        self.mark()
        assert self._follower.view is not None
        return self._follower.view.rows[next(n for n, each in enumerate(WATCHED) if each is statement)]

    async def look(self) -> None:
        """Ask the server now. Raises Unavailable."""
        await self._follower.look()

    async def doze(self, hurried: asyncio.Event) -> None:
        """Until something has changed, or it is time to see whether the server still answers."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), LOOK)
        self._rung.clear()


@dataclass(frozen=True, slots=True)
class View:
    """What the server said at `at` (monotonic): a mark that differs after each commit, and the rows of each watched statement."""

    mark: str
    at: float
    rows: Sequence[list[dict[str, Any]]]


class Follower:
    """A thread with a loop and a connection of its own. `view` is replaced whole; nobody waits for it."""

    def __init__(self, address: Address, rung: asyncio.Event) -> None:
        self.view: View | None = None
        self.failed = ""
        self._address = address
        self._rung, self._callers = rung, asyncio.get_running_loop()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="follow the store", daemon=True)
        self._notified = asyncio.Event()
        self._asked: list[asyncio.Future[None]] = []  # of the callers' loop; answered after the next look
        self._stopping = False

    async def start(self) -> None:
        """Begin, and wait for the first view. Raises Unavailable."""
        self._thread.start()
        await self.look()

    async def look(self) -> None:
        """Wait until the server has been asked once more. Raises Unavailable when it does not answer."""
        if self._stopping or not self._thread.is_alive():
            raise Unavailable(f"{self._address.where}: the store is closed")
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop.call_soon_threadsafe(self._ask, asked)
        try:
            await asyncio.wait_for(asked, CONNECT + BUSY)
        except TimeoutError:
            raise Unavailable(f"{self._address.where}: the store does not answer") from None

    async def close(self) -> None:
        self._stopping = True
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._notified.set)
            await asyncio.to_thread(self._thread.join, CONNECT + BUSY)

    # --- in the thread

    def _ask(self, asked: asyncio.Future[None]) -> None:
        self._asked.append(asked)
        self._notified.set()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._follow())
        finally:
            self._answer("the store is closed")
            self._loop.close()

    async def _follow(self) -> None:
        while not self._stopping:
            try:
                with told(self._address.where):
                    await self._listen()
            except (Unavailable, Misconfigured) as error:
                self.failed = error.message.removeprefix(f"{self._address.where}: the store does not answer: ")
                self._answer(error.message)
                if not self._stopping:
                    self._notified.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._notified.wait(), LOOK)

    async def _listen(self) -> None:
        connection = await connect(self._address)
        try:
            connection.add_termination_listener(lambda _: self._notified.set())
            await connection.add_listener(CHANNEL, lambda *_: self._notified.set())
            while not self._stopping:
                self._notified.clear()
                await self._look(connection)
                self.failed = ""
                self._answer()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._notified.wait(), LOOK)
        finally:
            connection.terminate()

    async def _look(self, connection: Any) -> None:
        # who asked before this is answered by it; who asks later waits for the next
        self._answered, self._asked = self._asked, []
        at, view = time.monotonic(), self.view
        # the snapshot of transactions differs after every commit; reading takes no transaction number and changes nothing
        mark = await connection.fetchval("SELECT pg_current_snapshot()::text")
        if view is not None and mark == view.mark:
            self.view = View(mark, at, view.rows)
            return
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            at = time.monotonic()
            mark = await connection.fetchval("SELECT pg_current_snapshot()::text")
            rows = [[dict(row) for row in await connection.fetch(statement)] for statement in _STATEMENTS]
        self.view = View(mark, at, rows)
        with contextlib.suppress(RuntimeError):  # the callers' loop is closed
            self._callers.call_soon_threadsafe(self._rung.set)

    _answered: list[asyncio.Future[None]] = []  # noqa: RUF012 - replaced, never changed

    def _answer(self, failed: str = "") -> None:
        waiting, self._answered = self._answered, []
        if failed:
            waiting, self._asked = [*waiting, *self._asked], []
        for asked in waiting:
            with contextlib.suppress(RuntimeError):
                asked.get_loop().call_soon_threadsafe(_settle, asked, failed)


def _settle(asked: asyncio.Future[None], failed: str) -> None:
    if asked.done():
        return
    if failed:
        asked.set_exception(Unavailable(failed))
    else:
        asked.set_result(None)


_DIALECT: Any = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]
_STATEMENTS: Final = tuple(str(each.compile(dialect=_DIALECT)) for each in WATCHED)


def engine_of(address: Address, patience: float = BUSY) -> AsyncEngine:
    """A pool of connections for transactions of a moment; a statement is given up after `patience` seconds."""

    async def creator() -> Any:
        return await connect(address, patience)

    # hide_parameters: an error of the driver would otherwise quote what it was to store
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=creator,
        hide_parameters=True,
        pool_size=4,
        max_overflow=4,
        pool_pre_ping=True,
        pool_timeout=BUSY,
    )


async def connect(address: Address, patience: float = BUSY) -> Any:
    """A connection of the driver. Raises what the driver raises."""
    driver, milliseconds = _driver(), int(patience * 1000)
    settings = {**_SETTINGS, "lock_timeout": f"{milliseconds}", "statement_timeout": f"{milliseconds + 1000}"}
    return await driver.connect(address.dsn, timeout=CONNECT, command_timeout=patience + 2, server_settings=settings)


def _driver() -> Any:
    try:
        import asyncpg
    except ImportError:
        raise Misconfigured("store: the driver for PostgreSQL is not installed: pip install 'hopgate[postgres-store]'") from None
    return asyncpg


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Turn whatever the driver raises into one line that holds no parameters."""
    driver = _driver()
    try:
        yield
    except (SQLAlchemyError, driver.PostgresError, driver.InterfaceError, driver.InternalClientError, OSError, TimeoutError) as error:
        cause = error
        while (inner := getattr(cause, "orig", None) or cause.__cause__) is not None:
            cause = inner
        if isinstance(cause, driver.InvalidPasswordError | driver.InvalidAuthorizationSpecificationError | driver.InvalidCatalogNameError):
            raise Misconfigured(f"{where}: the server refuses: {_sentence(cause)}") from None
        if isinstance(cause, driver.InsufficientPrivilegeError):
            raise Misconfigured(f"{where}: hopgate's role lacks a privilege: {_sentence(cause)}") from None
        raise Unavailable(f"{where}: the store does not answer: {_sentence(cause)}") from None


def _sentence(cause: BaseException) -> str:
    """The first line of what the server or the system said; a server's message names objects and quotes no values."""
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    text = str(cause).splitlines()[0] if str(cause) else ""
    return text or type(cause).__name__
