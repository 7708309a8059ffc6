"""Sessions decide, wait, remember and end; whatever breaks, nothing is permitted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from hopgate.approvals import Approvals
from hopgate.config import Config, ConnectionConfig, load_config
from hopgate.credentials import Credentials
from hopgate.errors import Denied, Unavailable
from hopgate.grants import SessionGrant
from hopgate.ledger import Ledger, ledger_key
from hopgate.locks import Locks
from hopgate.metrics import Metrics
from hopgate.recordings import Recordings
from hopgate.sessions import IDLE, Session, SessionRefused, Sessions
from hopgate.store import Store
from rules.load import RuleSet, load_rules
from rules.model import Decision, Exact, Operation, Principal

NOW = 1_800_000_000.0
AGENT = Principal("local", "agent-1", frozenset({"agents"}), expires_at=NOW + 3600, token_id="a" * 64)
REVIEWER = Principal("local", "rita", frozenset({"finance"}), expires_at=NOW + 3600, token_id="b" * 64)
CONFIG = """
version: 1
state: var
identity: {issuers: [{name: local, local: true}]}
approvals: {reviewers: [finance]}
connections:
  - {name: billing, kind: http, target: "http://127.0.0.1:9"}
  - {name: other, kind: http, target: "http://127.0.0.1:10"}
"""
RULES = """
version: 1
rules:
  - id: open-billing
    on: session
    who: {groups: [agents]}
    where: {connections: [billing]}
    effect: allow
    limits: {operations_per_minute: 5, bytes: 1MB}
  - {id: read, on: http, match: {method: GET}, effect: allow}
  - {id: ask, on: http, match: {method: POST}, effect: hold, hold: {scopes: [once, fingerprint-15m]}}
  - {id: no-admin, on: http, match: {path: "/admin/**"}, effect: deny, message: not for agents}
"""


def rules_of(text: str) -> RuleSet:
    return load_rules([("rules.yaml", text)], reviewers=("finance",))


class World:
    """Real store, ledger, recordings and approvals under one clock that tests turn."""

    def __init__(self, config: Config, rules: RuleSet) -> None:
        self.config = config
        self.now = NOW
        self.files = SimpleNamespace(current=rules)

    def clock(self) -> float:
        return self.now

    async def open(self) -> None:
        self.store = await Store.open(self.config.state)
        self.locks = Locks(self.store)
        await self.locks.start()
        self.ledger = Ledger(self.config.state / "ledger", "http-0", ledger_key(self.config.state))
        self.approvals = Approvals(self.store, self.config.approvals, self.clock, self.ledger.append, process="http-0", epoch="e")
        await self.approvals.start()
        self.sessions = Sessions(
            config=self.config,
            rules=self.files,  # type: ignore[arg-type]
            locks=self.locks,
            store=self.store,
            ledger=self.ledger,
            recordings=Recordings(self.config.state, self.ledger, self.config.recordings),
            approvals=self.approvals,
            metrics=Metrics(),
            clock=self.clock,
            monotonic=self.clock,
        )

    async def close(self) -> None:
        await self.sessions.close("the test is over")
        await self.approvals.close()
        await self.locks.close()
        with contextlib.suppress(Unavailable):
            self.ledger.close()
        await self.store.close()

    async def enter(self, name: str = "billing", principal: Principal = AGENT, peer: str = "127.0.0.1") -> Session:
        return await self.sessions.enter(principal, self.connection(name), peer=peer)

    def connection(self, name: str) -> ConnectionConfig:
        found = self.config.connection(name)
        assert found is not None
        return found

    async def events(self, *names: str) -> list[dict[str, Any]]:
        await self.ledger.durable()
        lines = [orjson.loads(line) for line in self.ledger.path.read_bytes().splitlines()]
        return [line for line in lines if line["event"] in names]

    async def approve(self, approval: str, verdict: Any = "approve", scope: str = "once") -> None:
        await self.approvals.decide(approval, REVIEWER, verdict, scope=scope, comment="looked at it")

    async def pending(self) -> str:
        for _ in range(1000):
            if found := await self.store.list_approvals("pending"):
                return found[0].id
            await asyncio.sleep(0.005)
        raise AssertionError("nothing is pending")


@contextlib.asynccontextmanager
async def world(tmp_path: Path, rules: str = RULES) -> AsyncIterator[World]:
    path = tmp_path / "hopgate.yaml"
    path.write_text(CONFIG)
    made = World(load_config(path), rules_of(rules))
    await made.open()
    try:
        yield made
    finally:
        await made.close()


class Facts:
    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def get(self, name: str) -> Any:
        return self._facts.get(name, "")


def request(method: str = "GET", path: str = "/v1/customers", payload: bytes = b"") -> Operation:
    return Operation(
        "http",
        Facts({"method": method, "path": path}),
        writes=method != "GET",
        exact=lambda: Exact(f"{method} {path}", f"{method} {path}", b"%b %b %b" % (method.encode(), path.encode(), payload)),
        title=f"{method} {path}",
    )


async def test_a_session_that_no_rule_allows_does_not_start(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for name, principal in (("other", AGENT), ("billing", replace(AGENT, groups=frozenset({"interns"}), token_id="c" * 64))):
            with pytest.raises(SessionRefused):
                await w.enter(name, principal)
        assert [line["effect"] for line in await w.events("decided")] == ["deny", "deny"]
        assert await w.events("session_opened") == []


NOT_FROM_THERE = """
  - {id: not-from-there, on: session, match: {peer: "10.9.0.0/16"}, effect: deny}
"""


async def test_another_peer_does_not_get_in_by_a_session_that_is_open(tmp_path: Path) -> None:
    """A session rule on `peer` must hold for whoever stole the token as well, and after a change of the rules."""
    async with world(tmp_path) as w:
        w.files.current = rules_of(RULES + NOT_FROM_THERE)
        session = await w.enter()
        with pytest.raises(SessionRefused) as refused:
            await w.enter(peer="10.9.0.1")
        assert refused.value.decision.rules == ("not-from-there",)
        assert not session.closed
        assert await w.enter(peer="10.8.0.1") is session
        assert w.sessions.find(AGENT, "billing", "10.8.0.1") is session
        assert w.sessions.find(AGENT, "billing", "10.9.0.1") is None
        assert [(line["session"], line["peer"]) for line in await w.events("session_joined")] == [(session.id, "10.8.0.1")]
        w.files.current = rules_of(RULES + NOT_FROM_THERE.replace("10.9", "10.8"))
        assert w.sessions.find(AGENT, "billing", "10.8.0.1") is None
        with pytest.raises(SessionRefused):
            await w.enter(peer="10.8.0.1")


async def test_operations_are_decided_and_written_down(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        assert await w.enter() is session
        assert (await session.authorize(request())).allowed
        denied = await session.authorize(request(path="/admin/users"))
        assert (denied.effect, denied.rules) == ("deny", ("no-admin",))
        assert [(line["title"], line["effect"]) for line in await w.events("decided")] == [
            ("open billing", "allow"),
            ("GET /v1/customers", "allow"),
            ("GET /admin/users", "deny"),
        ]


async def test_a_held_operation_goes_on_when_approved_and_only_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        waiting = asyncio.ensure_future(session.authorize(request("POST", "/v1/refunds")))
        await w.approve(await w.pending())
        decision = await waiting
        assert decision.allowed
        assert decision.approval
        again = await session.authorize(request("POST", "/v1/refunds"), wait=0, outlives=True)
        assert again.effect == "hold"
        assert again.approval != decision.approval


async def test_an_approval_outlives_its_caller_and_is_spent_by_the_repeated_request(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        held = await session.authorize(request("POST", "/v1/refunds"), wait=0, outlives=True)
        assert held.effect == "hold"
        await w.approve(held.approval)
        assert (await session.authorize(request("POST", "/v1/refunds", b"changed"), wait=0, outlives=True)).effect == "hold"
        outcomes = await asyncio.gather(*(session.authorize(request("POST", "/v1/refunds"), wait=0, outlives=True) for _ in range(3)))
        assert sorted(outcome.effect for outcome in outcomes) == ["allow", "hold", "hold"]


async def test_a_scope_lets_the_same_bytes_through_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        held = await session.authorize(request("POST"), wait=0, outlives=True)
        await w.approve(held.approval, scope="fingerprint-15m")
        assert [(await session.authorize(request("POST"), wait=0, outlives=True)).effect for _ in range(2)] == ["allow", "allow"]
        w.now += 15 * 60
        assert (await session.authorize(request("POST"), wait=0, outlives=True)).effect == "hold"


async def test_a_reviewer_denies_with_guidance(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        waiting = asyncio.ensure_future(session.authorize(request("POST")))
        await w.approve(await w.pending(), "deny")
        decision = await waiting
        assert decision.effect == "deny"
        assert "looked at it" in decision.message


async def test_rules_that_deny_at_release_win_over_the_approval(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        waiting = asyncio.ensure_future(session.authorize(request("POST")))
        approval = await w.pending()
        w.files.current = load_rules(
            [("rules.yaml", RULES + "  - {id: frozen, on: http, match: {method: POST}, effect: deny}\n")], reviewers=("finance",)
        )
        await w.approve(approval)
        decision = await waiting
        assert (decision.effect, decision.rules) == ("deny", ("frozen",))


async def test_a_cancelled_wait_withdraws_what_does_not_outlive_its_caller(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        waiting = asyncio.ensure_future(session.authorize(request("POST")))
        approval = await w.pending()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        found = await w.store.find_approval(approval)
        assert found is not None
        assert found.state == "withdrawn"
        assert len(await w.events("withdrawn")) == 1


async def test_what_may_pass_at_once_is_decided_without_waiting_and_nothing_else_is(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        decision = session.authorize_now(request())
        assert decision is not None
        assert decision.allowed
        again = session.authorize_now(request(), decision)
        assert again is not None
        assert again.operation != decision.operation
        assert session.authorize_now(request("POST")) is None
        assert session.authorize_now(request(path="/admin/x")) is None
        w.files.current = rules_of(
            RULES.replace("{id: read, on: http, match: {method: GET}, effect: allow}", "{id: read, on: http, effect: deny}")
        )
        assert session.authorize_now(request(), again) is None
        assert [line["effect"] for line in await w.events("decided")] == ["allow"] * 3


async def test_what_is_known_of_an_operation_that_writes_is_not_decided_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, RULES + "  - {id: put, on: http, match: {method: PUT}, effect: allow}\n") as made:
        session = await made.enter()
        known = await session.authorize(request("PUT"))
        monkeypatch.setattr("hopgate.sessions.session.decide", lambda *_: Decision("deny", message="decided again"))
        again = await session.authorize(request("PUT"), known=known)
        assert again.allowed
        assert again.operation != known.operation
        assert (await session.authorize(request("PUT"), known=replace(known, version="other"))).message == "decided again"
        assert (await session.authorize(request("PUT"), known=replace(known, effect="deny"))).message == "decided again"
        assert (await session.authorize(request("PUT"), known=replace(known, approval="a1"))).message == "decided again"
        assert len(await made.events("decided")) == 6  # with that of the opening


@pytest.mark.parametrize("broken", ["rules", "approvals", "facts"])
async def test_whatever_raises_denies(tmp_path: Path, broken: str) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        operation = request("POST")
        if broken == "rules":
            w.files.current = None
        elif broken == "approvals":
            await w.store.close()
        else:
            operation = replace(operation, facts=None)  # type: ignore[arg-type]
        decision = await session.authorize(operation, wait=0)
        assert decision.effect == "deny"


async def test_a_ledger_that_cannot_be_written_ends_the_session(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        w.ledger.failed = "the disk is full"
        assert (await session.authorize(request())).effect == "deny"
        assert session.closed
        with pytest.raises(Denied):
            _ = session.grant


async def test_limits_are_kept(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        assert [(await session.authorize(request())).effect for _ in range(6)] == ["allow"] * 5 + ["deny"]
        w.now += 60
        assert (await session.authorize(request())).allowed
        session.account(bytes=1_000_001)
        decision = await session.authorize(request())
        assert (decision.effect, decision.rules) == ("deny", ("limits",))


@pytest.mark.parametrize(
    "ending",
    ["expiry", "revocation", "lock", "kill", "idle", "rules"],
)
async def test_a_session_ends(tmp_path: Path, ending: str) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        grant = session.grant
        dropped: list[str] = []
        session.on_close.add(dropped.append)
        match ending:
            case "expiry":
                w.now = AGENT.expires_at + 31
            case "revocation":
                await w.store.revoke(AGENT.token_id, AGENT.expires_at, "ops")
            case "lock":
                await w.store.lock("subject", "local:agent-1", "ops", "stolen laptop")
            case "kill":
                await w.store.request_kill("session", session.id, "ops")
            case "idle":
                w.now += IDLE + 1
            case "rules":
                w.files.current = load_rules(
                    [("rules.yaml", RULES.replace("connections: [billing]", "connections: [elsewhere]"))], reviewers=("x",)
                )
        await w.locks.refresh()
        if ending not in ("kill", "idle"):
            assert (await session.authorize(request())).effect == "deny"
        await w.sessions.sweep()
        assert session.closed
        assert dropped == [session.closed]
        assert grant.ended
        assert (await session.authorize(request())).effect == "deny"
        assert len(await w.events("session_closed")) == 1
        row = await w.store.find_session(session.id)
        assert row is not None
        assert row.ended_at


async def test_the_store_knows_what_a_session_did(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        await session.authorize(request())
        await session.authorize(request(path="/admin/x"))
        await session.authorize(request("POST"), wait=0, outlives=True)
        session.account(bytes=7)
        w.now += 6
        await w.sessions.sweep()
        row = await w.store.find_session(session.id)
        assert row is not None
        assert (row.operations, row.denied, row.held, row.bytes) == (4, 1, 1, 7)
        assert session.authorize_now(request()) is not None
        await session.close("done")
        row = await w.store.find_session(session.id)
        assert row is not None
        assert (row.operations, row.reason) == (5, "done")


async def test_nothing_but_a_grant_leases_a_credential(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        assert isinstance(session.grant, SessionGrant)
        await session.close("done")
        with pytest.raises(Denied):
            _ = session.grant
        with pytest.raises((Denied, TypeError)):
            await Credentials(w.config, w.store).lease(SimpleNamespace(connection="billing"))  # type: ignore[arg-type]


async def test_a_recording_that_cannot_be_made_is_no_session(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        recordings = w.config.state / "recordings"
        if recordings.exists():
            recordings.rename(tmp_path / "moved")
        recordings.write_text("in the way")
        with pytest.raises(Unavailable):
            await w.enter()


async def test_an_injected_secret_never_reaches_a_title(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await w.enter()
        session.literals = (b"s3cr3t-value",)
        await session.authorize(request(path="/v1/s3cr3t-value"))
        assert "s3cr3t-value" not in w.ledger.path.read_text() + str(await w.events("decided"))
