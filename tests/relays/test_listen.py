"""Accepting: what has come so far bounds what may come, and who says nothing is closed."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from hopgate.addresses import Address
from hopgate.errors import Unavailable
from relays import listen
from relays.listen import Listener
from tests.relays.plain import PlainRelay
from tests.relays.world import gateway


async def test_a_client_that_says_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "STARTUP_SECONDS", 0.05)
    async with gateway(tmp_path) as (world, _):
        reader, _writer = await world.connect()
        assert await reader.read() == b""


async def test_a_client_that_leaves_before_its_first_byte_leaves_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, _):
        for _ in range(5):
            _reader, writer = await world.connect()
            writer.transport.abort()
        while world.listener._peeking:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert not world.outside.drivers


async def test_more_strangers_than_the_bound_are_closed_at_once_and_callers_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "MAX_STARTING", 3)
    async with gateway(tmp_path) as (world, _):
        known, talker = await world.login()
        strangers = [await world.connect() for _ in range(3)]
        reader, _writer = await world.connect()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        talker.write(b"get 1\n")
        assert await known.readline() == b"did get 1\n"
        strangers[0][1].transport.abort()
        while len(world.listener._peeking) == 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await world.login()


async def test_a_closed_listener_accepts_nothing_and_relays_go_on(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, _):
        known, talker = await world.login()
        address = world.listener.address
        stranger, _writer = await world.connect()
        while not world.listener._peeking:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        world.listener.close()
        assert await stranger.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.host, address.port)
        talker.write(b"get 1\n")
        assert await known.readline() == b"did get 1\n"


async def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, _):
        again = Listener(world.outside, world.listener.address, PlainRelay)
        with pytest.raises(Unavailable, match=f"cannot listen on {world.listener.address}: address already in use"):
            again.open()
        absent = Listener(world.outside, Address("192.0.2.1", 1), PlainRelay)
        with pytest.raises(Unavailable, match="cannot listen"):
            absent.open()


async def test_a_wire_that_begins_without_tls_is_not_peeked_at(tmp_path: Path) -> None:
    class First(PlainRelay):
        direct_tls = None

    async with gateway(tmp_path) as (world, _):
        world.listener._make = First
        reader, writer = await world.login()
        writer.write(b"get 1\n")
        assert await reader.readline() == b"did get 1\n"
