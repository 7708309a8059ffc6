"""Leave to pass what was decided before: for a moment, counted, and gone with whatever ends the session or changes its rules."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hopgate.errors import Unavailable
from hopgate.sessions.permit import PERMIT_SECONDS, SETTLE_SECONDS, Permit
from rules.model import Decision
from tests.hopgate.sessions.test_session import AGENT, RULES, World, request, rules_of, world

UNLIMITED = RULES.replace("    limits: {operations_per_minute: 5, bytes: 1MB}\n", "")


class Adapter:
    """Passes reads of one kind."""

    def __init__(self, permit_of: World) -> None:
        self.world = permit_of
        self.count = 0

    async def open(self) -> Permit:
        self.session = await self.world.enter()
        known = self.session.authorize_now(request())
        assert known is not None
        self.known = known
        self.permit = self.session.permit(self.report)
        return self.permit

    def report(self) -> list[tuple[object, Decision, int]]:
        count, self.count = self.count, 0
        return [(request(), self.known, count)] if count else []


async def test_what_passes_is_in_the_ledger_with_its_number(tmp_path: Path) -> None:
    async with world(tmp_path, UNLIMITED) as w:
        adapter = Adapter(w)
        permit = await adapter.open()
        assert permit.renew() == w.now + PERMIT_SECONDS
        adapter.count = 40
        await asyncio.sleep(SETTLE_SECONDS * 2)  # nobody calls: the permit settles by itself
        assert adapter.count == 0
        adapter.count = 2
        await adapter.session.authorize(request(path="/admin/x"))
        lines = [(line["operation"].partition(".")[2], line.get("count", 1), line["effect"]) for line in (await w.events("decided"))[1:]]
        assert lines == [("2", 1, "allow"), ("3", 40, "allow"), ("43", 2, "allow"), ("45", 1, "deny")]


async def test_the_last_is_told_when_the_session_ends(tmp_path: Path) -> None:
    async with world(tmp_path, UNLIMITED) as w:
        adapter = Adapter(w)
        permit = await adapter.open()
        permit.renew()
        adapter.count = 7
        await adapter.session.close("enough")
        assert (await w.events("decided"))[-1]["count"] == 7
        (closed,) = await w.events("session_closed")
        assert closed["operations"] == 9
        assert permit.renew() == 0.0


@pytest.mark.parametrize(
    "rules", [RULES, UNLIMITED.replace("effect: allow\n  - {id: read", "match: {hour: {gte: 0}}\n    effect: allow\n  - {id: read")]
)
async def test_limits_and_times_give_none(tmp_path: Path, rules: str) -> None:
    async with world(tmp_path, rules) as w:
        assert (await Adapter(w).open()).renew() == 0.0


async def test_expiry_locks_and_rules_end_it(tmp_path: Path) -> None:
    async with world(tmp_path, UNLIMITED) as w:
        permit = await Adapter(w).open()
        assert permit.renew() > 0
        await w.store.lock("subject", str(AGENT), "ops", "suspicious")
        await w.locks.refresh()
        assert permit.renew() == 0.0
    (tmp_path / "expired").mkdir()
    async with world(tmp_path / "expired", UNLIMITED) as w:
        permit = await Adapter(w).open()
        w.now = AGENT.expires_at + 60
        assert permit.renew() == 0.0
    (tmp_path / "rules").mkdir()
    async with world(tmp_path / "rules", UNLIMITED) as w:
        permit = await Adapter(w).open()
        w.files.current = rules_of("version: 1\nrules: []\n")
        assert permit.renew() == 0.0


async def test_a_ledger_that_has_failed_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, UNLIMITED) as w:
        permit = await Adapter(w).open()
        assert permit.renew() > 0
        monkeypatch.setattr(w.ledger, "failed", "ledger http-0 cannot be written: no space left on device")
        assert permit.renew() == 0.0


async def test_a_ledger_that_fails_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, UNLIMITED) as w:
        adapter = Adapter(w)
        permit = await adapter.open()
        permit.renew()
        adapter.count = 3

        def fail(*_: object, **__: object) -> int:
            raise Unavailable("ledger http-0 cannot be written: no space left on device")

        monkeypatch.setattr(w.ledger, "append", fail)
        await asyncio.sleep(SETTLE_SECONDS * 2)
        assert "no space left" in adapter.session.closed
        assert permit.renew() == 0.0
