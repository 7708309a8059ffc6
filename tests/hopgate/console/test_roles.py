"""Every route with every role: what is not permitted is refused by the server, whatever a page shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from hopgate.console.call import Route
from hopgate.console.routes import ROUTES
from tests.hopgate.console.conftest import GROUPS, Console, console

RANK = {"viewer": {"viewer", "reviewer", "operator"}, "reviewer": {"reviewer"}, "operator": {"operator"}}
PATHS = {"{id}": "s0", "{number}": "0", "{name:path}": "theme.css"}
# what a permitted call may answer, given that nothing of what it names is there
DONE = frozenset({200, 204, 303, 400, 403, 404, 409, 415})


def path_of(route: Route) -> str:
    path = route.path
    for part, value in PATHS.items():
        path = path.replace(part, value)
    return path


async def ask(client: httpx.AsyncClient, route: Route, permitted: bool = False) -> int:
    stream = permitted and route.path.endswith("/events")
    try:
        # a stream does not end: not to be refused is to be let in
        return (await asyncio.wait_for(client.request(route.method, path_of(route)), 0.2 if stream else 60)).status_code
    except TimeoutError:
        assert stream
        return 200


def test_every_route_and_role(tmp_path: Path) -> None:
    async def work() -> list[str]:
        wrong = []
        async with console(tmp_path) as it:
            clients = {role: await it.sign_in(f"{role}-1", *groups) for role, groups in GROUPS.items()}
            for route in ROUTES:
                if route.role is None or route.path == "/logout":
                    continue
                for role, client in clients.items():
                    permitted = role in RANK[route.role]
                    status = await ask(client, route, permitted)
                    if (status not in DONE or (status == 403 and not about_what_is_named(route))) if permitted else status != 403:
                        wrong.append(f"{route.method} {route.path} as {role}: {status}")
                if (status := await ask(it.client, route)) not in (401, 303):
                    wrong.append(f"{route.method} {route.path} as nobody signed in: {status}")
        return wrong

    assert asyncio.run(work()) == []


def about_what_is_named(route: Route) -> bool:
    """Routes where a permitted caller is told 403 about what he names, not about himself."""
    return route.path in ("/rules/explain", "/api/v1/rules/explain")


@pytest.mark.parametrize("claims", [{"act": {"sub": "robot"}}, {"run": "nightly"}])
def test_what_an_agent_holds_opens_nothing(tmp_path: Path, claims: dict[str, object]) -> None:
    async def work() -> list[int]:
        async with console(tmp_path) as it:
            return [
                (await it.client.get("/api/v1/me", headers=it.bearer("robot", "dba", "ops", **claims))).status_code,
                (await it.client.get("/api/v1/me", headers=it.bearer("robot", "agents"))).status_code,
                (await it.client.get("/api/v1/me", headers=it.bearer("alice", "dba"))).status_code,
                # a page takes no token: a browser cannot be made to send one
                (await it.client.get("/approvals", headers=it.bearer("alice", "dba"))).status_code,
            ]

    assert asyncio.run(work()) == [403, 403, 200, 303]


def test_a_locked_person_is_out_at_once(tmp_path: Path) -> None:
    async def work(it: Console) -> tuple[int, int]:
        alice = await it.sign_in("alice", "dba")
        before = (await alice.get("/approvals")).status_code
        await it.past.store.lock("subject", "local:alice", "local:ops", "left the company")
        await it.desk.services.locks.refresh()
        return before, (await alice.get("/approvals")).status_code

    async def run() -> tuple[int, int]:
        async with console(tmp_path) as it:
            return await work(it)

    assert asyncio.run(run()) == (200, 403)


def test_rules_that_name_other_reviewers_change_the_roles(tmp_path: Path) -> None:
    async def run() -> list[frozenset[str]]:
        found = []
        async with console(tmp_path) as it:
            who = (await it.sign_in("carol", "finance")).cookies["hopgate"]
            carol = (await it.desk.signins.find(who)).principal
            found.append(it.desk.roles.of(carol))
            rules = (tmp_path / "rules.yaml").read_text().replace("finance, ", "")
            (tmp_path / "rules.yaml").write_text(rules)
            await it.desk.services.rules.refresh()
            found.append(it.desk.roles.of(carol))
        return found

    assert asyncio.run(run()) == [frozenset({"viewer", "reviewer"}), frozenset()]
