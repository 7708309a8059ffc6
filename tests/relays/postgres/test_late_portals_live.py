"""Portals of statements whose names the server looks up only when they run: COPY, DDL, DECLARE, EXECUTE. What was judged at Bind may be
another by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from tests.relays.postgres.live import MASKS, RULES, gateway
from tests.relays.postgres.test_conversations_live import raw_login, until
from tests.relays.postgres.test_desync_live import query

pytestmark = pytest.mark.peer

EXECUTE = codec.Execute(b"p").build()


def bound(sql: bytes) -> bytes:
    return codec.Parse(b"", sql).build() + codec.Bind(b"p", b"").build()


BEGIN = query(b"BEGIN")
PATH = query(b"SET LOCAL search_path = scratch")
BACK = query(b"SET LOCAL search_path = public")
NAMED = codec.Parse(b"n", b"SELECT 'a'::text AS x").build()
HELD = codec.CloseTarget(b"S", b"n").build() + codec.Parse(b"n", b"DELETE FROM audit RETURNING 'b'::text AS x").build()
OTHER = codec.CloseTarget(b"S", b"n").build() + codec.Parse(b"n", b"SELECT max(email) AS x FROM customers").build()


@pytest.fixture(scope="module", autouse=True)
def scratch(postgres: Postgres) -> Iterator[None]:
    postgres.query("CREATE SCHEMA scratch; CREATE TABLE scratch.customers (id int, email text); CREATE TABLE scratch.cards (id int)")
    postgres.query("GRANT ALL ON SCHEMA scratch TO app; GRANT ALL ON ALL TABLES IN SCHEMA scratch TO app")
    yield
    postgres.query("DROP SCHEMA scratch CASCADE")


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([BEGIN, PATH, bound(b"COPY customers TO STDOUT") + codec.SYNC, BACK, EXECUTE + codec.SYNC], id="copy"),
        pytest.param([NAMED + codec.SYNC, bound(b"EXECUTE n") + OTHER + EXECUTE + codec.SYNC], id="execute"),
        pytest.param(
            [BEGIN, NAMED + codec.SYNC, bound(b"EXECUTE n") + codec.SYNC, OTHER + codec.SYNC, EXECUTE + codec.SYNC], id="execute-later"
        ),
        pytest.param([BEGIN, NAMED + codec.SYNC, bound(b"EXECUTE n") + OTHER + codec.SYNC, query(b"FETCH ALL FROM p")], id="fetch"),
        pytest.param([BEGIN, NAMED + codec.SYNC, bound(b"EXECUTE n") + HELD + codec.SYNC, query(b"MOVE ALL IN p")], id="held"),
        pytest.param([BEGIN, PATH, bound(b"DROP TABLE cards") + codec.SYNC, BACK, EXECUTE + codec.SYNC, query(b"ROLLBACK")], id="drop"),
        pytest.param(
            [
                BEGIN,
                PATH,
                bound(b"DECLARE c CURSOR FOR SELECT upper(email) AS x FROM customers") + codec.SYNC,
                BACK,
                EXECUTE + codec.SYNC,
                query(b"FETCH ALL FROM c"),
            ],
            id="declare",
        ),
    ],
)
async def test_what_runs_is_what_was_judged(postgres: Postgres, tmp_path: Path, messages: list[bytes]) -> None:
    rules = RULES.replace('writes: ["*.kept", "*.customers"]', "writes: [public.cards]")
    before = len(postgres.statements())
    async with gateway(tmp_path, postgres, rules + MASKS) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        got = []
        for message in messages:
            writer.write(message)
            got += await until(reader, "Z")
        codes = [codec.Report.parse(body).get(b"C") for kind, body in got if kind == "E"]
    told = b"".join(body for _, body in got)
    assert b"@customers.example" not in told.lower()
    assert b"DROP TABLE" not in told
    assert "DELETE FROM audit" not in "".join(postgres.statements()[before:])
    assert codes[0] == b"0A000"


async def test_copy_looks_at_the_columns_of_the_moment(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others change the schema too, and COPY data say of no column where it comes from."""
    monkeypatch.setattr("relays.postgres.judging.COPY_SECONDS", 0.0)
    postgres.query("CREATE TABLE moving (a text, ssn text); INSERT INTO moving VALUES ('shown', 'hidden'); GRANT SELECT ON moving TO app")
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        try:
            for change, data in (("SELECT 1", b"shown\t[redacted]\n"), ("ALTER TABLE moving DROP a, ADD b text", b"[redacted]\t\\N\n")):
                postgres.query(change)
                writer.write(query(b"COPY moving TO STDOUT"))
                assert [body for kind, body in await until(reader, "Z") if kind == "d"] == [data]
        finally:
            postgres.query("DROP TABLE moving")
