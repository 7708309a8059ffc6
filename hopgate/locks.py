"""Who is shut out: revoked tokens, locks and kills, kept in memory so that every operation can ask without waiting.

The view follows the store within 250 ms. One that may be older than a second answers nothing: it raises Unavailable, and nothing passes.
"""

from __future__ import annotations

from typing import Final

from hopgate.errors import Unavailable
from hopgate.store import Kill, Lock, Store, Subscription
from rules.model import Principal

MAX_AGE: Final = 1.0  # seconds within which revocations and locks are in force


class Locks:
    """The store's revocations, locks and kills as of at most a second ago. `start` before use."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._subscription: Subscription | None = None
        self._revoked: frozenset[str] = frozenset()
        self._locks: dict[tuple[str, str], Lock] = {}
        self._kills: dict[str, Kill] = {}

    async def start(self) -> None:
        """Read the store and follow it. Raises Unavailable."""
        self._subscription = await self._store.subscribe(self._read, read_now=self._read_now)

    async def close(self) -> None:
        if self._subscription is not None:
            self._store.unsubscribe(self._subscription)
            self._subscription = None

    async def refresh(self) -> None:
        """Read the store now, instead of up to 250 ms later. Raises Unavailable."""
        if self._subscription is None:
            raise Unavailable("revocations and locks are not being followed")
        await self._store.refresh(self._subscription)

    async def _read(self) -> None:
        self._read_now()

    def _read_now(self) -> None:
        revoked, locks, kills = self._store.shut_out_now()
        self._revoked = revoked
        self._locks = {(each.kind, each.value): each for each in locks}
        self._kills = {each.session: each for each in kills}

    def is_locked(self, principal: Principal, connection: str = "") -> str | None:
        """Why this principal may do nothing (on this connection), or None. Sync and about a microsecond; raises Unavailable."""
        self._check()
        claims = principal.claims
        if not self._revoked.isdisjoint((principal.token_id, str(claims.get("jti")), str(claims.get("ssh_serial")))):
            return "the token was revoked"
        if not self._locks:
            return None
        for what, lock in (
            (str(principal), self._locks.get(("subject", str(principal)))),
            (f"run {principal.run}", self._locks.get(("run", principal.run)) if principal.run else None),
            (f"connection {connection}", self._locks.get(("connection", connection)) if connection else None),
            ("everything", self._locks.get(("all", ""))),
        ):
            if lock is not None:
                return f"{what} is locked{': ' + lock.reason if lock.reason else ''}"
        return None

    def is_revoked(self, *token_ids: str) -> bool:
        """Whether any of these (a token's SHA-256 as hex, or its `jti`) is revoked. Raises Unavailable."""
        self._check()
        return not self._revoked.isdisjoint(token_ids)

    def is_killed(self, session: str) -> str | None:
        """Why this session must end now, or None. Raises Unavailable."""
        self._check()
        kill = self._kills.get(session)
        return None if kill is None else f"killed by {kill.by}"

    def _check(self) -> None:
        if self._subscription is None or (self._subscription.age > MAX_AGE and not self._store.confirm(self._subscription)):
            raise Unavailable("revocations and locks cannot be read: the store does not answer")
