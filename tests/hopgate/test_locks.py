"""What every operation asks before it goes on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from hopgate.errors import Unavailable
from hopgate.locks import MAX_AGE, Locks
from hopgate.store import LockKind, SessionRow
from tests.hopgate.people import AGENT, NOW, opened
from tests.hopgate.places import Cut, Place


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("subject", "corp:agent-7", "corp:agent-7 is locked: why"),
        ("run", "run-1", "run run-1 is locked: why"),
        ("connection", "orders", "connection orders is locked: why"),
        ("all", "", "everything is locked: why"),
        ("subject", "ci:agent-7", None),
        ("subject", "corp:agent", None),
        ("run", "run-2", None),
        ("connection", "billing", None),
    ],
)
async def test_locks_shut_out_whom_they_name(place: Place, kind: LockKind, value: str, reason: str | None) -> None:
    async with opened(place) as store:
        locks = Locks(store)
        await locks.start()
        assert locks.is_locked(AGENT, "orders") is None
        await store.lock(kind, value, "corp:ops", "why")
        await locks.refresh()
        assert locks.is_locked(AGENT, "orders") == reason
        await store.unlock(kind, value)
        await locks.refresh()
        assert locks.is_locked(AGENT, "orders") is None
        await locks.close()


async def test_a_principal_without_a_run_is_not_locked_by_one(place: Place) -> None:
    async with opened(place) as store:
        locks = Locks(store)
        await store.lock("run", "run-1", "ops", "")
        await locks.start()
        assert locks.is_locked(replace(AGENT, run="")) is None
        assert locks.is_locked(AGENT) == "run run-1 is locked"


async def test_a_revoked_token_is_refused_by_digest_and_by_jti(place: Place) -> None:
    async with opened(place) as store:
        locks = Locks(store)
        await locks.start()
        for token_id in (AGENT.token_id, "jti-1"):
            await store.revoke(token_id, time.time() + 60, "ops")
        await locks.refresh()
        other = replace(AGENT, token_id="other")
        assert locks.is_locked(AGENT) == "the token was revoked"
        assert locks.is_locked(replace(other, claims={"jti": "jti-1"})) == "the token was revoked"
        assert locks.is_locked(replace(other, claims={"jti": ["jti-1"]})) is None
        assert locks.is_locked(other) is None
        assert locks.is_revoked("x", "jti-1")
        assert not locks.is_revoked("x")


async def test_a_killed_session_is_told_so(place: Place) -> None:
    async with opened(place) as store:
        await store.save_session(SessionRow("s1", "corp", "a", "orders", "http", "http-0", NOW))
        locks = Locks(store)
        await locks.start()
        assert locks.is_killed("s1") is None
        await store.request_kill("session", "s1", "corp:ops")
        await locks.refresh()
        assert locks.is_killed("s1") == "killed by corp:ops"
        assert locks.is_killed("s2") is None


async def test_before_it_has_been_read_nobody_passes(place: Place) -> None:
    async with opened(place) as store:
        locks = Locks(store)
        for ask in (lambda: locks.is_locked(AGENT), lambda: locks.is_killed("s"), lambda: locks.is_revoked("t")):
            with pytest.raises(Unavailable):
                ask()
        with pytest.raises(Unavailable):
            await locks.refresh()


async def test_a_view_that_is_too_old_and_cannot_be_confirmed_lets_nobody_pass(place: Place, cut: Cut) -> None:
    async with opened(place) as store, opened(place) as other:
        locks = Locks(store)
        await locks.start()
        subscription = locks._subscription
        assert subscription is not None

        subscription.seen -= MAX_AGE + 1
        assert locks.is_locked(AGENT) is None  # the loop was busy, but nothing has changed: found out at once

        await other.lock("subject", str(AGENT), "ops", "stolen")
        await other.revoke("t", 4e9, "ops")
        until = time.monotonic() + 30
        while locks.is_locked(AGENT) is None and time.monotonic() < until:
            # it has changed, and is read however busy the loop is: here it does not turn at all
            subscription.seen -= MAX_AGE + 1
            time.sleep(0.01)  # noqa: ASYNC251
        assert locks.is_locked(AGENT) == f"{AGENT} is locked: stolen"
        while not locks.is_revoked("t") and time.monotonic() < until:
            subscription.seen -= MAX_AGE + 1
            time.sleep(0.01)  # noqa: ASYNC251

        await cut()
        subscription.seen -= MAX_AGE + 1
        with pytest.raises(Unavailable):
            locks.is_locked(AGENT)
