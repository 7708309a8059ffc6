"""Principals, settings and a clock for tests of what waits and remembers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hopgate.approvals import Approvals
from hopgate.store import Store
from rules.model import Exact, Hold, Principal

NOW = 1_800_000_000.0


def person(subject: str, *groups: str, issuer: str = "corp", **fields: Any) -> Principal:
    return Principal(issuer, subject, frozenset(groups), token_id=f"token-of-{subject}", **fields)


AGENT = person("agent-7", "agents", actors=frozenset({"robot", "app-1"}), run="run-1")
ALICE = person("alice", "dba")
BOB = person("bob", "dba", "security")
CAROL = person("carol", "security")

HOLD = Hold("schema-needs-a-dba", ("dba",), scopes=("once", "fingerprint-15m"))
EXACT = Exact("DROP TABLE orders", "DROP TABLE orders", b"DROP TABLE orders\0orders")


class Clock:
    """Seconds since the epoch that pass when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Settings:
    """`approvals:` of a configuration."""

    reviewers: tuple[str, ...] = ()
    timeout: float = 600.0
    owners: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Desk:
    """Approvals on a store of their own, with what they told the ledger."""

    store: Store
    clock: Clock
    settings: Settings
    approvals: Approvals
    told: list[tuple[str, dict[str, Any]]]

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]

    async def ask(self, *, principal: Principal = AGENT, holds: tuple[Hold, ...] = (HOLD,), exact: Exact = EXACT, **fields: Any) -> str:
        approval = await self.approvals.request(
            principal, fields.pop("session", "s1"), fields.pop("connection", "orders"), holds, exact, **fields
        )
        return approval.id

    async def state(self, approval: str) -> str:
        found = await self.store.find_approval(approval)
        assert found is not None
        return found.state


@contextlib.asynccontextmanager
async def opened(state: Path | str) -> AsyncIterator[Store]:
    store = await Store.open(state)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def desk(state: Path | str, settings: Settings | None = None, epoch: str = "1") -> AsyncIterator[Desk]:
    clock, told = Clock(), []
    settings = settings or Settings()
    async with opened(state) as store:
        approvals = Approvals(
            store, settings, clock, lambda event, /, **fields: told.append((event, fields)), process="http-0", epoch=epoch
        )
        yield Desk(store, clock, settings, approvals, told)
        await approvals.close()
