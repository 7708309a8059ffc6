"""What only a PostgreSQL store does: its address, its absence, several that write, a listener that is not believed for ever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from hopgate.config import load_config
from hopgate.errors import Misconfigured, Unavailable
from hopgate.locks import Locks
from hopgate.services import Services
from hopgate.shared_store import open_store
from hopgate.store import Store, postgres
from hopgate.store.migrations import HEAD
from hopgate.store.postgres import Address
from tests.hopgate.people import AGENT, ALICE, EXACT, desk, opened
from tests.hopgate.places import Databases

PASSWORD = "hunter2-is-not-to-be-told"


@pytest.mark.parametrize(
    ("url", "dsn", "where"),
    [
        (
            "postgresql+asyncpg://u:p%40@db.example/hopgate",
            "postgresql://u:p%40@db.example/hopgate?sslmode=verify-full",
            "postgresql://db.example:5432/hopgate",
        ),
        ("postgresql://u@db:5433/h?sslmode=require", "postgresql://u@db:5433/h?sslmode=require", "postgresql://db:5433/h"),
        ("postgresql+asyncpg://u@127.0.0.1/h", "postgresql://u@127.0.0.1/h", "postgresql://127.0.0.1:5432/h"),
        ("postgresql+asyncpg://u@/h?host=/run/pg", "postgresql://u@/h?host=/run/pg", "postgresql:///run/pg:5432/h"),
    ],
)
def test_an_address_asks_for_tls_unless_it_says_otherwise(url: str, dsn: str, where: str) -> None:
    address = Address.of(url)
    assert (address.dsn, address.where) == (dsn, where)
    assert "p%40" not in repr(address)


@pytest.mark.parametrize(
    "url", [f"mysql://u:{PASSWORD}@h/d", f"postgresql+asyncpg://u:{PASSWORD}@h", f"postgresql+asyncpg://u:{PASSWORD}@h:port/d"]
)
async def test_what_is_no_address_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        await Store.open(url)
    assert PASSWORD not in str(caught.value)


async def test_a_wrong_password_is_told_and_not_quoted(databases: Databases) -> None:
    url = databases.url("postgres")
    user, _, rest = url.partition("@")
    with pytest.raises(Misconfigured, match="the server refuses: password authentication failed") as caught:
        await Store.open(f"{user.rpartition(':')[0]}:{PASSWORD}@{rest}")
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"postgresql://127\.0\.0\.1:1/h: the store does not answer"):
        await Store.open(f"postgresql+asyncpg://u:{PASSWORD}@127.0.0.1:1/h")


async def test_by_tls_with_verification(databases: Databases) -> None:
    with databases.fresh() as name:
        url = databases.server.url("owner", name).replace("postgresql://", "postgresql+asyncpg://")
        assert "sslmode=verify-full" in url
        async with opened(url) as store:
            await store.lock("run", "r", "ops", "")
            assert len(await store.list_locks()) == 1


async def test_a_fresh_database_is_filled_by_whoever_comes_first(databases: Databases) -> None:
    with databases.fresh("template1") as name:
        stores = await asyncio.gather(*(Store.open(databases.url(name)) for _ in range(4)))
        await stores[0].lock("run", "r", "ops", "")
        assert len(await stores[3].list_locks()) == 1
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_database_from_the_future_is_refused(databases: Databases) -> None:
    with databases.fresh() as name:
        async with opened(databases.url(name)) as store:
            await store.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        with pytest.raises(Misconfigured, match=f"has schema 9999, this hopgate knows up to {HEAD}"):
            await Store.open(databases.url(name))


async def test_a_store_that_comes_back_is_used_again(databases: Databases) -> None:
    with databases.fresh() as name:
        async with desk(databases.url(name)) as at:
            locks = Locks(at.store)
            await locks.start()
            approval = await at.ask()
            databases.close_to_everybody(name)
            for use in (at.approvals.spend(AGENT, "orders", EXACT), at.ask(), at.approvals.decide(approval, ALICE, "approve")):
                with pytest.raises((Unavailable, Misconfigured)) as caught:
                    await use
                assert "\n" not in str(caught.value)
            await _until(lambda: not _passes(locks))
            databases.open_again(name)
            await _until(lambda: _passes(locks))
            assert await at.state(approval) == "pending"
            await at.approvals.decide(approval, ALICE, "approve")
            await locks.close()


async def test_a_listener_that_hears_nothing_is_not_believed(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    with databases.fresh() as name:
        async with opened(databases.url(name)) as store:
            locks = Locks(store)
            await locks.start()
            assert _passes(locks)
            monkeypatch.setattr(postgres.Follower, "_look", _hangs)
            await _until(lambda: not _passes(locks))
            with pytest.raises(Unavailable, match="the store does not answer"):
                store.changed()


async def test_a_writer_that_hangs_does_not_hold_up_the_others_for_ever(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    with databases.fresh() as name:
        async with opened(databases.url(name)) as hanging, opened(databases.url(name)) as store:
            begun = asyncio.Event()

            async def work(_: object) -> None:
                begun.set()
                await asyncio.sleep(3600)

            writing = asyncio.ensure_future(hanging._alone(work))
            await begun.wait()
            with pytest.raises(Unavailable, match="lock timeout"):
                await store.lock("run", "r", "ops", "")
            assert await store.list_locks() == ()  # who only reads does not wait
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await store.lock("run", "r", "ops", "")


async def test_gateways_that_share_a_store_tell_their_processes_apart(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\nrules:\n  - {id: nothing, on: http, effect: deny}\n")
    with databases.fresh() as name:
        monkeypatch.setenv("HOPGATE_STORE", databases.url(name))
        gateways = []
        for gateway in ("east", "west"):
            path = tmp_path / f"{gateway}.yaml"
            path.write_text(
                f"version: 1\nstate: {gateway}\nrules: [rules.yaml]\ngateway: {gateway}\nstore: '${{env:HOPGATE_STORE}}'\n"
                "identity: {issuers: [{name: local, local: true}]}\n"
            )
            gateways.append(await Services.start(load_config(path), process="http-0"))
        east, west = gateways
        assert (east.process, west.process) == ("east.http-0", "west.http-0")
        await east.store.lock("subject", str(AGENT), "ops", "stolen")
        await _until(lambda: west.locks.is_locked(AGENT) is not None)
        for services in gateways:
            await services.close()
            assert not (services.config.state / "state.db").exists()
        store = await open_store(east.config)
        assert sorted(head.process for head in await store.list_heads()) == ["east.http-0", "west.http-0"]
        await store.close()


def test_a_store_in_a_secret_of_the_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hopgate.yaml"
    path.write_text("version: 1\nstore: '${secret:pg}'\nidentity: {issuers: [{name: local, local: true}]}\n")
    with pytest.raises(Misconfigured, match="lies in the store itself"):
        load_config(path).check()
    with pytest.raises(Misconfigured, match="lies in the store itself"):
        asyncio.run(open_store(load_config(path)))


async def _hangs(*_: object) -> None:
    await asyncio.sleep(3600)


def _passes(locks: Locks) -> bool:
    try:
        return locks.is_locked(AGENT) is None
    except Unavailable:
        return False


async def _until(true: object) -> None:
    until = time.monotonic() + 30
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
