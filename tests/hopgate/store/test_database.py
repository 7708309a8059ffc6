"""Opening, transactions, the doorbell, and a database that is locked, gone, full, read-only, foreign or from the future."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.errors import Conflict, Misconfigured, Unavailable
from hopgate.store import Store, sqlite
from hopgate.store.migrations import HEAD as VERSION
from hopgate.tasks import spawn
from rules.model import Exact
from tests.hopgate.people import AGENT, ALICE, EXACT, HOLD, NOW, desk, opened

SECRET = "hunter2-is-not-to-be-told"


def by_hand(state: Path, statement: str) -> None:
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute(statement)
    connection.close()


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = await Store.open(tmp_path / "a" / "var")
        await store.save_head("p", 1, "00", False, NOW)
    finally:
        os.umask(mask)
    async with opened(tmp_path / "a" / "var"):
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            assert stat.S_IMODE((tmp_path / "a" / "var" / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "a" / "var").stat().st_mode) == 0o700
    await store.close()


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.save_head("p", 7, "ab", True, NOW)
    async with opened(tmp_path) as store:
        assert [(head.process, head.n, head.head, head.final, head.at) for head in await store.list_heads()] == [("p", 7, "ab", True, NOW)]


async def test_every_connection_is_durable_and_checks_references(tmp_path: Path) -> None:
    async def settings(connection: Any) -> list[Any]:
        return [(await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")]

    async with opened(tmp_path) as store:
        assert await asyncio.gather(*(store.read(settings) for _ in range(3))) == [["wal", 2, 1]] * 3


async def test_many_may_open_a_fresh_database_at_once(tmp_path: Path) -> None:
    stores = await asyncio.gather(*(Store.open(tmp_path) for _ in range(6)))
    for number, store in enumerate(stores):
        await store.save_head(f"p{number}", 1, "00", False, NOW)
    assert len(await stores[0].list_heads()) == 6
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_database_from_the_future_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    by_hand(tmp_path, f"UPDATE meta SET value = '{VERSION + 1}' WHERE key = 'schema'")
    with pytest.raises(Misconfigured, match=f"has schema {VERSION + 1}, this hopgate knows up to {VERSION}"):
        await Store.open(tmp_path)


def _text_file(state: Path) -> None:
    (state / "state.db").write_text("this is no database, it is a text of more than sixteen bytes " * 20)


def _foreign(state: Path) -> None:
    by_hand(state, "CREATE TABLE meta (key TEXT, value TEXT)")
    by_hand(state, "INSERT INTO meta VALUES ('schema', 'v3.1')")


def _directory(state: Path) -> None:
    (state / "state.db").mkdir()


def _link(state: Path) -> None:
    (state / "state.db").symlink_to(state / "elsewhere.db")


def _file(state: Path) -> None:
    state.rmdir()
    state.write_text("")


def _writable(state: Path) -> None:
    state.chmod(0o770)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_text_file, "is not a SQLite database"),
        (_foreign, "not a database of hopgate"),
        (_directory, "no regular file"),
        (_link, "no regular file"),
        (_writable, "others may write"),
        (_file, "is no directory"),
    ],
)
async def test_what_is_no_state_of_ours_is_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    state = tmp_path / "var"
    state.mkdir(mode=0o700)
    spoil(state)
    with pytest.raises(Misconfigured, match=message):
        await Store.open(state)


async def test_a_state_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(Unavailable):
        await Store.open(tmp_path / "var" / "state")


async def test_what_raises_in_a_transaction_undoes_it(tmp_path: Path) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(text("INSERT INTO meta VALUES ('a', 'b')"))
        raise Conflict("no")

    async def rows(connection: Any) -> Any:
        return (await connection.execute(text("SELECT key FROM meta"))).scalars().all()

    async with opened(tmp_path) as store:
        with pytest.raises(Conflict):
            await store.write(work)
        assert await store.read(rows) == ["schema"]


class Halfway:
    """Where a transaction waits in its middle, in whichever thread it runs."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self.go_on = threading.Event()

    def wait(self) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self.go_on.wait(30)


async def test_a_caller_that_is_cancelled_does_not_cut_a_transaction_in_two(tmp_path: Path) -> None:
    halfway = Halfway()
    here = asyncio.Event()

    async def in_a_thread(connection: Any) -> None:
        await connection.execute(text("INSERT INTO meta VALUES ('a', '1')"))
        halfway.wait()
        await connection.execute(text("INSERT INTO meta VALUES ('b', '2')"))

    async def in_the_loop(connection: Any) -> None:
        await connection.execute(text("INSERT INTO meta VALUES ('c', '1')"))
        here.set()
        await asyncio.sleep(0.02)
        await connection.execute(text("INSERT INTO meta VALUES ('d', '2')"))

    async def rows(connection: Any) -> Any:
        return (await connection.execute(text("SELECT key FROM meta ORDER BY key"))).scalars().all()

    async with opened(tmp_path) as store:
        for caller, reached in (
            (asyncio.ensure_future(store.write(in_a_thread)), halfway.reached),
            (asyncio.ensure_future(store.write_here(in_the_loop)), here),
        ):
            await reached.wait()
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            halfway.go_on.set()
        await store.write(rows)  # waits its turn
        assert await store.read(rows) == ["a", "b", "c", "d", "schema"]


async def test_a_transaction_in_a_thread_that_waits_for_something_else_fails_and_undoes_it(tmp_path: Path) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(text("INSERT INTO meta VALUES ('a', '1')"))
        await asyncio.sleep(0)

    async with opened(tmp_path) as store:
        with pytest.raises(RuntimeError, match="waits for something else"):
            await store.write(work)
        rows = await store.read(
            lambda connection: connection.run_sync(lambda sync: sync.execute(text("SELECT key FROM meta")).scalars().all())
        )
        assert rows == ["schema"]


async def everything(store: Store) -> None:
    """One of each kind of use; a store that does not answer fails each of them."""
    uses: list[Callable[[], Any]] = [
        store.list_locks,
        lambda: store.find_token(SECRET),
        lambda: store.lock("subject", "corp:a", SECRET, SECRET),
        lambda: store.save_token("d", SECRET, SECRET, NOW),
        lambda: store.has_overdue(NOW),
    ]
    for use in uses:
        with pytest.raises(Unavailable) as caught:
            await use()
        assert SECRET not in f"{caught.value!s}{caught.value!r}{caught.value.__cause__!r}{caught.value.__suppress_context__ or ''}"
        assert "\n" not in str(caught.value)


async def test_a_database_that_is_gone_is_unavailable_and_not_written_to(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (tmp_path / "state.db").rename(tmp_path / "moved.db")
        await everything(store)
        with pytest.raises(Unavailable, match="was replaced"):
            store.changed()


async def test_a_database_that_was_replaced_is_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path / "b"):
        pass
    async with opened(tmp_path / "a") as store:
        (tmp_path / "b" / "state.db").rename(tmp_path / "a" / "state.db")
        await everything(store)


async def test_closing_waits_for_reads_whose_callers_have_gone(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    halfway, ended = Halfway(), []

    async def work(connection: AsyncConnection) -> None:
        halfway.wait()
        await connection.execute(text("SELECT 1"))
        ended.append("read")

    caller = spawn(store.read(work), name="reader")
    await halfway.reached.wait()
    caller.cancel()
    closing = spawn(store.close(), name="closing")
    await asyncio.sleep(0.05)
    assert not closing.done()
    halfway.go_on.set()
    await asyncio.wait_for(closing, 10)
    assert ended == ["read"]


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    await everything(store)


async def test_a_database_that_stays_locked_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("busy_timeout=50",))
    async with desk(tmp_path) as at:
        approval = await at.ask()
        blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for use in (at.approvals.spend(AGENT, "orders", EXACT), at.ask(), at.approvals.decide(approval, ALICE, "approve")):
            with pytest.raises(Unavailable, match="database is locked"):
                await use
        blocker.execute("ROLLBACK")
        blocker.close()
        assert await at.state(approval) == "pending"


async def test_a_full_database_is_unavailable_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path):
        pass
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("max_page_count=1",))
    async with desk(tmp_path) as at:
        with pytest.raises(Unavailable, match="full"):
            await at.approvals.request(AGENT, "s", "orders", [HOLD], Exact("t", "x" * 100_000, b""))
        assert await at.store.list_approvals() == ()
        assert at.events == []


def test_a_read_only_database_is_unavailable(tmp_path: Path) -> None:
    """In a process of its own, which gives up root's rights: for root nothing is read-only."""
    script = """
        import asyncio, os, pathlib, shutil, sys, tempfile
        from hopgate.errors import Unavailable
        from hopgate.store import Store

        async def main(state):
            store = await Store.open(state)
            await store.lock("subject", "corp:a", "ops", "before")
            await store.close()
            (state / "state.db").chmod(0o400)
            state.chmod(0o500)
            if os.geteuid() == 0:
                for path in (state, state / "state.db"):
                    os.chown(path, 65534, 65534)
                os.setgid(65534)
                os.setuid(65534)
            try:
                store = await Store.open(state)
                await store.unlock("subject", "corp:a")
            except Unavailable as error:
                print("unavailable:", error)

        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            if os.fork() == 0:
                asyncio.run(main(pathlib.Path(directory, "var")))
                sys.stdout.flush()
                os._exit(0)
            os.wait()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False
    )
    assert done.stdout.startswith("unavailable:"), done.stderr


async def test_the_doorbell_rings_for_every_commit_of_anybody(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, opened(tmp_path) as other:
        store.changed()
        assert not store.changed()
        for who in (store, other):
            await who.lock("run", "r", "ops", "")
            assert store.changed()
            assert not store.changed()
        await other.list_locks()
        assert not store.changed()


async def test_a_view_follows_and_one_that_fails_is_tried_again(tmp_path: Path) -> None:
    seen: list[int] = []
    failing = False

    async with opened(tmp_path) as store, opened(tmp_path) as other:

        async def read() -> None:
            if failing:
                raise Unavailable("not now")
            seen.append(len(await store.list_locks()))

        subscription = await store.subscribe(read)
        assert seen == [0]
        failing = True
        await other.lock("run", "r", "ops", "")
        await store.look()
        assert seen == [0]
        assert not store.confirm(subscription)
        failing = False
        await store.look()
        assert seen[-1] == 1
        assert store.confirm(subscription)
        length = len(seen)
        await store.look()
        assert len(seen) == length
        store.unsubscribe(subscription)
        await other.lock("run", "s", "ops", "")
        await store.look()
        assert len(seen) == length


async def test_a_change_while_a_view_is_read_is_not_lost(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        seen: list[int] = []

        async def read() -> None:
            seen.append(len(await store.list_locks()))
            if len(seen) == 2:
                await store.lock("run", "b", "ops", "")
                store.changed()  # somebody else heard the bell

        subscription = await store.subscribe(read)
        await store.lock("run", "a", "ops", "")
        await store.look()
        await store.look()
        assert seen[-1] == 2
        store.unsubscribe(subscription)


async def test_a_first_view_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    async def read() -> None:
        raise Unavailable("no")

    async with opened(tmp_path) as store:
        with pytest.raises(Unavailable):
            await store.subscribe(read)
