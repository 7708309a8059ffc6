"""Transactions on the store that the processes of a gateway share, and the doorbell that says that something changed.

The rows are the truth; how one learns of a change is the backend's: SQLite is looked at, PostgreSQL notifies.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, Self, cast

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.errors import Unavailable
from hopgate.store.sqlite import SqliteBackend
from hopgate.tasks import spawn


class Backend(Protocol):
    """One kind of database."""

    @property
    def where(self) -> str:
        """Which database, for people; without a password."""
        ...

    async def close(self) -> None: ...

    def transaction(self, *, write: bool, lazy: bool = False) -> contextlib.AbstractAsyncContextManager[AsyncConnection]:
        """One consistent view, or, with `write`, one transaction that alone may write. `lazy`: a power failure may undo it."""
        ...

    async def run[T](self, work: Callable[[AsyncConnection], Awaitable[T]], *, write: bool, lazy: bool = False) -> T:
        """The result of `work` in such a transaction. It may run in another thread, and wait for its connection alone."""
        ...

    def mark(self) -> tuple[object, float]:
        """What differs after anybody's commit, and the (monotonic) moment at which it was so. Without waiting. Raises Unavailable."""
        ...

    def rows_now(self, statement: Select[Any]) -> list[dict[str, Any]]:
        """The rows of one of the statements in `hopgate.store.watched` as of `mark`, without waiting. Raises Unavailable."""
        ...

    async def look(self) -> None:
        """Make `mark` be of this moment. Raises Unavailable."""

    async def doze(self, hurried: asyncio.Event) -> None:
        """Wait until something may have changed; less long while `hurried`."""


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

    def __init__(self, backend: Backend) -> None:
        self.where = backend.where
        self._backend = backend
        self._heard: object = None
        self._generation = 0
        self._writing = asyncio.Lock()
        self._subscriptions: list[Subscription] = []
        self._hurry = 0
        self._hurried = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, place: Path | str) -> Self:
        """Open the store: `place`/state.db for a directory, made if missing, or the PostgreSQL database of a URL.

        Raises Misconfigured when it is no database of ours, is from a newer hopgate or lies where others may write; Unavailable otherwise.
        """
        if isinstance(place, str):
            from hopgate.store.postgres import PostgresBackend  # its driver is an extra

            return cls(await PostgresBackend.open(place))
        return cls(await SqliteBackend.open(place))

    async def close(self) -> None:
        """Stop watching, let transactions that have begun finish, and let go of the database."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        while self._running:  # of callers that were cancelled, too: a connection that is still in use would never be closed
            await asyncio.wait(tuple(self._running))
        await self._backend.close()

    async def read[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` on one consistent view of the database. It may run in another thread, and waits for its connection alone."""
        return await self._shielded(self._reading(work))

    async def write[T](self, work: Callable[[AsyncConnection], Awaitable[T]], *, lazy: bool = False) -> T:
        """Run `work` in a transaction that alone may write. What it raises undoes it; a caller that is cancelled meanwhile does not.

        It may run in another thread, and waits for its connection alone. `lazy` is for what may be lost with the machine's power: it
        holds up nobody with a sync.
        """
        return await self._shielded(self._alone(work, lazy))

    async def write_here[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """As `write`, in the loop's own thread, for work that does something else as well."""
        return await self._shielded(self._alone_here(work))

    async def _shielded[T](self, transaction: Coroutine[Any, Any, T]) -> T:
        # a cancelled caller must not leave a COMMIT half awaited: nobody would know what the database holds
        task = spawn(_outcome(transaction), name="store transaction")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        result, error = await asyncio.shield(task)
        if error is not None:
            raise error
        return cast("T", result)

    async def _reading[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        return await self._backend.run(work, write=False)

    async def _alone[T](self, work: Callable[[AsyncConnection], Awaitable[T]], lazy: bool = False) -> T:
        async with self._writing:
            return await self._backend.run(work, write=True, lazy=lazy)

    async def _alone_here[T](self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._writing, self._backend.transaction(write=True) as connection:
            return await work(connection)

    def changed(self) -> bool:
        """Whether any connection, of this process or another, has committed since the last call. Raises Unavailable."""
        return self._listen()[0]

    def _listen(self) -> tuple[bool, float]:
        """Whether something has changed since the last call, and the moment of which that is known."""
        heard: object = None
        at = float("-inf")
        try:
            heard, at = self._backend.mark()
        finally:
            changed = heard != self._heard or heard is None
            self._heard = heard
            self._generation += changed  # after a failure too: whatever happened meanwhile must be read
        return changed, at

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
        _, at = self._listen()
        generation = self._generation
        if subscription.generation != generation:
            if subscription.read_now is None:
                return False
            subscription.read_now()
        subscription.generation, subscription.seen = generation, at
        return True

    def rows_now(self, statement: Select[Any]) -> list[dict[str, Any]]:
        """The rows of one of the statements in `hopgate.store.watched`, read without waiting. Raises Unavailable."""
        return self._backend.rows_now(statement)

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """Look more often while inside."""
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
            await self._backend.doze(self._hurried)

    async def look(self) -> None:
        """Bring every view up to date if the database has changed. One that fails is tried again next time, and its age grows."""
        stale = [each for each in tuple(self._subscriptions) if not self._stands(each)]
        # together: who waits for an approval does not wait for views that take longer
        await asyncio.gather(*(self._try_to_refresh(each) for each in stale))

    def _stands(self, subscription: Subscription) -> bool:
        try:
            return self.confirm(subscription)
        except Unavailable:
            return False

    async def _try_to_refresh(self, subscription: Subscription) -> None:
        with contextlib.suppress(Unavailable):
            await self.refresh(subscription)

    async def refresh(self, subscription: Subscription) -> None:
        """Bring one view up to date now. Raises what reading raises."""
        async with subscription.reading:  # or an older answer could arrive after a newer one
            await self._backend.look()
            _, at = self._listen()
            generation = self._generation
            await subscription.read()
            subscription.generation, subscription.seen = generation, at


async def _outcome[T](transaction: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    try:
        return await transaction, None
    except Exception as error:
        return None, error
