"""What the console is told: cards with their context, the graph of hops, what every rule did."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hopgate.config import load_config
from hopgate.history import History, SessionQuery, view
from hopgate.store.index import Index
from rules.model import Hold
from tests.hopgate.history.telling import Told, operation
from tests.hopgate.people import AGENT, ALICE, BOB, CAROL, EXACT, HOLD, Desk, desk

CONFIG = """
version: 1
state: .
identity: {issuers: [{name: corp, local: true}]}
approvals: {owners: {"corp:agent-*": "corp:bob"}}
"""


@contextlib.asynccontextmanager
async def history_at(tmp_path: Path) -> AsyncIterator[tuple[History, Told, Desk]]:
    (tmp_path / "hopgate.yaml").write_text(CONFIG)
    async with desk(tmp_path) as at:
        index = await Index.open(tmp_path)
        history = History(load_config(tmp_path / "hopgate.yaml"), at.store, index, at.clock)
        told = Told(tmp_path, index, SimpleNamespace(catch_up=history.catch_up))  # type: ignore[arg-type]
        yield history, told, at
        await history.close()


async def test_a_card_shows_what_a_reviewer_wants_to_know(tmp_path: Path) -> None:
    async with history_at(tmp_path) as (history, told, at):
        approval = await at.ask(holds=(HOLD, Hold("two-look", ("dba", "security"), quorum=2)))
        await at.approvals.decide(approval, CAROL, "approve")
        found = await at.store.find_approval(approval)
        assert found is not None
        asked = {"approval": approval, "fingerprint": found.fingerprint, "requester": "corp:agent-7"}
        with told.ledger() as ledger:
            for number in range(9):
                ledger.append("decided", session="s1", **operation(f"s1.{number}", title=f"SELECT {number}"))
            for earlier in ("x", "y"):
                ledger.append("approval_requested", session="s1", **{**asked, "approval": earlier}, rules=["r"], deadline=0.0)
                ledger.append("approval_denied", session="s1", **{**asked, "approval": earlier}, by="corp:carol", scope="", comment="")
            ledger.append("approval_requested", session="s1", **asked, rules=["r"], deadline=0.0)
            ledger.append("held", session="s1", **operation("s1.9", effect="hold", title="DROP TABLE orders", approval=approval))
        await history.catch_up()
        (card,) = await history.inbox(ALICE)
        assert (card.approval.id, card.left, card.may_decide, card.why_not) == (approval, 600.0, True, "")
        assert [each.title for each in card.last_actions] == [f"SELECT {number}" for number in (8, 7, 6, 5, 4)]
        assert (card.seen.requested, card.seen.denied, card.seen.approved, card.seen.last_by) == (2, 2, 0, "corp:carol")
        assert [(each.rule, each.people, each.missing) for each in card.progress] == [
            ("schema-needs-a-dba", (), 1),
            ("two-look", ("corp:carol",), 1),
        ]


async def test_a_card_says_why_a_reviewer_may_not_decide(tmp_path: Path) -> None:
    async with history_at(tmp_path) as (history, _, at):
        approval = await at.ask(holds=(replace(HOLD, quorum=2),))
        whys = {who.subject: (await history.inbox(who))[0] for who in (AGENT, CAROL, BOB, ALICE)}
        assert whys["agent-7"].why_not == "nobody decides on his own request"
        assert "takes the group dba" in whys["carol"].why_not
        assert whys["bob"].why_not == "the reviewer owns the requester, and cannot decide on that"
        assert whys["alice"].may_decide
        await at.approvals.decide(approval, ALICE, "approve")
        card = await history.card(approval[:8], ALICE)
        assert card is not None
        assert (card.may_decide, card.why_not) == (False, "you have decided on this already")
        await at.approvals.revoke(approval, "corp:ops")
        assert await history.inbox(ALICE) == ()
        card = await history.card(approval, ALICE)
        assert card is not None
        assert (card.may_decide, card.why_not) == (False, "it is cancelled already")
        assert await history.card("nothing") is None


async def test_the_inbox_is_sorted_by_the_time_left(tmp_path: Path) -> None:
    async with history_at(tmp_path) as (history, _, at):
        late = await at.ask()
        soon = await at.ask(holds=(replace(HOLD, timeout=30.0),), exact=replace(EXACT, payload=b"x"))
        assert [card.approval.id for card in await history.inbox()] == [soon, late]
        assert [card.approval.id for card in await history.inbox(limit=1)] == [soon]
        assert not (await history.inbox())[0].may_decide


async def test_first_seen_hops_stand_out(tmp_path: Path) -> None:
    async with history_at(tmp_path) as (history, told, _):
        told.session("s1", operations=[{}, {"effect": "deny", "rules": ("no",)}])
        told.session("s2", operations=[{}], who={"connection": "crm"})
        told.session("s3", operations=[{}], who={"subject": "bot", "connection": "crm"})
        with told.ledger() as ledger:
            who = {"issuer": "corp", "subject": "eve", "connection": "crm", "peer": ""}
            refused: dict[str, Any] = {"operation": "s4.1", "kind": "session", "title": "open crm", "effect": "deny", "rules": []}
            ledger.append("decided", session="s4", **who, **refused)
        await history.catch_up()
        at = (await history.search_sessions(SessionQuery())).items[0].opened_at
        hops = await history.hops(at - 3600, at + 60)
        edges = {(hop.principal, hop.connection): hop for hop in hops.edges}
        assert sorted(edges) == [("corp:bot", "crm"), ("corp:eve", "crm"), ("corp:svc", "crm"), ("corp:svc", "orders")]
        orders = edges["corp:svc", "orders"]
        assert (orders.sessions, orders.operations, orders.denied, orders.refused, orders.is_new) == (1, 2, 1, 0, True)
        assert (edges["corp:eve", "crm"].sessions, edges["corp:eve", "crm"].refused) == (0, 1)
        assert [(node.name, node.sessions, node.operations) for node in hops.principals] == [
            ("corp:bot", 1, 1),
            ("corp:eve", 0, 0),
            ("corp:svc", 2, 3),
        ]
        assert [(node.name, node.denied) for node in hops.connections] == [("crm", 0), ("orders", 1)]
        assert not any(hop.is_new for hop in (await history.hops(at + 1, at + 60)).edges)
        assert (await history.hops(at + 7200, at + 10800)).edges == ()


async def test_rules_that_never_matched_are_told_and_those_that_are_gone(tmp_path: Path) -> None:
    async with history_at(tmp_path) as (history, told, _):
        told.session(
            "s1",
            operations=[
                {"rules": ("read", "also")},
                {"rules": ("no",), "effect": "deny"},
                {"event": "held", "rules": ("ask",), "effect": "hold", "approval": "a"},
                {"rules": ("ask",), "approval": "a"},
                {"rules": ("ask",), "approval": "b", "effect": "deny"},
                {"event": "response_refused", "rules": ("no",), "effect": "deny"},
            ],
        )
        with told.ledger() as ledger:
            ledger.append("masked", session="s1", operation="s1.2", counts={"hide": 3})
        await history.catch_up()
        rules = [
            SimpleNamespace(id=id, effect=effect)
            for id, effect in (("read", "allow"), ("ask", "hold"), ("never", "deny"), ("hide", "mask"))
        ]
        found = {each.rule: each for each in await history.rule_statistics(rules)}
        assert sorted(found) == ["also", "ask", "hide", "never", "no", "open", "read"]
        assert (found["never"].loaded, found["never"].effect, found["never"].matches, found["never"].last_matched) == (
            True,
            "deny",
            0,
            None,
        )
        assert (found["also"].loaded, found["also"].allowed) == (False, 1)
        assert (found["no"].denied, found["no"].matches) == (2, 2)
        assert (found["ask"].held, found["ask"].approved, found["ask"].refused, found["ask"].matches) == (1, 1, 1, 2)
        assert (found["hide"].masked, found["hide"].first_matched == found["hide"].last_matched) == (1, True)
        session = await history.find_session("s1")
        assert session is not None
        assert (session.masked, session.held) == (3, 1)


async def test_who_looks_is_in_the_timeline(tmp_path: Path) -> None:
    async with history_at(tmp_path) as (history, told, _):
        told.session("s1", operations=[])
        with told.ledger("console") as ledger:
            view(ledger.append, ALICE, "recording", session="s1", format="asciicast")
            view(ledger.append, BOB, "sessions", search="text")
        await history.catch_up()
        (seen,) = (await history.timeline("s1", backwards=True, limit=1)).items
        assert (seen.event, seen.by, seen.detail) == ("viewed", "corp:alice", {"what": "recording", "format": "asciicast"})
        (audit,) = (await history.audit()).items
        assert (audit.by, audit.detail) == ("corp:bob", {"what": "sessions", "search": "text"})
        assert history.progress.behind == 0
