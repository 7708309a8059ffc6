"""Clients that want the server to answer something else than what the relay waits for: bytes that nobody judged would run, and rows
come out that are masked as those of another statement.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from relays.postgres.relay import MAX_UNANSWERED
from relays.postgres.state import QUERY
from tests.relays.postgres.live import MASKS, RULES, gateway
from tests.relays.postgres.test_conversations_live import raw_login, until

pytestmark = pytest.mark.peer

HARMLESS = b"SELECT 'a'::text AS x"
MASKED = b"SELECT max(email) AS x FROM customers"  # no column of a table: only what was read of the statement says what it is made of


def query(sql: bytes) -> bytes:
    return codec.Query(sql).build()


async def answer(reader: asyncio.StreamReader) -> tuple[str, list[bytes]]:
    """The kinds of the next answer's messages, and the values of its rows of one column."""
    found = await until(reader, "Z")
    return "".join(kind for kind, _ in found), [body[6:] for kind, body in found if kind == "D"]


async def test_a_portal_is_bound_again_where_it_may_be_gone(postgres: Postgres, tmp_path: Path) -> None:
    """Behind a Sync that is not answered yet, and behind ROLLBACK TO SAVEPOINT: rows were masked as those of the portal that was."""
    again = codec.Bind(b"p", b"b").build() + codec.Execute(b"p").build() + codec.SYNC
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        writer.write(codec.Parse(b"a", HARMLESS).build() + codec.Parse(b"b", MASKED).build() + codec.SYNC)
        await until(reader, "Z")
        writer.write(codec.Bind(b"p", b"a").build() + codec.FLUSH)
        await until(reader, "2")
        writer.write(codec.SYNC + again)
        assert await answer(reader) == ("Z", [])
        assert await answer(reader) == ("2DCZ", [b"[redacted]"])
        for sql in (b"BEGIN", b"SAVEPOINT s"):
            writer.write(query(sql))
            await until(reader, "Z")
        writer.write(codec.Bind(b"p", b"a").build() + codec.SYNC + query(b"ROLLBACK TO s"))
        assert [await answer(reader), await answer(reader)] == [("2Z", []), ("CZ", [])]
        writer.write(again)
        assert await answer(reader) == ("2DCZ", [b"[redacted]"])
        # where it is not gone the server refuses the second one, and with it what follows
        writer.write(codec.Bind(b"q", b"a").build() + codec.Bind(b"q", b"b").build() + codec.Execute(b"q").build() + codec.SYNC)
        assert await answer(reader) == ("2EZ", [])


async def test_a_statement_is_prepared_again_under_a_name_that_code_took_away(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres, RULES) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        writer.write(codec.Parse(b"a", HARMLESS).build() + codec.SYNC + query(b"DO $$BEGIN EXECUTE 'DEALLOCATE a'; END$$"))
        assert [await answer(reader), await answer(reader)] == [("1Z", []), ("CZ", [])]
        held = codec.Parse(b"a", b"DELETE FROM audit").build()  # a held statement may be prepared: it is held when it is bound
        writer.write(held + codec.Bind(b"", b"a").build() + codec.Execute(b"").build() + codec.SYNC)
        (error,) = [codec.Report.parse(body) for kind, body in await until(reader, "Z") if kind == "E"]
        assert error.get(b"C") == b"42P05"
    assert "DELETE FROM audit" not in postgres.statements()


async def test_the_session_is_not_asked_for_in_the_middle_of_copy_data(postgres: Postgres, tmp_path: Path) -> None:
    """The question became a part of the data, and as many bytes at their end became messages."""
    smuggled = query(b"DELETE FROM audit")
    rest = len(QUERY) - len(smuggled) - len(query(b"SELECT 1"))
    smuggled += query(b"SELECT 1" + b" " * rest)
    data = codec.message(b"d", b"x" * 5000 + smuggled)
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        writer.write(query(b"PREPARE again AS SELECT 1; COPY orders FROM STDIN"))
        await until(reader, "G")
        writer.write(codec.message(b"d", b"no number\n") + data[:100])
        assert await answer(reader) == ("EZ", [])
        writer.write(data[100:] + query(HARMLESS))
        assert await answer(reader) == ("TDCZ", [b"a"])
    assert "DELETE FROM audit" not in postgres.statements()


COPY, COPIES = b"COPY orders FROM STDIN", b"COPY orders FROM STDIN; COPY audit FROM STDIN"
EXTENDED = codec.Parse(b"", COPY).build() + codec.Bind(b"", b"").build() + codec.Execute(b"").build()


@pytest.mark.parametrize(
    ("ahead", "kinds"),
    [
        (query(COPY) + codec.SYNC + codec.COPY_DONE, ["GCZ"]),
        (query(COPY) + codec.COPY_DONE + codec.SYNC, ["GCZ", "Z"]),
        (query(COPIES) + codec.COPY_DONE + codec.SYNC + codec.CopyFail(b"enough").build(), ["GCGEZ"]),
        (query(b"COPY nowhere FROM STDIN") + codec.SYNC + codec.COPY_DONE, ["EZ", "Z"]),
        (EXTENDED + codec.SYNC + codec.COPY_DONE + codec.SYNC, ["12GCZ"]),
        (EXTENDED + codec.COPY_DONE + codec.SYNC, ["12GCZ"]),
        (EXTENDED + codec.COPY_DONE + codec.SYNC + codec.SYNC, ["12GCZ", "Z"]),
    ],
    ids=["query", "behind", "two", "fails", "extended", "extended, behind", "extended, twice"],
)
async def test_a_sync_that_is_sent_ahead_into_copy_data(postgres: Postgres, tmp_path: Path, ahead: bytes, kinds: list[str]) -> None:
    """The server ignores it there. As many answers come as are waited for, so that those of the next statements are their own."""
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        writer.write(ahead)
        found = [(await answer(reader))[0] for _ in kinds]
        writer.write(query(b"SELECT 1/0 AS x"))
        found.append((await answer(reader))[0])
        assert [one.replace("S", "") for one in found] in ([*kinds, "EZ"], [*kinds, "TEZ"])
        writer.write(query(MASKED))
        assert await answer(reader) == ("TDCZ", [b"[redacted]"])


async def test_a_client_waits_for_answers_before_it_may_ask_more(postgres: Postgres, tmp_path: Path) -> None:
    """Five bytes of its own were some hundred of the gateway's, for as long as the server was busy."""
    count = 3 * MAX_UNANSWERED
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        with psycopg.connect(postgres.url(), autocommit=True) as busy:
            busy.execute("SELECT pg_advisory_lock(7713)")
            writer.write(query(b"SELECT pg_advisory_lock_shared(7713)") + codec.SYNC * count)
            (driver,) = world.outside.drivers
            replies = driver.relay.replies  # type: ignore[attr-defined]
            async with asyncio.timeout(60):
                while len(replies.queue) < MAX_UNANSWERED:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(replies.queue) == MAX_UNANSWERED
        for _ in range(count + 1):
            await until(reader, "Z")
