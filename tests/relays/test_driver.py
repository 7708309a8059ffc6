"""What a relay says is done, on real sockets with real services; whatever breaks, both sides end and nothing more passes."""

from __future__ import annotations

from pathlib import Path

from tests.relays.world import PASSWORD, gateway


async def test_lines_go_there_and_back_and_are_recorded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        for line in (b"get 1\n", b"put 2\n"):
            writer.write(line)
            assert await reader.readline() == b"did " + line
        assert target.lines[1:] == [b"get 1\n", b"put 2\n"]
        writer.close()
        await world.quiet()
        events = await world.ledger()
        titles = [(each["title"], each["effect"]) for each in events if each["event"] == "decided"]
        assert titles == [("open orders", "allow"), ("get", "allow"), ("put", "allow")]
        (recording,) = (world.config.state / "recordings").rglob("*.mitm")
        kept = recording.read_bytes()
        assert b"get 1" in kept
        assert b"put 2" in kept
        assert PASSWORD.encode() not in kept
