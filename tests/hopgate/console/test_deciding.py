"""Decisions over HTTP: what was seen is what is decided, by people who may, once each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hopgate.errors import Unavailable
from hopgate.store import Approval
from rules.model import Hold, Principal
from tests.hopgate.console.conftest import Console, console
from tests.hopgate.console.seed import SCHEMA, WRITE, agent


def asked[T](directory: Path, work: Callable[[Console], Awaitable[T]], more: str = "") -> T:
    async def run() -> T:
        async with console(directory, more) as it:
            return await work(it)

    return asyncio.run(run())


async def held(it: Console, hold: Hold = WRITE, who: Principal | None = None, text: str = "DELETE FROM orders WHERE id = 3") -> Approval:
    who = who or agent("janitor")
    session = await it.past.session(who, "orders-db", "postgres")
    name = await it.past.hold(who, session, "orders-db", hold, text)
    found = await it.past.store.find_approval(name)
    assert found is not None
    return found


async def state(it: Console, approval: Approval) -> str:
    found = await it.past.store.find_approval(approval.id)
    assert found is not None
    return found.state


async def decide(client: httpx.AsyncClient, approval: Approval, verdict: str = "approve", **form: Any) -> httpx.Response:
    fields = {"fingerprint": approval.fingerprint, "version": str(approval.version), "scope": "once", "verdict": verdict, **form}
    return await client.post(f"/approvals/{approval.id}/decide", data=fields)


def test_an_approval_and_a_denial_with_guidance(tmp_path: Path) -> None:
    async def work(it: Console) -> None:
        alice = await it.sign_in("alice", "dba")
        one, two = await held(it), await held(it, text="DELETE FROM orders WHERE id = 4")
        page = await alice.get("/approvals")
        assert page.text.count('class="card"') == 2
        assert (await decide(alice, one, scope="fingerprint-15m")).status_code == 303
        found = await it.past.store.find_approval(one.id)
        assert found is not None
        assert (found.state, found.scope, found.decided_by) == ("approved", "fingerprint-15m", "local:alice")
        assert (await decide(alice, two, "deny", comment="archive it first")).status_code == 303
        found = await it.past.store.find_approval(two.id)
        assert found is not None
        assert (found.state, found.comment) == ("denied", "archive it first")
        grants = await alice.get("/grants")
        assert one.id in grants.text
        assert two.id in (await alice.get("/approvals/past?state=denied")).text
        ops = await it.sign_in("olga", "ops")
        assert (await ops.post(f"/grants/{one.id}/revoke")).status_code == 303
        assert await state(it, one) == "cancelled"

    asked(tmp_path, work)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_looking_never_decides(tmp_path: Path, method: str) -> None:
    async def work(it: Console) -> tuple[int, str]:
        alice = await it.sign_in("alice", "dba")
        approval = await held(it)
        query = {"verdict": "approve", "fingerprint": approval.fingerprint, "version": approval.version}
        answer = await alice.request(method, f"/approvals/{approval.id}/decide", params=query)
        return answer.status_code, await state(it, approval)

    assert asked(tmp_path, work) == (405, "pending")


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"fingerprint": "v1:" + "0" * 64}, 409),
        ({"version": "7"}, 409),
        ({"fingerprint": ""}, 403),
        ({"version": ""}, 403),
        ({"version": "one"}, 403),
        ({"verdict": "maybe"}, 403),
        ({"scope": "fingerprint-1440m"}, 403),
    ],
)
def test_what_was_not_seen_so_is_not_decided(tmp_path: Path, form: dict[str, str], status: int) -> None:
    async def work(it: Console) -> tuple[int, str]:
        alice = await it.sign_in("alice", "dba")
        approval = await held(it)
        answer = await decide(alice, approval, **form)
        return answer.status_code, await state(it, approval)

    assert asked(tmp_path, work) == (status, "pending")


def test_who_may_not_decide_is_told_why(tmp_path: Path) -> None:
    async def work(it: Console) -> list[tuple[int, str]]:
        mine = await held(it, who=agent("alice"))
        found = []
        for name, groups in (("alice", ("dba",)), ("carol", ("finance",)), ("oscar", ("dba",))):
            client = await it.sign_in(name, *groups)
            found.append(((await decide(client, mine)).status_code, await state(it, mine)))
        return found

    owners = 'approvals: {reviewers: [dba], owners: {"local:alice": "local:oscar"}}\n'
    config = (tmp_path / "x").parent
    assert config == tmp_path

    async def run() -> list[tuple[int, str]]:
        from tests.hopgate.console import seed

        before = seed.CONFIG
        try:
            seed.CONFIG = before.replace("approvals: {{reviewers: [dba]}}\n", owners.replace("{", "{{").replace("}", "}}"))
            async with console(tmp_path) as it:
                return await work(it)
        finally:
            seed.CONFIG = before

    assert asyncio.run(run()) == [(403, "pending")] * 3


def test_two_reviewers_race_and_one_is_told(tmp_path: Path) -> None:
    async def work(it: Console) -> tuple[list[int], str, int]:
        clients = [await it.sign_in(name, "dba") for name in ("alice", "bob", "carol", "dora")]
        approval = await held(it)
        answers = await asyncio.gather(*(decide(client, approval, "approve" if i % 2 else "deny") for i, client in enumerate(clients)))
        found = await it.past.store.find_approval(approval.id)
        assert found is not None
        return sorted(each.status_code for each in answers), found.state, len(found.votes)

    statuses, ended, votes = asked(tmp_path, work)
    assert statuses == [303, 409, 409, 409]
    assert ended in ("approved", "denied")
    assert votes == 1


def test_a_quorum_counts_people_and_a_stale_version_is_looked_at_again(tmp_path: Path) -> None:
    async def work(it: Console) -> list[Any]:
        alice, bob = await it.sign_in("alice", "dba"), await it.sign_in("bob", "security")
        approval = await held(it, SCHEMA, text="DROP TABLE orders")
        steps: list[Any] = [(await decide(alice, approval)).status_code, await state(it, approval)]
        steps.append((await decide(alice, approval, version="2")).status_code)  # twice by one
        steps.append((await decide(bob, approval)).status_code)  # what he saw had no vote yet
        page = (await bob.get(f"/approvals/{approval.id}")).text
        assert "1 of 2" in page
        assert "you have decided" in (await alice.get(f"/approvals/{approval.id}")).text
        steps += [(await decide(bob, approval, version="2")).status_code, await state(it, approval)]
        return steps

    assert asked(tmp_path, work) == [303, "pending", 409, 409, 303, "approved"]


def test_what_has_ended_is_not_decided(tmp_path: Path) -> None:
    async def work(it: Console) -> list[int]:
        alice = await it.sign_in("alice", "dba")
        withdrawn, expired = await held(it), await held(it, Hold("short", ("dba",), timeout=0.001), text="DELETE FROM x WHERE y = 1")
        await it.past.approvals.revoke(withdrawn.id, "local:ops")
        return [(await decide(alice, each)).status_code for each in (withdrawn, expired)]

    assert asked(tmp_path, work) == [409, 409]


def test_htmx_gets_the_card_and_others_a_page(tmp_path: Path) -> None:
    async def work(it: Console) -> None:
        alice = await it.sign_in("alice", "dba")
        approval = await held(it)
        form = {"fingerprint": "v1:wrong", "version": str(approval.version), "verdict": "approve"}
        card = await alice.post(f"/approvals/{approval.id}/decide", data=form, headers={"HX-Request": "true"})
        assert card.status_code == 409
        assert card.text.lstrip().startswith("<article")
        assert "has changed since it was shown" in card.text
        page = await decide(alice, approval, fingerprint="v1:wrong")
        assert "<html" in page.text
        settled = await alice.post(
            f"/approvals/{approval.id}/decide",
            data={"fingerprint": approval.fingerprint, "version": "1", "verdict": "deny"},
            headers={"HX-Request": "true"},
        )
        assert 'data-state="denied"' in settled.text

    asked(tmp_path, work)


def test_when_the_ledger_cannot_be_written_nothing_is_decided(tmp_path: Path) -> None:
    async def work(it: Console) -> tuple[int, str]:
        alice = await it.sign_in("alice", "dba")
        approval = await held(it)
        it.desk.services.ledger.failed = "the disk is full"
        answer = await decide(alice, approval)
        assert "the disk is full" in answer.text
        it.desk.services.ledger.failed = None
        return answer.status_code, await state(it, approval)

    assert asked(tmp_path, work) == (503, "pending")


def test_a_store_that_is_gone_is_told(tmp_path: Path) -> None:
    async def work(it: Console) -> None:
        alice = await it.sign_in("alice", "dba")
        (tmp_path / "var" / "state.db").rename(tmp_path / "var" / "away.db")
        answer = await alice.get("/approvals")
        assert answer.status_code == 503
        assert "Nothing passes the gateway" in answer.text
        problem = await alice.get("/api/v1/approvals")
        assert problem.status_code == 503
        assert problem.headers["content-type"] == "application/problem+json"
        with pytest.raises(Unavailable):
            await it.desk.signins.find(alice.cookies["hopgate"])
        (tmp_path / "var" / "away.db").rename(tmp_path / "var" / "state.db")
        assert (await alice.get("/approvals")).status_code == 200

    asked(tmp_path, work)


def test_a_long_text_is_decided_where_all_of_it_stands(tmp_path: Path) -> None:
    async def work(it: Console) -> None:
        alice = await it.sign_in("alice", "dba")
        text = "DELETE FROM orders WHERE id IN (" + ", ".join(str(number) for number in range(5000)) + ") -- the end"
        approval = await held(it, text=text)
        inbox = (await alice.get("/approvals")).text
        assert "more characters are not shown here" in inbox
        assert 'value="approve"' not in inbox
        whole = (await alice.get(f"/approvals/{approval.id}")).text
        assert "the end" in whole
        assert 'value="approve"' in whole

    asked(tmp_path, work)


def test_what_is_settled_is_listed_however_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Console) -> str:
        alice = await it.sign_in("alice", "dba")
        settled = await held(it, text="DELETE FROM settled WHERE id = 1")
        assert (await decide(alice, settled, "deny")).status_code == 303
        await held(it)
        await held(it, text="DELETE FROM orders WHERE id = 4")
        monkeypatch.setattr("hopgate.console.pages.approvals.PAST", 2)
        return (await alice.get("/approvals/past")).text

    page = asked(tmp_path, work)
    assert "DELETE FROM settled" in page
    assert "DELETE FROM orders" not in page


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("GET", "/approvals/%00", {}),
        ("GET", "/sessions?text=%00", {}),
        ("GET", "/api/v1/approvals/%00", {}),
        ("POST", "/approvals/{id}/decide", {"comment": "a\0b"}),
        ("POST", "/approvals/{id}/decide", {"version": "9" * 5000}),
        ("POST", "/rules/explain", {"connection": "orders-db", "subject": "a\0b"}),
        ("POST", "/stop/kill", {"kind": "run", "value": "a\0b"}),
    ],
)
def test_what_nothing_can_be_called_is_malformed(tmp_path: Path, method: str, path: str, form: dict[str, str]) -> None:
    async def work(it: Console) -> tuple[int, str]:
        alice = await it.sign_in("alice", "dba", "ops")
        approval = await held(it)
        fields = {"fingerprint": approval.fingerprint, "version": "1", "verdict": "deny", **form} if method == "POST" else None
        answer = await alice.request(method, path.replace("{id}", approval.id), data=fields)
        return answer.status_code, await state(it, approval)

    assert asked(tmp_path, work) == (403 if "version" in form else 400, "pending")  # a decision's refusal is told on its card


def test_stopping_a_principal_takes_his_issuer(tmp_path: Path) -> None:
    async def work(it: Console) -> list[tuple[bool, bool]]:
        olga = await it.sign_in("olga", "ops")
        pages = [(await olga.get("/stop", params={"kind": "subject", "value": value})).text for value in ("alice", "local:alice")]
        return [("is nobody" in page, "End now" in page) for page in pages]

    assert asked(tmp_path, work) == [(True, False), (False, True)]
