"""What is said in a session is in its recording: what ran, what was refused, what waited; and the recording verifies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mitmproxy.io import FlowReader

from hopgate.verify import verify_state
from playground.postgres import Postgres
from relays.postgres import codec
from tests.relays.postgres.live import REVIEWER, RULES, Gateway, gateway
from tests.relays.postgres.test_conversations_live import cancel, raw_login, until
from tests.relays.postgres.test_live import sqlstate

pytestmark = pytest.mark.peer

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZ2VudCJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
DETECT = "  - {id: tokens, on: sql, effect: mask, mask: {detect: [jwt]}}\n"


def said(world: Gateway) -> list[tuple[bool, str]]:
    """The messages of all recordings: whether they are the client's, and their text."""
    found = []
    for path in sorted(world.config.state.glob("recordings/**/*.mitm")):
        with path.open("rb") as file:
            for flow in FlowReader(file).stream():
                found += [(message.from_client, message.content.decode()) for message in flow.messages]  # type: ignore[union-attr]
    return found


async def test_refused_and_held_statements_are_recorded_with_what_became_of_them(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        assert sqlstate(found, "DROP TABLE customers -- simple") == "42501"
        with found.cursor() as cursor, pytest.raises(psycopg.errors.InsufficientPrivilege):
            cursor.execute("DROP TABLE customers -- extended", prepare=True)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            found.execute("SELECT id FROM orders WHERE id = %s", (13,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            found.cursor(binary=True).execute("SELECT id FROM orders WHERE id = %b", (13,), prepare=True)
        assert sqlstate(found, "SELECT (") == "42501"
        with found.pipeline() as pipeline, pytest.raises(psycopg.errors.InsufficientPrivilege):
            found.execute("SELECT 'before'")
            found.execute("DROP TABLE customers -- in a pipeline")
            found.execute("SELECT 'behind'")
            pipeline.sync()
        assert sqlstate(found, "DELETE FROM orders -- denied by a reviewer") == "42501"
        assert sqlstate(found, "DELETE FROM audit WHERE what = %s -- approved", "nobody") == ""

    async with gateway(tmp_path, postgres) as world:
        running = asyncio.ensure_future(world.client(work))
        ids = []
        for how in ("deny", "approve"):
            ids.append((await world.pending()).id)
            await world.services.approvals.decide(ids[-1], REVIEWER, how)
        await running
        await world.quiet()
        messages = said(world)

        def behind(text: str) -> str:
            """What is said behind the client's only message that begins with a text."""
            (at,) = [number for number, (client, each) in enumerate(messages) if client and each.startswith(text)]
            client, answer = messages[at + 1]
            assert not client
            return answer

        for how in ("simple", "extended", "in a pipeline"):
            assert behind(f"DROP TABLE customers -- {how}").startswith(
                "REFUSED 42501: nothing is dropped here (rule: no-drop; operation: s"
            )
        bound = [
            number for number, (client, text) in enumerate(messages) if client and text.startswith("SELECT id FROM orders WHERE id = $1\n")
        ]
        assert [messages[number][1].partition("\n")[2] for number in bound] == ["-- $1 = 13"] * 2
        assert all(messages[number + 1][1].startswith("REFUSED 42501: not thirteen") for number in bound)
        assert behind("SELECT (").startswith("REFUSED 42501")
        assert behind("DELETE FROM orders").startswith(f"HELD {ids[0]}: ")
        assert any(text.startswith("REFUSED 42501: a reviewer denied this") and ids[0] in text for client, text in messages if not client)
        # what was approved is there as it was held, and as it ran
        approved = [number for number, (client, text) in enumerate(messages) if client and text.startswith("DELETE FROM audit")]
        assert [messages[number + 1][1].split(":")[0] for number in approved] == [f"HELD {ids[1]}", "DELETE 0"]
        assert "SELECT 'behind'" not in [text for client, text in messages]
    report = verify_state(world.config.state)
    assert report.verdict == "whole", report.findings


@pytest.mark.parametrize("how", ["cancels", "goes away", "is killed"])
async def test_what_is_held_when_its_session_ends_is_recorded(postgres: Postgres, tmp_path: Path, how: str) -> None:
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await raw_login(world)
        key = next(codec.BackendKeyData.parse(body) for kind, body in await until(reader, "Z") if kind == "K")
        writer.write(codec.Query(b"DELETE FROM orders -- never decided").build())
        approval = await world.pending()
        await until(reader, "N")  # the row is there a moment before it is told and recorded
        if how == "cancels":
            await cancel(world, key.pid, key.secret)
            await until(reader, "Z")
        elif how == "is killed":
            for session in list(world.services.sessions._live):
                session.end("killed by an operator")
        writer.close()
        await world.quiet()
        messages = said(world)
    at = messages.index((True, "DELETE FROM orders -- never decided"))
    assert messages[at + 1][1].startswith(f"HELD {approval.id}: ")


async def test_what_is_hidden_in_results_is_hidden_in_recorded_statements(postgres: Postgres, tmp_path: Path) -> None:
    secret = postgres.password()

    def work(found: psycopg.Connection[Any]) -> None:
        for sql in ("SELECT '{}' AS a", "DROP TABLE customers -- {}", "DELETE FROM audit WHERE what = '{}'"):
            sqlstate(found, sql.format(JWT))
            sqlstate(found, sql.format(secret))
        for value in (JWT, secret):
            sqlstate(found, "SELECT %s", value)
            sqlstate(found, "DELETE FROM audit WHERE what = %s", value)

    async with gateway(tmp_path, postgres, RULES + DETECT) as world:
        running = asyncio.ensure_future(world.client(work))
        for _ in range(4):
            await world.services.approvals.decide((await world.pending()).id, REVIEWER, "deny")
        await running
        await world.quiet()
        messages = said(world)
    assert sum("[redacted]" in text or "[jwt]" in text for client, text in messages if client) >= 8, messages
    assert not any(JWT in text or secret in text for _, text in messages)
    for path in world.config.state.rglob("*"):
        if path.is_file() and path.suffix in (".mitm", ".ndjson"):
            assert secret.encode() not in path.read_bytes()


async def test_a_long_refused_statement_is_cut(postgres: Postgres, tmp_path: Path) -> None:
    long = "DROP TABLE customers -- " + "x" * 300_000

    async with gateway(tmp_path, postgres) as world:
        assert await world.client(lambda found: sqlstate(found, long)) == "42501"
        await world.quiet()
        (text,) = [text for client, text in said(world) if client and text.startswith("DROP")]
    assert text.endswith(f"[cut: {len(long)} bytes in all]")
    assert 60_000 < len(text) < 70_000
