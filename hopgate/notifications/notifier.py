"""Tells reviewers' channels what waits: once each, tried again when it fails, and never in the way of an operation.

The rows say who is told and who was; whichever process claims an attempt by compare-and-set makes it. A process that ends in the middle
of an attempt leaves a claim that runs out: then it is made again, as nobody knows whether it arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self

from hopgate.config import Config
from hopgate.errors import HopgateError, Misconfigured, Unavailable
from hopgate.notifications.channels import AppriseChannel, Channel, WebhookChannel
from hopgate.notifications.message import message_of
from hopgate.references import Template
from hopgate.sources import Sources
from hopgate.store import Notification, Store
from hopgate.tasks import spawn

ATTEMPTS: Final = 8
FIRST_PAUSE: Final = 2.0  # seconds before the second attempt, three times as long before each further one
LONGEST_PAUSE: Final = 300.0
CLAIM: Final = 60.0  # seconds for an attempt, after which another process may make it
LOOK: Final = 1.0  # seconds between looks for attempts that have become due
AT_ONCE: Final = 8

_log = logging.getLogger("hopgate.notifications")


class Counter(Protocol):
    """Counts how attempts ended: sent, retried, failed, dropped."""

    def __call__(self, outcome: str, /) -> None: ...


class Notifier:
    """One process's part in telling. `start` to follow the store."""

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        *,
        console: str = "",
        count: Counter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._console, self._clock = store, console, clock
        self._channels = {channel.name: channel for channel in channels}
        self._count = count or (lambda _: None)
        self._rung = {channel.name: asyncio.Event() for channel in channels}
        self._following: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, config: Config, store: Store, sources: Sources, *, console: str = "", count: Counter | None = None) -> Self:
        """The channels of the configuration. Raises Misconfigured for one that can be seen to be wrong."""
        channels: list[AppriseChannel | WebhookChannel] = []
        for index, url in enumerate(config.approvals.notify):
            channels.append(AppriseChannel(_name("notify", index, url), url, sources))
        for index, hook in enumerate(config.approvals.webhooks):
            channels.append(WebhookChannel(_name("webhooks", index, None), hook.url, hook.secret, sources))
        for channel in channels:
            await channel.check()
        return cls(store, channels, console=console, count=count)

    async def start(self) -> None:
        """Follow the store, each channel in a task of its own: one that hangs holds up no other. Raises Unavailable."""
        if self._channels and not self._following:
            self._subscription = await self._store.subscribe(self._ring)
            self._following = [spawn(self._follow(name), name="notify") for name in self._channels]

    async def close(self) -> None:
        if self._following:
            self._store.unsubscribe(self._subscription)
            for task in self._following:
                task.cancel()
            await asyncio.gather(*self._following, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    async def work(self, channel: str | None = None) -> int:
        """Make every attempt (of `channel`) that is due and that nobody else makes; gives how many. Raises Unavailable."""
        names = tuple(self._channels) if channel is None else (channel,)
        await self._store.plan_notifications(names, self._clock())
        due = await self._store.due_notifications(self._clock(), names)
        limit = asyncio.Semaphore(AT_ONCE)
        made = await asyncio.gather(*(self._attempt(each, limit) for each in due))
        return sum(made)

    async def _ring(self) -> None:
        for rung in self._rung.values():
            rung.set()

    async def _follow(self, channel: str) -> None:
        rung = self._rung[channel]
        while True:
            rung.clear()
            try:
                await self.work(channel)
            except Unavailable as error:
                _log.warning("nobody can be notified: %s", error)
            except Exception as error:
                _log.error("nobody can be notified: %s", type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), LOOK)

    async def _attempt(self, found: Notification, limit: asyncio.Semaphore) -> bool:
        async with limit:
            now = self._clock()
            if not await self._store.claim_notification(found, now, now + CLAIM):
                return False
            approval = await self._store.find_approval(found.approval)
            if approval is None or not approval.pending or approval.deadline <= now:
                await self._store.settle_notification(found.approval, found.target, "dropped")
                self._count("dropped")
                return True
            try:
                await self._channels[found.target].send(message_of(approval, self._console))
            except HopgateError as error:
                await self._again(found, error, approval.deadline)
            except Exception as error:
                await self._again(found, Unavailable(f"{found.target}: {type(error).__name__}"), approval.deadline)
            else:
                await self._store.settle_notification(found.approval, found.target, "sent")
                self._count("sent")
            return True

    async def _again(self, found: Notification, error: HopgateError, deadline: float) -> None:
        """Another attempt later, unless there were enough, or it would come too late, or nothing but the configuration can help."""
        pause = min(FIRST_PAUSE * 3**found.attempts, LONGEST_PAUSE)
        due = self._clock() + pause
        given_up = found.attempts + 1 >= ATTEMPTS or due >= deadline or isinstance(error, Misconfigured)
        _log.warning("approval %s: %s; %s", found.approval[:12], error.message, "given up" if given_up else f"again in {pause:g} s")
        self._count("failed" if given_up else "retried")
        state = "failed" if given_up else "waiting"
        await self._store.settle_notification(found.approval, found.target, state, error=error.message, due_at=due)  # type: ignore[arg-type]


def _name(key: str, index: int, url: Template | None) -> str:
    """`notify[0] slack`: the scheme is no secret, whatever comes after it may be."""
    scheme = ""
    if url is not None and url.parts and isinstance(url.parts[0], str) and "://" in url.parts[0]:
        scheme = url.parts[0].partition("://")[0]
    return f"{key}[{index}]{' ' + scheme if scheme.isalnum() else ''}"
