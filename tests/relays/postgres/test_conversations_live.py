"""What a real PostgreSQL and its clients say besides questions and answers: notifications, cancel requests, large objects, old versions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from relays.postgres.startup import SSLRequest, Startup
from tests.relays.postgres.live import REVIEWER, RULES, gateway
from tests.relays.postgres.test_live import one, sqlstate

pytestmark = pytest.mark.peer


# --- notifications


async def test_notifications_come_while_nothing_is_asked_and_between_statements(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        found.execute("LISTEN news")
        postgres.query("NOTIFY news, 'while idle'")
        (told,) = found.notifies(timeout=20, stop_after=1)
        assert (told.channel, told.payload) == ("news", "while idle")
        assert told.pid > 0
        heard: list[str] = []
        found.add_notify_handler(lambda notify: heard.append(notify.payload))
        for number in range(20):
            found.execute("NOTIFY news, 'own'" if number % 2 else "SELECT pg_notify('news', 'own')")
            assert one(found, "SELECT %s::int", number) == number
        with found.pipeline():
            rows = [found.execute("SELECT %s::int", (number,)) for number in range(10)]
            found.execute("NOTIFY news, 'in a pipeline'")
            assert [row.fetchone() for row in rows] == [(number,) for number in range(10)]
        with found.transaction():
            postgres.query("NOTIFY news, 'after the transaction'")
            assert one(found, "SELECT 1") == 1
            assert "after the transaction" not in heard
        deadline = time.monotonic() + 20
        while "after the transaction" not in heard and time.monotonic() < deadline:
            found.execute("SELECT 1")
        assert heard.count("own") == 20
        assert heard[-2:] == ["in a pipeline", "after the transaction"]
        found.execute("UNLISTEN *")
        postgres.query("NOTIFY news, 'nobody hears'")
        found.execute("SELECT pg_sleep(0.1)")
        assert heard[-1] == "after the transaction"

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)


async def test_notifications_do_not_carry_the_injected_password(postgres: Postgres, tmp_path: Path) -> None:
    secret = postgres.password()

    def work(found: psycopg.Connection[Any]) -> None:
        found.execute("LISTEN news")
        postgres.query(f"NOTIFY news, 'it is {secret}'", user="owner")
        (told,) = found.notifies(timeout=20, stop_after=1)
        assert told.payload == "it is [redacted]"

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)


async def test_asyncpg_listens_while_a_statement_is_held(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        found = await asyncpg.connect(
            host="127.0.0.1", port=world.listener.address.port, user="db", password=world.token(), database="db", ssl=False
        )
        heard: asyncio.Queue[str] = asyncio.Queue()
        await found.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait(payload))
        held = asyncio.ensure_future(found.execute("DELETE FROM audit WHERE what = 'nobody'"))
        approval = await world.pending()
        await asyncio.to_thread(postgres.query, "NOTIFY news, 'meanwhile'")
        assert await asyncio.wait_for(heard.get(), 20) == "meanwhile"
        await world.services.approvals.decide(approval.id, REVIEWER, "approve")
        assert await held == "DELETE 0"
        await found.close()


# --- cancel requests


@contextlib.contextmanager
def canceling(found: psycopg.Connection[Any]) -> Iterator[None]:
    """Cancel what runs, again and again until it has ended: a request that comes too early does nothing."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.2):
            found.cancel_safe()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("version", ["3.0", "3.2"])
@pytest.mark.parametrize("values", [(), ("nobody",)], ids=["simple", "extended"])
async def test_cancel_by_the_key_of_the_version(postgres: Postgres, tmp_path: Path, version: str, values: tuple[str, ...]) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        assert found.pgconn.full_protocol_version == {"3.0": 30000, "3.2": 30002}[version]
        for sql in ("SELECT pg_sleep(60)", f"DELETE FROM audit WHERE what = {'%s' if values else repr('nobody')}"):
            with canceling(found):
                assert sqlstate(found, sql, *(values if "%s" in sql else ())) == "57014"
            found.execute("SELECT 1")

    async with gateway(tmp_path, postgres) as world:
        await world.client(work, max_protocol_version=version)
        await world.quiet()
        for _ in range(1000):  # the card is taken back behind the client's error
            if not await world.services.store.list_approvals("pending"):
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("the card of a cancelled statement stays")


@pytest.mark.parametrize(("version", "length"), [(codec.PROTOCOL_3_0, 4), (codec.PROTOCOL_3_2, 32)])
async def test_only_the_whole_key_cancels(postgres: Postgres, tmp_path: Path, version: int, length: int) -> None:
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await raw_login(world, version)
        key = next(codec.BackendKeyData.parse(body) for kind, body in await until(reader, "Z") if kind == "K")
        assert len(key.secret) == length
        writer.write(codec.Query(b"SELECT pg_sleep(60)").build())
        # by length, by content and by process id: none of them is the key; shorter ones than four bytes are no request at all
        for pid, secret in (
            *((key.pid, secret) for secret in (key.secret + b"\0", bytes(length), key.secret[::-1], key.secret[: length - 1] + b"?")),
            *((key.pid, key.secret[:size]) for size in (4, 31) if size < length),
            (key.pid ^ 1, key.secret),
        ):
            await cancel(world, pid, secret)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        await cancel(world, key.pid, key.secret)
        (error,) = [codec.Report.parse(body) for kind, body in await until(reader, "Z") if kind == "E"]
        assert error.get(b"C") == b"57014"


async def cancel(world: Any, pid: int, secret: bytes) -> None:
    reader, writer = await world.connect()
    body = pid.to_bytes(4, "big") + secret
    writer.write((len(body) + 8).to_bytes(4, "big") + codec.CANCEL_REQUEST.to_bytes(4, "big") + body)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def raw_login(world: Any, version: int = codec.PROTOCOL_3_0, connection: str = "db", **settings: str) -> Any:
    """A client of our own that has logged in: reader and writer. What the server said after the password is still unread."""
    reader, writer = await world.connect()
    parameters = {"user": connection, **settings}
    writer.write(Startup(version, tuple((name.encode(), value.encode()) for name, value in parameters.items())).build())
    writer.write(b"")
    first = await message(reader)
    if first[0] == "v":
        first = await message(reader)
    assert first == ("R", (3).to_bytes(4, "big")), first
    writer.write(codec.Password(world.token().encode()).build())
    return reader, writer


async def message(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    header = await asyncio.wait_for(reader.readexactly(5), 30)
    return chr(header[0]), await asyncio.wait_for(reader.readexactly(int.from_bytes(header[1:], "big") - 4), 30)


async def until(reader: asyncio.StreamReader, kind: str) -> list[tuple[str, bytes]]:
    """Messages up to and with the next one of this kind."""
    found = [await message(reader)]
    while found[-1][0] != kind:
        found.append(await message(reader))
    return found


# --- versions


@pytest.mark.parametrize(
    ("asked", "options", "told"),
    [
        (codec.PROTOCOL_3_0, {}, None),
        (codec.PROTOCOL_3_2, {}, None),
        (3 << 16 | 1, {}, codec.PROTOCOL_3_0),
        (3 << 16 | 3, {}, codec.PROTOCOL_3_2),
        (3 << 16 | 9999, {"_pq_.test_protocol_negotiation": ""}, codec.PROTOCOL_3_2),
        (codec.PROTOCOL_3_2, {"_pq_.compression": "zstd"}, codec.PROTOCOL_3_2),
    ],
)
async def test_versions_are_negotiated(postgres: Postgres, tmp_path: Path, asked: int, options: dict[str, str], told: int | None) -> None:
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await world.connect()
        parameters = {"user": "db", **options}
        writer.write(Startup(asked, tuple((name.encode(), value.encode()) for name, value in parameters.items())).build())
        kind, body = await message(reader)
        if told is not None:
            assert kind == "v"
            found = codec.NegotiateProtocolVersion.parse(body)
            assert (found.version, [each.decode() for each in found.options]) == (told, list(options))
            kind, body = await message(reader)
        assert kind == "R"
        writer.write(codec.Password(world.token().encode()).build())
        await until(reader, "Z")
        writer.write(codec.Query(b"SELECT 1").build())
        assert [kind for kind, _ in await until(reader, "Z")] == ["T", "D", "C", "Z"]


class Older:
    """In front of a real server: answers a wish for 3.2 as a server before 18 does, or another that cuts long keys short."""

    def __init__(self, port: int, version: int) -> None:
        self.target, self.version = port, version

    async def __aenter__(self) -> Older:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self.target)
        length = await reader.readexactly(4)
        packet = await reader.readexactly(int.from_bytes(length, "big") - 4)
        if packet[:4] == codec.PROTOCOL_3_2.to_bytes(4, "big"):
            writer.write(codec.NegotiateProtocolVersion(self.version).build())
            packet = self.version.to_bytes(4, "big") + packet[4:]
        here.write(length + packet)
        await asyncio.gather(pump(reader, here), pump(there, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def test_a_server_that_speaks_only_3_0_behind_a_client_of_3_2(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        assert found.pgconn.full_protocol_version == 30002
        with canceling(found):
            assert sqlstate(found, "SELECT pg_sleep(60)") == "57014"

    async with Older(postgres.port, codec.PROTOCOL_3_0) as older:
        base = {"kind": "postgres", "target": f"127.0.0.1:{older.port}", "database": "orders", "tls": "disable"}
        connection = {"name": "db", **base, "credential": {"username": "app", "password": postgres.password()}}
        async with gateway(tmp_path, postgres, connections=[connection]) as world:
            await world.client(work, max_protocol_version="3.2")
            await world.client(lambda found: one(found, "SELECT 1"))


# --- large objects


async def test_large_objects_by_sql(postgres: Postgres, tmp_path: Path) -> None:
    content = bytes(range(256)) * 400

    def work(found: psycopg.Connection[Any]) -> None:
        oid = one(found, "SELECT lo_from_bytea(0, %s)", content)
        assert bytes(one(found, "SELECT lo_get(%s)", oid)) == content
        with found.transaction():
            descriptor = one(found, "SELECT lo_open(%s, 131072 | 262144)", oid)
            assert one(found, "SELECT lo_lseek(%s, 1000, 0)", descriptor) == 1000
            assert one(found, "SELECT lowrite(%s, %s)", descriptor, b"written") == 7
            one(found, "SELECT lo_lseek(%s, 1000, 0)", descriptor)
            assert bytes(one(found, "SELECT loread(%s, 7)", descriptor)) == b"written"
            one(found, "SELECT lo_close(%s)", descriptor)
        one(found, "SELECT lo_put(%s, 0, %s)", oid, b"put")
        assert bytes(one(found, "SELECT lo_get(%s, 0, 3)", oid)) == b"put"
        assert one(found, "SELECT lo_unlink(%s)", oid) == 1

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)
        # what reads and writes files of the server is another effect, which no rule here allows
        assert await world.client(lambda found: sqlstate(found, "SELECT lo_import('/etc/passwd')")) == "42501"
        assert await world.client(lambda found: sqlstate(found, "SELECT lo_export(1, '/tmp/x')")) == "42501"


async def test_function_calls_are_refused_and_the_session_goes_on(postgres: Postgres, tmp_path: Path) -> None:
    """libpq's lo_* functions call by FunctionCall."""
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        body = (957).to_bytes(4, "big") + b"\0\0" + b"\0\0" + b"\0\1"
        writer.write(codec.message(b"F", body))
        error, ready = await until(reader, "Z")
        assert codec.Report.parse(error[1]).get(b"C") == b"0A000"
        assert ready == ("Z", b"I")


async def test_encryption_by_gssapi_is_not_spoken(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        reader, writer = await world.connect()
        writer.write((8).to_bytes(4, "big") + codec.GSSENC_REQUEST.to_bytes(4, "big"))
        assert await asyncio.wait_for(reader.readexactly(1), 20) == b"N"
        writer.write(SSLRequest().build())
        assert await asyncio.wait_for(reader.readexactly(1), 20) == b"N"
        writer.write(Startup(codec.PROTOCOL_3_0, ((b"user", b"db"),)).build())
        assert (await message(reader))[0] == "R"


__all__ = ["RULES", "raw_login", "until"]
