"""The doorbell between processes: heard at once where it can be, missed by nobody where it cannot."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hopgate.store import sqlite
from hopgate.store.bells import Bell
from tests.hopgate.people import opened


@pytest.mark.parametrize("depth", [0, 20], ids=["short", "longer than a socket's path"])
async def test_the_others_hear_it(tmp_path: Path, depth: int) -> None:
    directory = tmp_path.joinpath(*["deeper"] * depth)
    bells = [Bell(directory) for _ in range(3)]
    heard = [asyncio.Event() for _ in bells]
    for bell, event in zip(bells, heard, strict=True):
        bell.listen(event.set)
    bells[0].ring()
    for event in heard[1:]:
        await asyncio.wait_for(event.wait(), 30)
    assert not heard[0].is_set()
    for bell in bells:
        bell.close()
    assert os.listdir(directory) == []


async def test_a_process_that_was_killed_is_forgotten(tmp_path: Path) -> None:
    dead, alive = Bell(tmp_path), Bell(tmp_path)
    dead.listen(lambda: None)
    assert dead._socket is not None
    asyncio.get_running_loop().remove_reader(dead._socket.fileno())
    dead._socket.close()
    assert len(os.listdir(tmp_path)) == 1
    alive.ring()
    assert os.listdir(tmp_path) == []
    alive.close()


async def test_one_that_never_listens_holds_up_nobody(tmp_path: Path) -> None:
    deaf, ringing = Bell(tmp_path), Bell(tmp_path)
    deaf.listen(lambda: None)
    for _ in range(5000):  # without a turn of the loop, so that nobody empties the socket
        ringing.ring()
    deaf.close()
    ringing.close()


async def test_a_directory_that_cannot_be_had_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bell = Bell(tmp_path / "file" / "bells")
    bell.listen(lambda: None)
    bell.ring()
    bell.close()


async def test_a_commit_of_another_is_read_when_it_rings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CALM", 3600.0)
    async with opened(tmp_path) as store, opened(tmp_path) as other:
        changed = asyncio.Event()

        async def read() -> None:
            if await store.list_locks():
                changed.set()

        await store.subscribe(read)
        for _ in range(100):  # until it listens
            await asyncio.sleep(0.01)
            if os.listdir(tmp_path / "run" / "bells"):
                break
        await other.lock("run", "r", "ops", "")
        await asyncio.wait_for(changed.wait(), 30)


async def test_the_write_ahead_log_is_brought_in_beside_who_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(sqlite, "CHECKPOINT", 0)
    async with opened(tmp_path) as store:
        before = (tmp_path / "state.db").stat().st_size
        for number in range(50):
            await store.save_token(f"{number}", "x" * 4000, "{}", 4e9)
        assert (tmp_path / "state.db").stat().st_size == before
        await store._backend.doze(asyncio.Event())
        assert (tmp_path / "state.db").stat().st_size > before + 50 * 4000
