"""What waits for reviewers, followed once for all who look: each gets told which cards came, changed or went."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from hopgate.errors import HopgateError, Unavailable
from hopgate.store import Approval, Store, Subscription
from hopgate.tasks import spawn

MAX_WATCHERS: Final = 256  # open pages; each holds a connection
BEAT: Final = 15.0  # seconds after which a silent stream says that it lives, or learns that nobody listens
LIMIT: Final = 1000

type Known = Mapping[str, tuple[int, int]]  # approval -> version and waiters, which is what a card shows of it


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done to a page. `count` is how many wait; `failed` why nothing can be said."""

    came: tuple[Approval, ...] = ()
    changed: tuple[Approval, ...] = ()
    went: tuple[str, ...] = ()
    count: int = 0
    failed: str = ""
    beat: bool = False


class Inbox:
    """The pending approvals as of the store's last change. `start` before use."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[str, Approval] = {}
        self._subscription: Subscription | None = None
        self._turn = asyncio.Condition()
        self._number = 0
        self._watchers = 0
        self._closed = False
        self._failed = ""
        self._probe: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the store and follow it. Raises Unavailable."""
        self._subscription = await self._store.subscribe(self._read)
        self._probe = spawn(self._probing(), name="inbox")

    async def close(self) -> None:
        """End every stream."""
        self._closed = True
        if self._probe is not None:
            self._probe.cancel()
        if self._subscription is not None:
            self._store.unsubscribe(self._subscription)
        await self._tell()

    @property
    def closed(self) -> bool:
        """Whether the console is stopping: streams end then."""
        return self._closed

    @property
    def pending(self) -> tuple[Approval, ...]:
        """The soonest deadline first."""
        return tuple(sorted(self._pending.values(), key=lambda each: (each.deadline, each.id)))

    async def _read(self) -> None:
        found = {each.id: each for each in await self._store.list_approvals("pending", limit=LIMIT)}
        if _known(found) != _known(self._pending) or self._failed:
            self._pending, self._failed = found, ""
            await self._tell()

    async def _probing(self) -> None:
        """A store that is gone tells nobody that it is: ask it now and then."""
        while True:
            await asyncio.sleep(2.0)
            failed = ""
            try:
                if self._subscription is not None:
                    await self._store.refresh(self._subscription)
            except HopgateError as error:
                failed = error.message
            if failed != self._failed:
                self._failed = failed
                await self._tell()

    async def _tell(self) -> None:
        async with self._turn:
            self._number += 1
            self._turn.notify_all()

    async def watch(self) -> AsyncIterator[Change]:
        """Everything there is as `came`, then what changes. Ends when the console closes. Raises Unavailable when too many watch."""
        if self._watchers >= MAX_WATCHERS:
            raise Unavailable(f"{MAX_WATCHERS} pages are open already: close some")
        self._watchers += 1
        try:
            seen: dict[str, tuple[int, int]] = {}
            number, first, failed = -1, True, ""
            while not self._closed:
                if number == self._number and not await self._changed(number):
                    yield Change(count=len(self._pending), beat=True)
                    continue
                number = self._number
                change = self._since(seen)
                seen = dict(_known(self._pending))
                if first or change.came or change.changed or change.went or change.failed != failed:
                    yield change
                first, failed = False, change.failed
        finally:
            self._watchers -= 1

    async def _changed(self, number: int) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT), self._turn:
                await self._turn.wait_for(lambda: self._number != number or self._closed)
        return self._number != number

    def _since(self, seen: Known) -> Change:
        pending = self.pending
        return Change(
            came=tuple(each for each in pending if each.id not in seen),
            changed=tuple(each for each in pending if each.id in seen and seen[each.id] != (each.version, each.waiters)),
            went=tuple(each for each in seen if each not in self._pending),
            count=len(pending),
            failed=self._failed,
        )


def _known(approvals: Mapping[str, Approval]) -> Known:
    return {name: (each.version, each.waiters) for name, each in approvals.items()}
