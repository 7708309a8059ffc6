"""The sessions of one process: opening, finding, ending them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from hopgate.errors import Denied
from hopgate.sessions.opening import session_operation
from hopgate.sessions.session import CLOCK_SKEW, Session
from hopgate.tasks import spawn
from rules.model import Connection, Decision, Operation, Principal

if TYPE_CHECKING:
    from hopgate.approvals import Approvals
    from hopgate.config import Config, ConnectionConfig
    from hopgate.ledger import Ledger
    from hopgate.locks import Locks
    from hopgate.metrics import Metrics
    from hopgate.recordings import Recordings
    from hopgate.rulefiles import RuleFiles
    from hopgate.store import Store

SAVE = 5.0  # seconds between updates of a session's row in the store
IDLE = 15 * 60.0  # seconds after which an unused HTTP session ends


class SessionRefused(Denied):
    """The session may not start. `decision.effect` is `deny`, or `hold` while reviewers have not decided."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message, rules=decision.rules, operation=decision.operation)
        self.decision = decision


class Sessions:
    """The live sessions of this process."""

    def __init__(
        self,
        *,
        config: Config,
        rules: RuleFiles,
        locks: Locks,
        store: Store,
        ledger: Ledger,
        recordings: Recordings,
        approvals: Approvals,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.rules = rules
        self.locks = locks
        self.store = store
        self.ledger = ledger
        self.recordings = recordings
        self.approvals = approvals
        self.metrics = metrics
        self.clock = clock
        self.monotonic = monotonic
        self._zone = ZoneInfo(config.timezone)
        self._shared: dict[tuple[str, str], Session] = {}
        self._opening: dict[tuple[str, str], asyncio.Lock] = {}
        self._live: set[Session] = set()

    def find(self, principal: Principal, connection: str, peer: str) -> Session | None:
        """The live shared session of this token on this connection, if there is one that may be used from `peer`."""
        session = self._shared.get((principal.token_id, connection))
        return None if session is None or session.closed or not session.peers.welcomes(peer) else session

    async def enter(self, principal: Principal, connection: ConnectionConfig, *, peer: str, wait: float | None = None) -> Session:
        """Find or open the one session that a token has on a connection: what HTTP calls a session. Raises like `open`."""
        key = (principal.token_id, connection.name)
        async with self._opening.setdefault(key, asyncio.Lock()):
            session = self._shared.get(key)
            if session is None or session.closed:
                session = self._shared[key] = await self.open(principal, connection, peer=peer, wait=wait, outlives=True)
            elif not session.peers.welcomes(peer):
                # whoever shares the token does not share the place that session rules may have asked for
                decision = await session.authorize(self.opening(session.view, peer), wait=wait, outlives=True)
                if not decision.allowed:
                    raise SessionRefused(decision)
                session.note("session_joined", peer=peer)
                session.peers.welcome(peer, decision)
        return session

    async def open(
        self,
        principal: Principal,
        connection: ConnectionConfig,
        *,
        peer: str,
        wait: float | None = None,
        outlives: bool = False,
        held: Callable[[Decision], None] | None = None,
    ) -> Session:
        """Start a session if the session rules allow it. Raises SessionRefused, Unavailable. `held`: as for `Session.authorize`."""
        session = Session(self, principal, connection, peer)
        decision = await session.authorize(self.opening(session.view, peer), wait=wait, outlives=outlives, held=held)
        if not decision.allowed:
            raise SessionRefused(decision)
        try:
            await session.admit(decision)
        except BaseException:
            # half open: the recording is there already, and a caller that went away leaves nobody to close it
            await asyncio.shield(spawn(session.close("the session did not open"), name="close a half-open session"))
            raise
        self._live.add(session)
        self.metrics.sessions.set(len(self._live))
        return session

    def opening(self, view: Connection, peer: str) -> Operation:
        """The `session` operation of this moment."""
        return session_operation(view, peer, datetime.fromtimestamp(self.clock(), self._zone))

    async def sweep(self) -> None:
        """End what has expired, idled, been locked or killed. Runs every second; the checks of `authorize` do not wait for it."""
        now = self.clock()
        for session in tuple(self._live):
            reason = (
                session.closed or self.locks.is_locked(session.principal, session.connection.name) or self.locks.is_killed(session.id) or ""
            )
            if not reason and now >= session.principal.expires_at + CLOCK_SKEW:
                reason = "the token has expired"
            if not reason and now - session.used_at > IDLE and not session.busy:
                reason = "idle"
            if reason:
                await session.close(reason)
            else:
                await session.save(every=SAVE)
        for key in [key for key, lock in self._opening.items() if not lock.locked() and key not in self._shared]:
            del self._opening[key]

    async def forget(self, session: Session) -> None:
        """Take a closed session off the books. Called by `Session.close`."""
        if session not in self._live:
            return
        self._live.discard(session)
        key = (session.principal.token_id, session.connection.name)
        if self._shared.get(key) is session:
            del self._shared[key]
        self.metrics.sessions.set(len(self._live))

    async def close(self, reason: str) -> None:
        """End every session."""
        for session in tuple(self._live):
            await session.close(reason)
