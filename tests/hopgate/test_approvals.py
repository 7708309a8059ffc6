"""Requests, votes, quorums, scopes, expiry: one process. Races between processes are in test_approval_races.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from hopgate.approvals import MAX_PENDING, UNUSED, Approvals
from hopgate.errors import Conflict, Denied, HopgateError, Unavailable
from hopgate.store import Approval, ApprovalTransaction
from rules.model import UNKNOWN, Exact, Hold, Principal
from tests.hopgate.people import AGENT, ALICE, BOB, CAROL, EXACT, HOLD, NOW, Settings, desk, person
from tests.hopgate.places import Cut, Place

OTHER = replace(EXACT, payload=b"DROP TABLE customers")
TWO = replace(HOLD, quorum=2)
SECURITY = Hold("security-looks-too", ("security",), timeout=60.0)


async def test_a_request_shows_the_exact_operation_and_who_asks(place: Place) -> None:
    async with desk(place) as at:
        exact = Exact("POST /x", "POST /x\n\udce9\u202e", b"\xe9", {"X-A": "b"})
        approval = await at.store.find_approval(await at.ask(exact=exact, facts={"verbs": ["drop"], "rows": UNKNOWN}, rules_version="v9"))
        assert approval is not None
        assert (approval.title, approval.text, approval.headers) == ("POST /x", "POST /x\n\\udce9\u202e", {"X-A": "b"})
        assert (approval.requester, approval.groups, approval.run, approval.session) == ("corp:agent-7", ("agents",), "run-1", "s1")
        assert approval.facts == {"verbs": ["drop"], "rows": "unknown"}
        assert (approval.rules_version, approval.deadline) == ("v9", NOW + 600.0)


async def test_what_no_database_holds_is_shown_all_the_same(place: Place) -> None:
    async with desk(place) as at:
        exact = Exact("rm \0\udcff", "rm \0\udcff", b"rm \0\xff", {"x\0": "\0"})
        name = await at.ask(exact=exact, facts={"argv": ("rm", "\0\udcff"), "\udcff": 1})
        found = await at.approvals.decide(name, ALICE, "deny", comment="no \0\udcff")
        assert (found.title, found.text, found.comment) == ("rm ␀\\udcff", "rm ␀\\udcff", "no ␀\\udcff")
        assert await at.store.find_approval(name) == found
        assert found.facts == {"argv": ["rm", "␀\\udcff"], "\\udcff": 1}


@pytest.mark.parametrize("committed", [True, False])
async def test_who_leaves_while_he_asks_leaves_no_card_behind(place: Place, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
    """A transaction that has begun goes on without its caller, and nobody would wait for what it asks."""
    async with desk(place) as at:
        other = await at.ask(exact=OTHER)
        change, reached = at.store.change_approvals, asyncio.Event()

        async def cut_off(work: Any) -> Any:
            monkeypatch.setattr(at.store, "change_approvals", change)
            running = asyncio.ensure_future(change(work))
            if committed:
                await running
            reached.set()
            await asyncio.Event().wait()

        await at.approvals.expire()
        monkeypatch.setattr(at.approvals, "expire", nothing)
        monkeypatch.setattr(at.store, "change_approvals", cut_off)
        asking = asyncio.ensure_future(at.ask())
        await reached.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert [each.id for each in await at.store.list_approvals("pending")] == [other]
        assert len(await at.store.list_approvals("withdrawn")) == 1


async def nothing() -> int:
    return 0


async def test_identical_pending_requests_share_one_card(place: Place) -> None:
    async with desk(place) as at:
        first = await at.ask()
        assert await at.ask() == first
        found = await at.store.find_approval(first)
        assert found is not None
        assert found.waiters == 2
        others = {
            await at.ask(exact=OTHER),
            await at.ask(connection="billing"),
            await at.ask(principal=replace(AGENT, issuer="ci")),
            await at.ask(outlives=True),
        }
        assert len(others | {first}) == 5
        assert at.events == ["approval_requested"] * 5


async def test_changed_rules_start_the_vote_again(place: Place) -> None:
    async with desk(place) as at:
        first = await at.ask(holds=(TWO,))
        await at.approvals.decide(first, ALICE, "approve")
        second = await at.ask(holds=(replace(TWO, reviewers=("security",)),))
        assert second != first
        assert await at.state(first) == "cancelled"
        found = await at.store.find_approval(second)
        assert found is not None
        assert found.votes == ()


async def test_the_sixth_pending_request_of_a_principal_is_refused(place: Place) -> None:
    async with desk(place) as at:
        for number in range(MAX_PENDING):
            await at.ask(exact=replace(EXACT, payload=b"%d" % number))
        with pytest.raises(Denied, match="wait for approval already"):
            await at.ask()
        assert await at.ask(exact=replace(EXACT, payload=b"0"))  # joins its own card
        assert await at.ask(principal=replace(AGENT, subject="agent-8"))
        at.clock.now += 601.0
        assert await at.ask()
        assert at.events.count("approval_expired") == MAX_PENDING + 1


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        ((Hold("r"),), "names no reviewers"),
        ((), "nobody can be asked"),
        ((HOLD, replace(SECURITY, scopes=("fingerprint-5m",))), "no approval scope in common"),
    ],
)
async def test_what_nobody_can_approve_is_denied_at_once(place: Place, holds: tuple[Hold, ...], message: str) -> None:
    async with desk(place) as at:
        with pytest.raises(Denied, match=message):
            await at.ask(holds=holds)
        assert await at.store.list_approvals() == ()


async def test_reviewers_left_out_come_from_the_configuration(place: Place) -> None:
    async with desk(place, Settings(reviewers=("security",), timeout=30.0)) as at:
        approval = await at.ask(holds=(Hold("r"),))
        with pytest.raises(Denied, match="takes the group security"):
            await at.approvals.decide(approval, ALICE, "approve")
        decided = await at.approvals.decide(approval, CAROL, "approve")
        assert (decided.state, decided.deadline) == ("approved", NOW + 30.0)


async def test_an_approval_names_who_gave_it_and_ends_unused(place: Place) -> None:
    async with desk(place) as at:
        decided = await at.approvals.decide(await at.ask(), ALICE, "approve", comment="fine")
        assert (decided.state, decided.decided_by, decided.comment, decided.scope) == ("approved", "corp:alice", "fine", "once")
        assert decided.ends_at == NOW + UNUSED
        assert at.events == ["approval_requested", "approval_voted", "approval_approved"]
        at.clock.now += UNUSED - 1
        assert await at.store.list_approvals("approved")
        at.clock.now += 1
        assert await at.approvals.spend(AGENT, "orders", EXACT) is None
        assert await at.state(decided.id) == "expired"
        assert at.told[-1] == ("approval_expired", at.told[-1][1])
        assert at.told[-1][1]["by"] == "system:timeout"


async def test_what_is_past_its_time_is_not_used_even_before_anybody_has_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody_looks(now: float) -> bool:
        return False

    async def nothing_is_seen(transaction: ApprovalTransaction, now: float) -> tuple[Approval, ...]:
        return ()

    async with desk(place) as at:
        pending, approved = await at.ask(), await at.ask(exact=OTHER)
        await at.approvals.decide(approved, ALICE, "approve")
        monkeypatch.setattr(at.store, "has_overdue", nobody_looks)
        monkeypatch.setattr(ApprovalTransaction, "overdue", nothing_is_seen)
        at.clock.now += 600.0
        with pytest.raises(Conflict, match="expired"):
            await at.approvals.decide(pending, ALICE, "approve")
        assert await at.approvals.spend(AGENT, "orders", OTHER) is None
        assert [await at.state(each) for each in (pending, approved)] == ["pending", "approved"]


async def test_one_denial_settles_it(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(TWO,))
        await at.approvals.decide(approval, ALICE, "approve")
        decided = await at.approvals.decide(approval, BOB, "deny", comment="use a view")
        assert (decided.state, decided.decided_by, decided.comment) == ("denied", "corp:bob", "use a view")
        assert await at.approvals.spend(AGENT, "orders", EXACT) is None


async def test_a_quorum_counts_distinct_people(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(TWO,))
        assert (await at.approvals.decide(approval, ALICE, "approve")).state == "pending"
        for again in (ALICE, replace(ALICE, token_id="another token", groups=frozenset({"dba", "x"}))):
            with pytest.raises(Conflict, match="has decided on this already"):
                await at.approvals.decide(approval, again, "approve")
        decided = await at.approvals.decide(approval, BOB, "approve")
        assert (decided.state, decided.decided_by) == ("approved", "corp:alice, corp:bob")


async def test_each_hold_rule_needs_its_own_quorum_and_the_shortest_time_counts(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(HOLD, SECURITY))
        found = await at.store.find_approval(approval)
        assert found is not None
        assert (found.deadline, found.scopes) == (NOW + 60.0, ("once",))
        assert (await at.approvals.decide(approval, ALICE, "approve")).pending
        assert (await at.approvals.decide(approval, CAROL, "approve")).approved
        both = await at.ask(holds=(HOLD, SECURITY), exact=OTHER)
        assert (await at.approvals.decide(both, BOB, "approve")).approved  # in both groups: counts for both rules


async def test_the_narrowest_scope_that_a_reviewer_gave_counts(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(TWO,))
        await at.approvals.decide(approval, ALICE, "approve", scope="fingerprint-15m")
        assert (await at.approvals.decide(approval, BOB, "approve", scope="once")).scope == "once"


@pytest.mark.parametrize(
    ("reviewer", "settings", "message"),
    [
        (replace(AGENT, groups=frozenset({"dba"})), {}, "his own request"),
        (person("robot", "dba"), {}, "acts for the reviewer"),
        (person("app-1", "dba", issuer="ci"), {}, "acts for the reviewer"),
        (replace(ALICE, actors=frozenset({"agent-7"})), {}, "issued to the requester"),
        (replace(ALICE, claims={"act": {"sub": "helper"}}), {}, "delegated token"),
        (ALICE, {"owners": {"corp:agent-*": "corp:alice"}}, "owns the requester"),
        (person("dave", "ops"), {}, "takes the group dba"),
        (replace(ALICE, expires_at=NOW), {}, "has expired"),
    ],
    ids=[
        "self",
        "actor",
        "azp-elsewhere",
        "issued-to-requester",
        "delegated",
        "owner",
        "no-reviewer",
        "expired-token",
    ],
)
async def test_who_may_not_decide(place: Place, reviewer: Principal, settings: Mapping[str, Any], message: str) -> None:
    async with desk(place, Settings(**settings)) as at:
        approval = await at.ask()
        for verdict in ("approve", "deny"):
            with pytest.raises(Denied, match=message):
                await at.approvals.decide(approval, reviewer, verdict)  # type: ignore[arg-type]
        assert await at.state(approval) == "pending"
        assert at.events == ["approval_requested"]


async def test_the_owner_of_somebody_else_may_decide(place: Place) -> None:
    async with desk(place, Settings(owners={"corp:agent-8": "corp:alice", "ci:agent-7": "corp:alice"})) as at:
        assert (await at.approvals.decide(await at.ask(), ALICE, "approve")).approved


async def test_a_locked_or_revoked_reviewer_may_not_decide(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        await at.store.lock("subject", "corp:alice", "corp:ops", "left the company")
        await at.store.revoke(BOB.token_id, NOW + 60, "corp:ops")
        for reviewer in (ALICE, BOB, replace(BOB, token_id="t", claims={"jti": BOB.token_id})):
            with pytest.raises(Denied, match="locked out"):
                await at.approvals.decide(approval, reviewer, "approve")


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        ({"version": 1}, None),
        ({"version": 2}, Conflict),
        ({"fingerprint": "v1:00"}, Conflict),
        ({"scope": "fingerprint-60m"}, Denied),
        ({"scope": "forever"}, Denied),
        ({"verdict": "maybe"}, Denied),
    ],
)
async def test_a_vote_is_for_what_was_seen_and_offered(place: Place, seen: dict[str, Any], error: type[HopgateError] | None) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        verdict: Any = seen.get("verdict", "approve")
        seen = {name: value for name, value in seen.items() if name != "verdict"}
        if error is None:
            assert (await at.approvals.decide(approval, ALICE, verdict, **seen)).approved
            return
        with pytest.raises(error):
            await at.approvals.decide(approval, ALICE, verdict, **seen)
        assert await at.state(approval) == "pending"


@pytest.mark.parametrize("end", ["denied", "expired", "withdrawn", "consumed", "cancelled", "approved"])
async def test_what_is_settled_is_not_decided_again(place: Place, end: str) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        if end in ("consumed", "approved"):
            await at.approvals.decide(approval, ALICE, "approve")
        match end:
            case "denied":
                await at.approvals.decide(approval, ALICE, "deny")
            case "expired":
                at.clock.now += 600.0
            case "withdrawn":
                await at.approvals.withdraw(approval)
            case "cancelled":
                await at.approvals.cancel_orphans("2")
            case "consumed":
                assert await at.approvals.spend(AGENT, "orders", EXACT)
        for verdict in ("approve", "deny"):
            with pytest.raises(Conflict, match=f"is {end} already"):
                await at.approvals.decide(approval, BOB, verdict)  # type: ignore[arg-type]
        assert await at.state(approval) == end
        assert await at.approvals.spend(replace(AGENT, subject="agent-8"), "orders", EXACT) is None
        if end != "approved":
            assert await at.approvals.spend(AGENT, "orders", EXACT) is None


async def test_an_unknown_approval_is_no_approval(place: Place) -> None:
    async with desk(place) as at:
        with pytest.raises(Denied, match="no such approval"):
            await at.approvals.decide("0" * 32, ALICE, "approve")
        with pytest.raises(Denied, match="no such approval"):
            await at.approvals.wait("0" * 32, 0.0)


async def test_once_is_once(place: Place) -> None:
    async with desk(place) as at:
        await at.approvals.decide(await at.ask(), ALICE, "approve")
        for principal, connection, exact in (
            (replace(AGENT, subject="x"), "orders", EXACT),
            (replace(AGENT, issuer="ci"), "orders", EXACT),
            (AGENT, "billing", EXACT),
            (AGENT, "orders", OTHER),
        ):
            assert await at.approvals.spend(principal, connection, exact) is None
        spent = [await at.approvals.spend(AGENT, "orders", EXACT) for _ in range(3)]
        assert [each.state if each else None for each in spent] == ["consumed", None, None]


async def test_a_window_can_be_used_until_it_ends(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        await at.approvals.decide(approval, ALICE, "approve", scope="fingerprint-15m")
        at.clock.now += 899.0
        assert [bool(await at.approvals.spend(AGENT, "orders", EXACT)) for _ in range(2)] == [True, True]
        found = await at.store.find_approval(approval)
        assert found is not None
        assert found.uses == 2
        at.clock.now += 1.0
        assert await at.approvals.spend(AGENT, "orders", EXACT) is None
        assert await at.state(approval) == "expired"


@pytest.mark.parametrize(
    ("holds", "covered"),
    [
        ((HOLD,), True),
        ((replace(HOLD, rule="renamed"),), True),
        ((replace(HOLD, quorum=2),), False),
        ((replace(HOLD, reviewers=("security",)),), False),
        ((HOLD, SECURITY), False),
        ((replace(HOLD, scopes=("fingerprint-15m",)),), False),
        ((), False),
    ],
)
async def test_an_approval_serves_only_rules_that_its_votes_satisfy_now(place: Place, holds: tuple[Hold, ...], covered: bool) -> None:
    async with desk(place) as at:
        await at.approvals.decide(await at.ask(), ALICE, "approve")
        assert bool(await at.approvals.spend(AGENT, "orders", EXACT, holds=holds)) is covered


async def test_what_was_approved_can_be_taken_back(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        await at.approvals.decide(approval, ALICE, "approve", scope="fingerprint-15m")
        assert (await at.approvals.revoke(approval, "corp:ops")).state == "cancelled"
        assert await at.approvals.spend(AGENT, "orders", EXACT) is None
        with pytest.raises(Conflict):
            await at.approvals.revoke(approval, "corp:ops")


@pytest.mark.parametrize(
    ("kind", "value"), [("subject", "corp:agent-7"), ("run", "run-1"), ("connection", "orders"), ("session", "s1"), ("all", "")]
)
async def test_a_kill_cancels_what_waits_and_what_was_not_used(place: Place, kind: Any, value: str) -> None:
    async with desk(place) as at:
        pending, approved = await at.ask(), await at.ask(exact=OTHER)
        other = await at.ask(principal=person("x"), session="s2", connection="billing")
        await at.approvals.decide(approved, ALICE, "approve")
        await at.store.request_kill(kind, value, "corp:ops")
        assert [await at.state(each) for each in (pending, approved)] == ["cancelled", "cancelled"]
        assert await at.state(other) == ("cancelled" if kind == "all" else "pending")
        assert await at.approvals.spend(AGENT, "orders", OTHER) is None


async def test_a_restart_cancels_what_nobody_waits_for_any_more(place: Place) -> None:
    async with desk(place) as before:
        gone, stays = await before.ask(), await before.ask(outlives=True)
    async with desk(place, epoch="2") as at:
        mine = await at.ask(exact=OTHER)
        assert await at.approvals.cancel_orphans("2", process="ssh-0") == 0
        assert await at.approvals.cancel_orphans("2", process="http-0") == 1
        assert [await at.state(each) for each in (gone, stays, mine)] == ["cancelled", "pending", "pending"]
        found = await at.store.find_approval(stays)
        assert found is not None
        assert found.waiters == 0
        assert (await at.approvals.decide(stays, ALICE, "approve")).approved


async def test_what_the_ledger_refuses_does_not_happen(place: Place) -> None:
    refused: list[str] = []

    def full(event: str, /, **_: Any) -> None:
        refused.append(event)
        raise Unavailable("the disk is full")

    async with desk(place) as at:
        approval = await at.ask()
        deaf = Approvals(at.store, at.settings, at.clock, full)
        with pytest.raises(Unavailable):
            await deaf.decide(approval, ALICE, "approve")
        with pytest.raises(Unavailable):
            await deaf.request(AGENT, "s", "orders", [HOLD], OTHER)
        assert await at.state(approval) == "pending"
        await at.approvals.decide(approval, ALICE, "approve")
        with pytest.raises(Unavailable):
            await deaf.spend(AGENT, "orders", EXACT)
        assert await at.state(approval) == "approved"
        assert refused == ["approval_voted", "approval_requested", "approval_consumed"]


async def test_what_the_store_refuses_after_the_ledger_has_it_is_undone_in_both(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(place) as at:
        change = at.store.change_approvals

        async def failing(work: Callable[[ApprovalTransaction], Awaitable[Any]]) -> Any:
            async def work_and_fail(transaction: ApprovalTransaction) -> Any:
                await work(transaction)
                raise Unavailable("the disk is full")

            return await change(work_and_fail)

        monkeypatch.setattr(at.store, "change_approvals", failing)
        with pytest.raises(Unavailable):
            await at.ask()
        assert at.told == [("approval_requested", at.told[0][1]), ("approval_undone", {"events": ["approval_requested"]})]
        assert await at.store.list_approvals() == ()


async def test_waiting_ends_with_the_decision(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        waiting = asyncio.ensure_future(at.approvals.wait(approval))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await at.approvals.decide(approval, ALICE, "approve")
        assert (await waiting).approved
        assert (await at.approvals.wait(approval)).approved


async def test_waiting_ends_with_the_time_given_and_a_request_that_outlives_it_stays(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(outlives=True)
        assert (await at.approvals.wait(approval, 0.02)).pending
        found = await at.store.find_approval(approval)
        assert found is not None
        assert (found.state, found.waiters) == ("pending", 0)


async def test_waiting_ends_with_the_deadline_by_nobody(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        waiting = asyncio.ensure_future(at.approvals.wait(approval))
        await asyncio.sleep(0.05)
        at.clock.now += 600.0
        found = await waiting
        assert (found.state, found.decided_by) == ("expired", "system:timeout")


@pytest.mark.parametrize(("outlives", "state"), [(False, "withdrawn"), (True, "pending")])
async def test_a_caller_that_goes_away_takes_its_request_with_it(place: Place, outlives: bool, state: str) -> None:
    async with desk(place) as at:
        approval = await at.ask(outlives=outlives)
        waiting = asyncio.ensure_future(at.approvals.wait(approval))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await at.state(approval) == state


async def test_the_last_of_several_callers_takes_the_request_with_it(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        await at.ask()
        callers = [asyncio.ensure_future(at.approvals.wait(approval)) for _ in range(2)]
        await asyncio.sleep(0.05)
        states = []
        for caller in callers:
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            states.append(await at.state(approval))
        assert states == ["pending", "withdrawn"]


async def test_what_was_approved_as_the_caller_left_is_not_kept_for_him(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        await at.approvals.decide(approval, ALICE, "approve")
        await at.approvals.withdraw(approval)
        assert await at.state(approval) == "withdrawn"
        assert await at.approvals.spend(AGENT, "orders", EXACT) is None


async def test_nobody_waits_on_when_the_store_is_gone(place: Place, cut: Cut) -> None:
    async with desk(place) as at:
        waiting = asyncio.ensure_future(at.approvals.wait(await at.ask()))
        await asyncio.sleep(0.05)
        await cut()
        with pytest.raises(Unavailable):
            await waiting
