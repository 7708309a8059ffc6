"""Who waits for a reviewer is told so; who goes away while a session opens leaves none half open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hopgate.errors import Unavailable
from rules.model import Decision
from tests.relays.world import World, configure


async def test_a_held_session_is_told_with_the_approvals_id(tmp_path: Path) -> None:
    async with World(configure(tmp_path, 1)) as gateway:
        sessions, told = gateway.services.sessions, list[Decision]()
        connection = gateway.config.connection("asked")
        assert connection is not None
        principal = await gateway.services.identity.verify(gateway.token(), peer="127.0.0.1")
        opening = asyncio.ensure_future(sessions.open(principal, connection, peer="127.0.0.1", held=told.append))
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        (card,) = await gateway.services.store.list_approvals(state="pending")
        assert told[0].approval == card.id
        assert told[0].effect == "hold"
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert not sessions._live


async def test_a_session_that_cannot_be_saved_leaves_no_open_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with World(configure(tmp_path, 1)) as gateway:
        connection = gateway.config.connection("orders")
        assert connection is not None
        principal = await gateway.services.identity.verify(gateway.token(), peer="127.0.0.1")

        async def fail(*_: object) -> None:
            raise Unavailable("the store does not answer")

        monkeypatch.setattr(gateway.services.store, "save_session", fail)
        with pytest.raises(Unavailable):
            await gateway.services.sessions.open(principal, connection, peer="127.0.0.1")
        assert not gateway.services.recordings._open
