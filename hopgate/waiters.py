"""Who waits in this process for approvals, woken by decisions of any process within 50 ms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from hopgate.errors import Denied
from hopgate.store import Approval, Store, Subscription


class Waiters:
    """The waiters of one process. The row is the truth: a wake-up only makes somebody read it."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._events: dict[str, set[asyncio.Event]] = {}
        self._starting = asyncio.Lock()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Follow the store. Raises Unavailable."""
        async with self._starting:
            if self._subscription is None:
                self._subscription = await self._store.subscribe(self._read, read_now=self._read_now)

    async def close(self) -> None:
        if self._subscription is not None:
            self._store.unsubscribe(self._subscription)
            self._subscription = None

    def wake(self, approval: str) -> None:
        """Let those who wait for this approval look at it again."""
        for event in self._events.get(approval, ()):
            event.set()

    async def until_decided(self, approval: str, timeout: float | None, expire: Callable[[], Awaitable[object]]) -> Approval:
        """The approval when it is pending no more, or as it is after `timeout` seconds. Raises Unavailable, and Denied if there is none."""
        event = asyncio.Event()
        self._events.setdefault(approval, set()).add(event)
        try:
            with self._store.hurried():
                await self.start()
                return await self._wait(approval, event, timeout, expire)
        finally:
            self._events[approval].discard(event)
            if not self._events[approval]:
                del self._events[approval]

    async def _wait(self, approval: str, event: asyncio.Event, timeout: float | None, expire: Callable[[], Awaitable[object]]) -> Approval:
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        while True:
            event.clear()
            found = await self._store.find_approval(approval)
            if found is None:
                raise Denied("there is no such approval")
            if not found.pending or (until is not None and loop.time() >= until):
                return found
            left = found.deadline - self._clock()
            if left <= 0:
                await expire()
                continue
            # the clock may jump and the store may go: nobody sleeps through either for more than a second
            pause = min(left, 1.0, 1.0 if until is None else max(0.0, until - loop.time()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), pause)

    async def _read(self) -> None:
        self._read_now()

    def _read_now(self) -> None:
        # without waiting: the driver's turns are most of the time between a decision and who waits for it
        if self._events:
            pending = self._store.pending_now()
            for approval in self._events.keys() - pending:
                self.wake(approval)
