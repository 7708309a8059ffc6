"""A slow side slows the other down; what lies between them stays small."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relays.commands import CLIENT, SERVER
from tests.relays.world import Writer, gateway

TOTAL = 256 << 20


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_a_large_result_to_a_slow_reader_stays_at_the_target(tmp_path: Path) -> None:
    sent = 0

    async def reply(line: bytes, writer: Writer) -> None:
        nonlocal sent
        while sent < TOTAL:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with gateway(tmp_path) as (world, target):
        target.reply = reply
        reader, writer = await world.login()
        (driver,) = world.outside.drivers
        before = resident()
        writer.write(b"get everything\n")
        await asyncio.sleep(0.5)  # nobody reads
        waiting = sent
        await asyncio.sleep(0.2)
        assert sent == waiting < 32 << 20  # the kernel's buffers, and no more than that
        server = driver.pair.legs[SERVER]
        assert server is not None
        assert server.paused
        received, largest = 0, 0
        while received < TOTAL:
            received += len(await reader.read(1 << 20))
            largest = max(largest, resident() - before)
        assert largest < 32 << 20
        assert not server.paused


async def test_a_target_that_does_not_read_slows_the_client_down(tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async def reply(line: bytes, writer: Writer) -> None:
        await stuck.wait()

    async with gateway(tmp_path) as (world, target):
        target.reply = reply
        _, writer = await world.login()
        (driver,) = world.outside.drivers
        before = resident()
        sent, line = 0, b"get " + b"x" * 4000 + b"\n"
        while True:
            writer.write(line)
            sent += len(line)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
            assert sent < TOTAL
        client = driver.pair.legs[CLIENT]
        assert client is not None
        assert client.paused
        assert resident() - before < 32 << 20
        stuck.set()


async def test_a_client_that_sends_and_never_reads_denials_is_not_read_from(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        _, writer = await world.login()
        (driver,) = world.outside.drivers
        line = b"drop " + b"x" * 2000 + b"\n"
        writer.transport.pause_reading()
        sent = 0
        # each refusal is durable in the ledger first, so this is not a race for volume: make them big by hand
        driver.pair.to_client(b"d" * (8 << 20))
        while sent < TOTAL:
            writer.write(line)
            sent += len(line)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
        client = driver.pair.legs[CLIENT]
        assert client is not None
        assert client.paused
        assert driver.relay.unread(CLIENT) < 1 << 20
        assert target.lines[1:] == []
