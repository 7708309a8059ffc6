"""The index follows the ledgers: once each line, only what is signed, and with a word when a ledger is not what it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hopgate.errors import Unavailable
from hopgate.history import Projector, SessionQuery, ledgers
from hopgate.store.index import Index
from tests.hopgate.history.telling import Told, operation, telling
from tests.hopgate.places import Place


async def titles(at: Told) -> list[str]:
    return [each.title for each in (await at.index.search_events(SessionQuery(kind="sql"))).items][::-1]


async def test_every_line_gets_in_once(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": "SELECT 1"}])
        assert await at.projector.catch_up() == 6  # the checkpoint too
        assert await at.projector.catch_up() == 0
    async with telling(tmp_path, place) as at:
        assert await at.projector.catch_up() == 0
        at.session("s1", operations=[{"title": "SELECT 2"}])
        await at.projector.catch_up()
        assert await titles(at) == ["SELECT 1", "SELECT 2"]
        assert at.projector.progress().behind == 0
        assert at.projector.progress().events == await at.index.count_events()


async def test_two_projectors_put_in_each_line_once(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "BLOCK", 4096)
    async with telling(tmp_path, place) as at:
        for number in range(20):
            at.session(f"s{number}", operations=[{"title": f"SELECT {number}"}])
        second = await Index.open(place)
        await asyncio.gather(at.projector.catch_up(), Projector(tmp_path / "ledger", second).catch_up())
        await second.close()
        assert await titles(at) == [f"SELECT {number}" for number in range(20)]
        assert len(await at.index.rule_counts()) == 2


async def test_what_no_checkpoint_signs_waits(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": "SELECT 1"}])
        whole = at.path().read_bytes()
        lines = whole.splitlines(keepends=True)
        at.path().write_bytes(b"".join(lines[:-1]))
        assert await at.projector.catch_up() == 0
        at.path().write_bytes(whole[:-10])
        assert await at.projector.catch_up() == 0
        at.path().write_bytes(whole)
        assert await at.projector.catch_up() == 6
        assert at.projector.progress().problems == ()


async def test_a_line_that_looks_like_a_checkpoint_signs_nothing(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        with at.ledger() as ledger:
            ledger.append("decided", session="s1", **operation("s1.1"), extra={"event": "checkpoint"})
            ledger.append("decided", session="s1", **operation("s1.2"))
        lines = at.path().read_bytes().splitlines(keepends=True)
        at.path().write_bytes(b"".join(lines[:2]))
        assert await at.projector.catch_up() == 0


async def test_events_of_several_ledgers_come_in_by_time(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "BLOCK", 600)
    async with telling(tmp_path, place) as at:
        with at.ledger("console") as console:
            for number in range(12):
                with at.ledger() as ledger:
                    ledger.append("decided", session="s1", **operation(f"s1.{number}", title=f"SELECT {number}"))
                console.append("viewed", session="s1", by=f"corp:{number}", what="timeline")
        await at.projector.catch_up()
        found = [each.title or each.by for each in (await at.index.timeline("s1")).items]
        assert found == [told for number in range(12) for told in (f"SELECT {number}", f"corp:{number}")]


async def test_a_ledger_that_was_cut_is_told_and_what_comes_later_gets_in(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": f"SELECT {number}"} for number in range(5)])
        await at.projector.catch_up()
        first = at.path().read_bytes().splitlines(keepends=True)
        at.path().unlink()
        at.session("s2", operations=[{"title": "SELECT later"}])
        assert len(at.path().read_bytes()) < len(b"".join(first))
        await at.projector.catch_up()
        assert await titles(at) == [*(f"SELECT {number}" for number in range(5)), "SELECT later"]
        assert at.projector.progress().problems == ("ledger http-0 was cut or replaced since it was read: run `hopgate verify`",)
        await at.projector.catch_up()
        assert len(await titles(at)) == 6


async def test_a_ledger_that_lacks_lines_is_told(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": "SELECT 1"}, {"title": "SELECT 2"}])
        lines = at.path().read_bytes().splitlines(keepends=True)
        at.path().write_bytes(b"".join(line for line in lines if b"SELECT 1" not in line))
        await at.projector.catch_up()
        assert await titles(at) == ["SELECT 2"]
        assert at.projector.progress().problems == ("ledger http-0 lacks lines before line 4: run `hopgate verify`",)


async def test_a_line_that_is_garbage_is_told(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": "SELECT 1"}])
        at.path().write_bytes(b"garbage\n" + at.path().read_bytes())
        await at.projector.catch_up()
        assert await titles(at) == ["SELECT 1"]
        assert "has a line that no gateway wrote" in at.projector.progress().problems[0]


async def test_a_clock_that_goes_back_holds_up_nothing(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "BLOCK", 512)
    moments = iter([50, 10, 40, 5, 60, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 10)
    monkeypatch.setattr("hopgate.ledger.time.time_ns", lambda: 1_800_000_000_000_000_000 + next(moments) * 10**9)
    async with telling(tmp_path, place) as at:
        for process in ("http-0", "http-1"):
            with at.ledger(process) as ledger:
                for number in range(6):
                    ledger.append("decided", session="s1", **operation(f"s1.{number}", title=f"SELECT {process} {number}"))
        assert await at.projector.catch_up() == 14
        assert len(await titles(at)) == 12


async def test_a_ledger_that_cannot_be_read_stops_the_rest(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{}])
        at.path("relay-0").symlink_to(at.path())
        with pytest.raises(Unavailable, match="ledger relay-0 cannot be read"):
            await at.projector.catch_up()


async def test_it_follows_until_it_is_closed(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.projector.start()
        at.session("s1", operations=[{"title": "SELECT 1"}])
        async with asyncio.timeout(30):
            while await titles(at) != ["SELECT 1"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await at.projector.close()
