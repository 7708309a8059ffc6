"""The bundle that every adapter gets: built once at start, in order, and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, Self

from hopgate import ledger_format
from hopgate.anchors import Anchors
from hopgate.approvals import Approvals
from hopgate.config import Config
from hopgate.credentials import Credentials
from hopgate.errors import HopgateError
from hopgate.identity import Identity
from hopgate.ledger import Ledger, ledger_key
from hopgate.locks import Locks
from hopgate.metrics import Metrics
from hopgate.recordings import Recordings
from hopgate.rulefiles import RuleFiles
from hopgate.sessions import Sessions
from hopgate.shared_store import open_store
from hopgate.store import Store
from hopgate.tasks import spawn

_log = logging.getLogger("hopgate")


@dataclass(slots=True)
class Services:
    """Everything that remembers or waits, for one process. Adapters read the fields; nobody replaces them."""

    config: Config
    process: str  # names this process in the ledger: "http-0"
    rules: RuleFiles
    store: Store
    locks: Locks
    identity: Identity
    ledger: Ledger
    recordings: Recordings
    approvals: Approvals
    credentials: Credentials
    sessions: Sessions
    metrics: Metrics
    anchors: Anchors | None = None  # its `error` says why heads are not kept elsewhere
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    _closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @classmethod
    async def start(cls, config: Config, *, process: str) -> Self:
        """Open everything. Raises Misconfigured or Unavailable with nothing left open: then nothing is served."""
        async with contextlib.AsyncExitStack() as closing:
            services = await cls._open(config, process, closing)
            services.ledger.append("rules_loaded", version=services.rules.current.version, rules=len(services.rules.current.rules))
            await services.ledger.durable()
            services._begin()
            services._closing = closing.pop_all()
        return services

    @classmethod
    async def _open(cls, config: Config, process: str, closing: contextlib.AsyncExitStack) -> Self:
        """Everything that can fail, in the order in which each needs the one before; `closing` undoes it."""
        process = config.process_name(process)
        rules = RuleFiles(config)
        store = await open_store(config)
        closing.push_async_callback(store.close)
        credentials = Credentials(config, store)
        closing.push_async_callback(credentials.close)
        anchor = await credentials.sources.render(config.ledger.anchor) if config.ledger.anchor is not None else None
        ledger = await _open_ledger(config, store, process)
        anchors = Anchors(anchor.reveal(), ledger, every=config.ledger.anchor_every) if anchor is not None else None
        closing.push_async_callback(_close_ledger, ledger, store, anchors)
        for session in await store.end_orphans(process, time.time()):
            ledger.append("session_interrupted", session=session)
        locks = Locks(store)
        await locks.start()
        closing.push_async_callback(locks.close)
        identity = Identity(config, store, locks)
        await identity.start()
        closing.push_async_callback(identity.close)
        epoch = secrets.token_hex(8)  # who waited for an approval under another epoch of this process is gone
        approvals = Approvals(store, config.approvals, ledger_event=ledger.append, process=process, epoch=epoch)
        await approvals.start()
        closing.push_async_callback(approvals.close)
        await approvals.cancel_orphans(epoch, process)
        recordings = Recordings(config.state, ledger, config.recordings)
        await recordings.recover()
        metrics = Metrics()
        sessions = Sessions(
            config=config,
            rules=rules,
            locks=locks,
            store=store,
            ledger=ledger,
            recordings=recordings,
            approvals=approvals,
            metrics=metrics,
        )
        return cls(config, process, rules, store, locks, identity, ledger, recordings, approvals, credentials, sessions, metrics, anchors)

    def _begin(self) -> None:
        """Start what runs beside the callers."""
        if self.anchors is not None:
            self.anchors.start()
        self._tasks = [
            spawn(_every(1.0, self._refresh_rules), name="rules"),
            spawn(_every(1.0, self.sessions.sweep), name="sweep"),
            spawn(_every(1.0, self.approvals.expire), name="expire approvals"),
            spawn(_every(1.0, self.metrics.flush), name="metrics"),
            spawn(_every(3600.0, self._forget), name="retention"),
        ]

    async def close(self) -> None:
        """End every session, write what is left, close. Raises nothing: what fails is logged."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.sessions.close("the gateway is stopping")
            await self.metrics.flush()
            await self._closing.aclose()
        except HopgateError as error:
            _log.error("not everything was closed: %s", error)

    async def _refresh_rules(self) -> None:
        before = self.rules.error
        if await self.rules.refresh():
            self.ledger.append("rules_loaded", version=self.rules.current.version, rules=len(self.rules.current.rules))
            _log.warning("rules %s are in force", self.rules.current.version)
        elif self.rules.error is not None and self.rules.error is not before:
            self.ledger.append("rules_refused", problems=list(self.rules.error.problems[:20]), version=self.rules.current.version)
            _log.error("the changed rule files are not in force; the old rules are: %s", self.rules.error)
        self.metrics.rules_stale.set(self.rules.error is not None)

    async def _forget(self) -> None:
        """Delete recordings, and rows about what is over, when their time has come."""
        now, retention = time.time(), self.config.recordings.retention
        await self.recordings.expire(now)
        if retention is not None:
            pruned = await self.store.prune(now - retention)
            if any(astuple(pruned)):
                self.ledger.append("pruned", **asdict(pruned))


async def _open_ledger(config: Config, store: Store, process: str) -> Ledger:
    known = next((row for row in await store.list_heads() if row.process == process), None)

    def remember(head: ledger_format.Head) -> None:
        spawn(store.save_head(head.process, head.i, head.h, head.final, head.t / 1e9), name="remember the ledger's head")

    return Ledger(
        config.state / "ledger",
        process,
        ledger_key(config.state),
        known=None if known is None else ledger_format.Head(process, known.n, int(known.at * 1e9), known.final, known.head, ""),
        on_head=remember,
    )


async def _close_ledger(ledger: Ledger, store: Store, anchors: Anchors | None) -> None:
    """Write the final head; let the store and the anchor remember it, so that an end which is cut off later shows."""
    try:
        ledger.close()
    finally:
        if (head := ledger.head) is not None:
            await store.save_head(head.process, head.i, head.h, head.final, head.t / 1e9)
        if anchors is not None:
            await anchors.close()


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work` again and again. One failure is told and does not end the rest: each gate fails closed by itself."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:
            # an unexpected error's text may quote a secret; ours never do
            _log.error("%s: %s", getattr(work, "__qualname__", "task"), error if isinstance(error, HopgateError) else type(error).__name__)
