"""Rules that change while statements are prepared, bound and half read: what runs next is decided by the rules of that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from tests.relays.postgres.live import MASKS, REVIEWER, RULES, Gateway, gateway
from tests.relays.postgres.test_conversations_live import raw_login, until

pytestmark = pytest.mark.peer

NO_ORDERS = "  - {id: no-orders, on: sql, match: {reads: [public.orders]}, effect: deny, message: not the orders}\n"
ASK_ORDERS = "  - {id: ask-orders, on: sql, match: {reads: [public.orders]}, effect: hold, hold: {reviewers: [dba]}}\n"
NO_14 = "  - {id: no-14, on: sql, match: {reads: [public.orders], params: [14]}, effect: deny, message: not fourteen}\n"


async def change(world: Gateway, rules: str) -> None:
    """Write other rules, and read them at once."""
    before = world.services.rules.current.version
    (world.config.path.parent / "rules.yaml").write_text(rules)
    await world.services.rules.refresh()
    assert world.services.rules.current.version != before


async def test_prepared_statements(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        found = await psycopg.AsyncConnection.connect(world.dsn(), autocommit=True, prepare_threshold=0)
        for sql, values in (("SELECT id FROM orders WHERE id = 12", None), ("SELECT id FROM orders WHERE id = %s", (14,))):
            assert (await (await found.execute(sql, values)).fetchone()) is not None
            await change(world, RULES + NO_ORDERS)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not the orders"):
                await found.execute(sql, values)
            await change(world, RULES)
            assert (await (await found.execute(sql, values)).fetchone()) is not None
        await change(world, RULES + NO_14)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not fourteen"):
            await found.execute("SELECT id FROM orders WHERE id = %s", (14,))
        assert await (await found.execute("SELECT id FROM orders WHERE id = %s", (15,))).fetchone() == (15,)
        await change(world, RULES + ASK_ORDERS)
        running = asyncio.ensure_future(found.execute("SELECT id FROM orders WHERE id = %s", (16,)))
        approval = await world.pending()
        assert "$1 = 16" in approval.text
        await world.services.approvals.decide(approval.id, REVIEWER, "approve")
        assert await (await running).fetchone() == (16,)
        await found.close()


async def test_portals_that_are_bound_or_half_read(postgres: Postgres, tmp_path: Path) -> None:
    bind = (
        codec.Parse(b"s", b"SELECT id FROM orders WHERE id > $1 ORDER BY id", (23,)).build() + codec.Bind(b"p", b"s", (), (b"10",)).build()
    )
    one, all_ = codec.Execute(b"p", 1).build(), codec.Execute(b"p").build()

    async def say(reader: Any, writer: Any, *messages: bytes) -> str:
        writer.write(b"".join(messages))
        answers = await until(reader, "Z")
        codes = [codec.Report.parse(body).get(b"C").decode() for kind, body in answers if kind == "E"]
        return "".join(kind for kind, _ in answers if kind != "E") + "".join(codes)

    async with gateway(tmp_path, postgres) as world:
        for more, expected in ((NO_ORDERS, "42501"), (ASK_ORDERS, "42501"), (MASKS, "")):
            for read_before in (False, True):
                reader, writer = await raw_login(world)
                await until(reader, "Z")
                await say(reader, writer, codec.Query(b"BEGIN").build())
                assert await say(reader, writer, bind, one if read_before else b"", codec.SYNC) == ("12DsZ" if read_before else "12Z")
                await change(world, RULES + more)
                running = asyncio.ensure_future(say(reader, writer, all_, codec.SYNC))
                if more == ASK_ORDERS:
                    approval = await world.pending()
                    assert "SELECT id FROM orders" in approval.text
                    await world.services.approvals.decide(approval.id, REVIEWER, "deny")
                said = await running
                if expected:
                    assert said.lstrip("N") == f"Z{expected}"
                    assert await say(reader, writer, codec.Query(b"SELECT 1").build()) == "Z25P02"
                else:
                    # what is masked now has no part in it, or it must be bound again
                    assert said in ("Z42501", "D" * (said.count("D")) + "CZ")
                await change(world, RULES)
                writer.close()


async def test_masks_that_come_after_bind(postgres: Postgres, tmp_path: Path) -> None:
    email = postgres.query("SELECT email FROM customers WHERE id = 1").strip().encode()
    bind = (
        codec.Parse(b"", b"SELECT email FROM customers ORDER BY id").build()
        + codec.Bind(b"p", b"").build()
        + codec.Execute(b"p", 1).build()
    )
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        writer.write(codec.Query(b"BEGIN").build() + bind + codec.SYNC)
        await until(reader, "Z")
        assert any(kind == "D" and email in body for kind, body in await until(reader, "Z"))
        await change(world, RULES + MASKS)
        writer.write(codec.Execute(b"p").build() + codec.SYNC)
        answers = await until(reader, "Z")
        assert not any(b"@" in body for kind, body in answers if kind == "D")
        assert [codec.Report.parse(body).get(b"C") for kind, body in answers if kind == "E"] == [b"42501"]
        writer.write(codec.Query(b"ROLLBACK").build() + codec.Query(b"SELECT email FROM customers").build())
        await until(reader, "Z")
        assert {body[6:] for kind, body in await until(reader, "Z") if kind == "D"} == {b"[redacted]"}
