"""COPY FROM STDIN by the extended protocol, in the orders of messages in which clients send them (section 54.2.6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from tests.relays.postgres.live import gateway
from tests.relays.postgres.test_conversations_live import raw_login, until

pytestmark = pytest.mark.peer

COPY = codec.Parse(b"", b"COPY t FROM STDIN").build() + codec.Bind(b"", b"").build() + codec.Execute(b"").build()
DATA, BAD, DONE, FAIL = codec.message(b"d", b"1\n"), codec.message(b"d", b"no number\n"), codec.COPY_DONE, codec.CopyFail(b"enough").build()
SYNC, COUNT = codec.SYNC, codec.Query(b"SELECT count(*) FROM t").build()


@pytest.mark.parametrize(
    ("first", "then", "expected", "rows"),
    [
        (COPY + SYNC, DATA + DONE + SYNC, "CZ", b"1"),  # libpq: the first Sync is ignored
        (COPY + codec.FLUSH, DATA + DATA + DONE + SYNC, "CZ", b"2"),
        (COPY + SYNC, DATA + FAIL + SYNC, "EZ", b"0"),
        (COPY + SYNC, SYNC + codec.FLUSH + DATA + DONE + SYNC, "CZ", b"1"),
        (COPY + SYNC, BAD + DONE + SYNC, "EZ", b"0"),
        (COPY + SYNC, DATA + DONE + codec.Parse(b"", b"SELECT 1").build() + SYNC, "C1Z", b"1"),
    ],
    ids=["libpq", "flush", "fail", "syncs that are ignored", "bad data", "a statement behind"],
)
async def test_copy_in(postgres: Postgres, tmp_path: Path, first: bytes, then: bytes, expected: str, rows: bytes) -> None:
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        writer.write(codec.Query(b"CREATE TEMP TABLE t (a int)").build())
        await until(reader, "Z")
        writer.write(first)
        assert [kind for kind, _ in await until(reader, "G")] == ["1", "2", "G"]
        writer.write(then)
        assert "".join(kind for kind, _ in await until(reader, "Z")) == expected
        writer.write(COUNT)
        assert [body[6:] for kind, body in await until(reader, "Z") if kind == "D"] == [rows]
