"""Keys are found in every process of the gateway, and in no other."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from relays.signals import Signals


async def test_keys_are_called_here_and_there_and_forgotten(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30) / "signals"  # a socket's own path may have 107 bytes
    one, two = Signals(directory, "relay-0"), Signals(directory, "relay-1")
    one.open()
    two.open()
    heard: list[str] = []
    came = asyncio.Event()

    def hear() -> None:
        heard.append("a")
        came.set()

    one.register(b"a", hear)
    two.register(b"b", lambda: heard.append("b"))
    two.send(b"b")
    assert heard == ["b"]
    two.send(b"nobody's")
    two.send(b"x" * 300)
    two.send(b"a")
    await asyncio.wait_for(came.wait(), 5)
    assert heard == ["b", "a"]
    one.unregister(b"a")
    one.unregister(b"a")
    one.send(b"a")
    assert heard == ["b", "a"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    one.close()
    two.send(b"a")
    two.close()
    two.close()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("key", [b"", b"x" * 257])
def test_keys_that_could_not_be_sent_are_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        Signals(tmp_path, "relay-0").register(key, lambda: None)


def test_a_key_has_one_owner(tmp_path: Path) -> None:
    signals = Signals(tmp_path, "relay-0")
    signals.register(b"a", lambda: None)
    with pytest.raises(ValueError, match="in use"):
        signals.register(b"a", lambda: None)


async def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    first = Signals(tmp_path, "relay-0")
    first.open()
    again = Signals(tmp_path, "relay-0")
    again.open()
    again.close()
    first.close()
