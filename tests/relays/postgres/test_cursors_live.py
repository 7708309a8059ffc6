"""FETCH masks what its cursor carries and nothing else, as long as it is certain which cursor that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from tests.relays.postgres.live import MASKS, RULES, gateway
from tests.relays.postgres.test_conversations_live import raw_login, until
from tests.relays.postgres.test_live import sqlstate

pytestmark = pytest.mark.peer

HIDDEN = "[redacted]"
# of customer 1: what is masked, and what is made of it
SECRET = "SELECT upper(email) || '' AS x, id + 0 AS n FROM customers WHERE id = 1"
PLAIN = "SELECT upper(name) || '' AS x, id + 0 AS n FROM customers WHERE id = 1"


@pytest.fixture
def email(postgres: Postgres) -> str:
    return postgres.query("SELECT email FROM customers WHERE id = 1").strip().upper()


@pytest.fixture
def name(postgres: Postgres) -> str:
    return postgres.query("SELECT name FROM customers WHERE id = 1").strip().upper()


@pytest.fixture(scope="module", autouse=True)
def opener(postgres: Postgres) -> Iterator[None]:
    """Code of the database's owner that opens a cursor under a name of the caller's choice."""
    postgres.query(f"""
        CREATE FUNCTION opened(named refcursor) RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN BEGIN CLOSE named; EXCEPTION WHEN OTHERS THEN NULL; END; OPEN named FOR {SECRET}; RETURN 1; END $$
    """)
    yield
    postgres.query("DROP FUNCTION opened")


async def test_only_what_is_masked_is_hidden(postgres: Postgres, tmp_path: Path, email: str, name: str) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        for binary in (False, True):
            with found.transaction(), found.cursor("c", scrollable=True) as cursor:
                cursor.execute(
                    "SELECT id + %s, upper(email), upper(name), count(*) OVER (), email, customers FROM customers ORDER BY id", (0,)
                )
                cursor.format = psycopg.pq.Format(binary)
                for rows in (cursor.fetchmany(2), cursor.fetchall()):
                    for row in rows:
                        assert isinstance(row[0], int)
                        assert (row[1], row[4]) == (HIDDEN, HIDDEN)
                        assert row[2] == row[2].upper() != HIDDEN
                        assert row[3] == 3
                        assert row[5] is None or email not in str(row[5]).upper()
                cursor.scroll(0, mode="absolute")
                assert cursor.fetchone() is not None
        # WITH HOLD, after its transaction; BEGIN and DECLARE in one message; the same name again for something else
        with found.cursor("held", withhold=True) as cursor:
            assert cursor.execute(PLAIN).fetchall() == [(name, 1)]
        found.execute(f"BEGIN; DECLARE c CURSOR WITH HOLD FOR {PLAIN}")
        found.execute("COMMIT")
        assert found.execute("FETCH ALL FROM c").fetchall() == [(name, 1)]
        found.execute("CLOSE c")
        found.execute(f"BEGIN; DECLARE c CURSOR FOR {SECRET}")
        assert found.execute("FETCH ALL FROM c; CLOSE c").fetchall() == [(HIDDEN, 1)]
        found.execute(f"DECLARE c CURSOR FOR {PLAIN}")
        assert found.execute("FETCH BACKWARD 0 FROM c").fetchall() == []
        assert found.execute("FETCH NEXT FROM c", prepare=True).fetchall() == [(name, 1)]
        found.execute("COMMIT")

    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        await world.client(work)


# How the rows of SECRET might come under a name that was declared for PLAIN. Each is a list of texts, the last one fetches.
SWAPS = [
    # a DECLARE that fails, in a savepoint, beside one that has not
    ["BEGIN", f"DECLARE c CURSOR FOR {SECRET}", "SAVEPOINT s", f"DECLARE c CURSOR FOR {PLAIN}", "ROLLBACK TO s", "FETCH ALL FROM c"],
    ["BEGIN", "SELECT opened('c')", "SAVEPOINT s", f"DECLARE c CURSOR FOR {PLAIN}", "ROLLBACK TO s", "FETCH ALL FROM c"],
    # declared, closed, opened by code
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}", "CLOSE c", "SELECT opened('c')", "FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}", "SELECT opened('c')", "FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}", "COMMIT", "BEGIN", "SELECT opened('c')", "FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}; SELECT opened('c')", "FETCH ALL FROM c"],
    # code that runs when another cursor is fetched from
    [
        *("BEGIN", "DECLARE a CURSOR FOR SELECT opened('c') FROM generate_series(1, 2)", f"DECLARE c CURSOR FOR {PLAIN}", "FETCH 1 FROM a"),
        "FETCH ALL FROM c",
    ],
    # several in one text
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}; CLOSE c; DECLARE c CURSOR FOR {SECRET}", "FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {SECRET}; CLOSE c; DECLARE c CURSOR FOR {PLAIN}; CLOSE c; SELECT opened('c')", "FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}", f"CLOSE c; DECLARE c CURSOR FOR {SECRET}; FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}", f"CLOSE ALL; DECLARE c CURSOR FOR {SECRET}", "FETCH ALL FROM c"],
    # names are folded, unless they are quoted
    ["BEGIN", f'DECLARE "C" CURSOR FOR {PLAIN}', f"DECLARE C CURSOR FOR {SECRET}", "FETCH ALL FROM c"],
    ["BEGIN", f"DECLARE c CURSOR FOR {PLAIN}", f'DECLARE "C" CURSOR FOR {SECRET}', 'FETCH ALL FROM "C"'],
    # the same words in another schema
    ["BEGIN", "CREATE TEMP TABLE other (x text)", f"DECLARE c CURSOR FOR {PLAIN}", "CLOSE c", f"DECLARE c CURSOR FOR {SECRET}", "FETCH c"],
]


@pytest.mark.parametrize("how", ["simple", "extended"])
async def test_a_name_that_came_to_mean_another_cursor(postgres: Postgres, tmp_path: Path, email: str, how: str) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        for texts in SWAPS:
            seen: list[Any] = []
            for text in texts:
                try:
                    cursor = found.execute(text) if how == "simple" or ";" in text else found.execute(text, prepare=True)
                    seen += cursor.fetchall() if cursor.description else []
                except psycopg.Error as error:
                    seen.append(str(error))
            assert email not in repr(seen).upper(), texts
            found.execute("ROLLBACK")

    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        await world.client(work)


BEGIN = codec.Query(b"BEGIN").build()
FETCH = b"FETCH ALL FROM c"


def extended(sql: str | bytes, *, portal: bytes = b"", execute: bool = True) -> bytes:
    text = sql if isinstance(sql, bytes) else sql.encode()
    messages = codec.Parse(b"", text).build() + codec.Bind(portal, b"").build()
    return messages + (codec.Execute(portal).build() if execute else b"")


def query(sql: str) -> bytes:
    return codec.Query(sql.encode()).build()


DECLARE, CLOSE, SYNC = query(f"DECLARE c CURSOR FOR {PLAIN}"), query("CLOSE c"), codec.SYNC
PORTAL = extended(SECRET, portal=b"c", execute=False) + SYNC  # SQL reaches it as it does a cursor
CLOSED = codec.CloseTarget(b"P", b"c").build()
LATE, NOW = extended(FETCH, portal=b"f", execute=False), codec.Execute(b"f").build() + SYNC
FETCHED = query("FETCH ALL FROM c")
# The same by messages that do not wait for each other: each item is one burst, after which all answers are awaited
BURSTS = [
    [BEGIN, DECLARE + CLOSE + PORTAL, FETCHED],  # the DECLARE is not confirmed when its name is free again
    [BEGIN + DECLARE + CLOSE + query(f"DECLARE c CURSOR FOR {SECRET}") + FETCHED],
    [BEGIN, DECLARE, CLOSE + query(f"DECLARE c CURSOR FOR {SECRET}") + FETCHED],
    [BEGIN, DECLARE, CLOSED + PORTAL, FETCHED],
    [query(f"DECLARE c CURSOR FOR {PLAIN}; SELECT 1") + BEGIN + PORTAL, FETCHED],
    [BEGIN, PORTAL, FETCHED],
    # a FETCH that is bound before, and runs when the name has another meaning
    [BEGIN, DECLARE, LATE + SYNC, CLOSED + PORTAL, NOW],
    [BEGIN, DECLARE, LATE + CLOSED + extended(SECRET, portal=b"c", execute=False) + NOW],
    [BEGIN, DECLARE, LATE + SYNC, CLOSE, query(f"DECLARE c CURSOR FOR {SECRET}"), NOW],
    [BEGIN, DECLARE, LATE + SYNC, query("SELECT opened('c')"), NOW],
    # a portal with code that SQL fetches from
    [BEGIN, extended("SELECT opened('c')", portal=b"a", execute=False) + SYNC, DECLARE, query("FETCH 1 FROM a"), FETCHED],
]


async def test_a_name_that_came_to_mean_another_portal(postgres: Postgres, tmp_path: Path, email: str) -> None:
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        for number, bursts in enumerate(BURSTS):
            reader, writer = await raw_login(world)
            await until(reader, "Z")
            seen = b""
            for burst in bursts:
                writer.write(burst)
                for _ in range(sum(kind in b"QS" for kind, _ in codec.split(burst, codec.FRONTEND_LIMITS))):
                    seen += b"".join(body for _, body in await until(reader, "Z"))
            assert email.encode() not in seen.upper(), number
            writer.close()


async def test_errors_of_a_fetch_quote_nothing(postgres: Postgres, tmp_path: Path, email: str) -> None:
    masks = MASKS.replace("mask: {", "mask: {predicates: allow, ")

    def work(found: psycopg.Connection[Any]) -> None:
        for declare in ("DECLARE c CURSOR FOR SELECT email::int FROM customers WHERE id = 1", "DECLARE c CURSOR FOR SELECT 1; CLOSE c; {}"):
            found.execute("BEGIN")
            found.execute(declare.format("DECLARE c CURSOR FOR SELECT email::int FROM customers WHERE id = 1"))
            with pytest.raises(psycopg.Error) as caught:
                found.execute("FETCH ALL FROM c")
            assert caught.value.sqlstate == "22P02"
            assert email.lower() not in str(caught.value)
            found.execute("ROLLBACK")

    async with gateway(tmp_path, postgres, RULES + masks) as world:
        await world.client(work)


async def test_a_cursor_that_nobody_knows(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        assert await world.client(lambda found: sqlstate(found, "FETCH ALL FROM nobody")) == "34000"
