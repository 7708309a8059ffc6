"""Sessions, tokens, revocations, locks, kills, heads."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from hopgate.errors import Denied
from hopgate.store import Head, Pruned, SessionRow, pruning
from tests.hopgate.people import ALICE, EXACT, NOW, desk, opened
from tests.hopgate.places import Place

ROW = SessionRow("s1-aa", "corp", "agent-7", "orders", "http", "http-0", NOW, groups=("agents", "ci"), run="run-1", peer="10.0.0.1")


async def test_a_session_from_its_opening_to_its_end(place: Place) -> None:
    async with opened(place) as store:
        await store.save_session(ROW)
        assert await store.find_session("s1-aa") == ROW
        busy = replace(ROW, operations=3, bytes=2**40, active_at=NOW + 1)
        await store.save_session(busy)
        await store.end_session("s1-aa", "idle", NOW + 2)
        await store.end_session("s1-aa", "again", NOW + 3)
        assert await store.list_sessions() == (replace(busy, ended_at=NOW + 2, reason="idle"),)


async def test_sessions_are_listed_by_what_one_asks_for(place: Place) -> None:
    rows = [
        ROW,
        replace(ROW, id="s2-bb", connection="billing", opened_at=NOW + 1),
        replace(ROW, id="s3-bc", subject="x", opened_at=NOW + 2, ended_at=NOW + 3),
    ]
    async with opened(place) as store:
        for row in rows:
            await store.save_session(row)

        async def ids(**asked: object) -> list[str]:
            return [row.id for row in await store.list_sessions(**asked)]  # type: ignore[arg-type]

        assert await ids() == ["s3-bc", "s2-bb", "s1-aa"]
        assert await ids(active=True) == ["s2-bb", "s1-aa"]
        assert await ids(active=False) == ["s3-bc"]
        assert await ids(identity="corp:x") == ["s3-bc"]
        assert await ids(connection="billing") == ["s2-bb"]
        assert await ids(since=NOW + 1, limit=1) == ["s3-bc"]


@pytest.mark.parametrize(("prefix", "found"), [("s2", "s2-b"), ("s2-b", "s2-b"), ("s3", None), ("", None), ("%", None), ("s_", None)])
async def test_a_session_is_found_by_the_start_of_its_id(place: Place, prefix: str, found: str | None) -> None:
    async with opened(place) as store:
        for name in ("s1-a", "s1-b", "s2-b"):
            await store.save_session(replace(ROW, id=name))
        row = await store.find_session(prefix)
        assert (row.id if row else None) == found
        with pytest.raises(Denied, match="give more of the id"):
            await store.find_session("s1")


async def test_sessions_of_a_process_that_died_are_ended_by_its_successor(place: Place) -> None:
    async with opened(place) as store:
        await store.save_session(ROW)
        await store.save_session(replace(ROW, id="other", process="ssh-0"))
        await store.request_kill("session", "s1-aa", "ops")
        assert await store.end_orphans("http-0", NOW + 9) == ("s1-aa",)
        row = await store.find_session("s1-aa")
        assert row is not None
        assert (row.ended_at, row.reason) == (NOW + 9, "interrupted: its process ended without closing it")
        assert [each.id for each in await store.list_sessions(active=True)] == ["other"]
        assert await store.list_kills() == ()


async def test_short_tokens_are_kept_by_their_digest_until_they_end(place: Place) -> None:
    now = time.time()
    async with opened(place) as store:
        await store.save_token("old", "SCRAM-SHA-256$…", "{}", now - 90_000)
        await store.save_token("new", "SCRAM-SHA-256$verifier", '{"sub": "a"}', now + 60)
        found = await store.find_token("new")
        assert found is not None
        assert (found.scram_verifier, found.principal_json, found.expires_at) == ("SCRAM-SHA-256$verifier", '{"sub": "a"}', now + 60)
        assert "verifier" not in repr(found)
        assert await store.find_token("old") is None


async def test_revocations_are_kept_until_the_token_would_have_ended(place: Place) -> None:
    now = time.time()
    async with opened(place) as store:
        await store.revoke("long-gone", now - 90_000, "ops")
        await store.revoke("just-ended", now - 10, "ops")
        await store.revoke("good", now + 60, "ops")
        await store.revoke("good", now + 60, "ops again")
        assert {each.token_id: each.by for each in await store.list_revoked()} == {"just-ended": "ops", "good": "ops again"}


async def test_locks_are_set_and_taken_away(place: Place) -> None:
    async with opened(place) as store:
        await store.lock("subject", "corp:a", "ops", "why")
        await store.lock("all", "ignored", "ops", "")
        assert [(each.kind, each.value, each.by, each.reason) for each in await store.list_locks()] == [
            ("subject", "corp:a", "ops", "why"),
            ("all", "", "ops", ""),
        ]
        assert await store.unlock("all", "")
        assert await store.unlock("subject", "corp:a")
        assert not await store.unlock("subject", "corp:a")
        for kind, value in (("session", "s"), ("user", "x"), ("run", ""), ("subject", "a"), ("subject", ":a"), ("subject", "corp:")):
            with pytest.raises(Denied):
                await store.lock(kind, value, "ops", "")  # type: ignore[arg-type]
        assert await store.list_locks() == ()


@pytest.mark.parametrize(
    ("kind", "value", "killed", "locked"),
    [
        ("session", "s1", ["s1"], []),
        ("subject", "corp:agent-7", ["s1", "s3"], [("subject", "corp:agent-7")]),
        ("run", "run-2", ["s2"], [("run", "run-2")]),
        ("connection", "orders", ["s1", "s2"], []),
        ("all", "", ["s1", "s2", "s3"], []),
        ("session", "ended", [], []),
        ("subject", "corp:nobody", [], [("subject", "corp:nobody")]),
    ],
)
async def test_a_kill_names_the_open_sessions_and_locks_who_would_be_back(
    place: Place, kind: str, value: str, killed: list[str], locked: list[tuple[str, str]]
) -> None:
    async with opened(place) as store:
        for row in (
            replace(ROW, id="s1"),
            replace(ROW, id="s2", subject="x", run="run-2"),
            replace(ROW, id="s3", connection="billing"),
            replace(ROW, id="ended", ended_at=NOW),
        ):
            await store.save_session(row)
        assert sorted(await store.request_kill(kind, value, "corp:ops")) == killed  # type: ignore[arg-type]
        assert sorted((each.session, each.by) for each in await store.list_kills()) == [(each, "corp:ops") for each in killed]
        assert [(each.kind, each.value) for each in await store.list_locks()] == locked
        for session in killed:
            await store.end_session(session, "killed", NOW)
        assert await store.list_kills() == ()


async def test_a_kill_of_something_else_is_refused(place: Place) -> None:
    async with opened(place) as store:
        with pytest.raises(Denied, match="can be killed"):
            await store.request_kill("group", "dba", "ops")  # type: ignore[arg-type]
        with pytest.raises(Denied, match="ISSUER:SUBJECT"):
            await store.request_kill("subject", "agent-7", "ops")
        assert await store.list_locks() == ()


async def test_heads_are_the_latest_of_each_process(place: Place) -> None:
    async with opened(place) as store:
        await store.save_head("b", 1, "01", False, NOW)
        await store.save_head("a", 5, "05", False, NOW)
        await store.save_head("b", 2, "02", True, NOW + 1)
        assert await store.list_heads() == (Head("a", 5, "05", False, NOW), Head("b", 2, "02", True, NOW + 1))


async def test_what_is_long_over_is_forgotten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    async with desk(place) as at:
        for number in range(5):
            old = await at.ask(exact=replace(EXACT, payload=b"%d" % number))
            await at.approvals.decide(old, ALICE, "deny")
        await at.store.plan_notifications(("x",), NOW)
        await at.store.save_session(replace(ROW, ended_at=NOW + 1))
        await at.store.save_session(replace(ROW, id="open"))
        await at.store.save_token("old", "", "{}", time.time() - 3600)
        await at.store.save_token("new", "", "{}", time.time() + 3600 * 24 * 365 * 10)
        at.clock.now += 1000
        kept = [await at.ask(), await at.ask(exact=replace(EXACT, payload=b"granted"))]
        await at.approvals.decide(kept[1], ALICE, "approve", scope="fingerprint-15m")
        pruned = await at.store.prune(NOW + 500)
        assert (pruned.approvals, pruned.sessions, pruned.tokens, pruned.revocations) == (5, 1, 1, 0)
        assert sorted(each.id for each in await at.store.list_approvals()) == sorted(kept)
        assert [each.id for each in await at.store.list_sessions()] == ["open"]
        assert await at.store.find_token("new") is not None
        assert await at.store.prune(NOW + 500) == Pruned()
