"""The ledger: append, durable, continue, fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hopgate.errors import Misconfigured, Unavailable
from hopgate.ledger import Ledger, append_once
from hopgate.ledger_keys import ledger_key


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_events_are_numbered_and_chained_and_the_close_is_signed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    assert ledger.append("decided", effect="allow", rules={"b", "a"}) == 1
    ledger.close()
    written = lines(ledger.path)
    assert [(line["i"], line["event"]) for line in written] == [(0, "started"), (1, "decided"), (2, "checkpoint")]
    assert written[1]["rules"] == ["a", "b"]
    assert written[2]["final"] is True
    assert all(list(line)[-1] == "h" for line in written)


async def test_durable_returns_when_the_line_is_in_the_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.append("decided")
    await ledger.durable()
    assert [line["event"] for line in lines(ledger.path)] == ["started", "decided", "checkpoint"]
    ledger.close()


async def test_callers_that_come_together_share_checkpoints(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))

    async def one() -> None:
        await ledger.durable(ledger.append("decided"))

    await asyncio.gather(*(one() for _ in range(50)))
    ledger.close()
    written = [line["event"] for line in lines(ledger.path)]
    assert written.count("decided") == 50
    assert written.count("checkpoint") <= 4


async def test_what_nobody_waits_for_is_written_soon(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.append("decided")
    for _ in range(200):
        if any(line["event"] == "decided" for line in lines(ledger.path)):
            break
        await asyncio.sleep(0.02)
    assert lines(ledger.path)[-1]["event"] == "checkpoint"
    ledger.close()


def test_a_ledger_has_one_writer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    with pytest.raises(Unavailable, match="another process writes this ledger"):
        Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.close()
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()


def test_another_key_does_not_continue_a_ledger(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()
    with pytest.raises(Misconfigured, match="not signed with"):
        Ledger(tmp_path / "ledger", "gateway-0", Ed25519PrivateKey.generate())


def test_programs_of_a_moment_continue_one_chain(tmp_path: Path) -> None:
    append_once(tmp_path, "secret_set", name="a")
    append_once(tmp_path, "secret_set", name="b")
    assert [(line["i"], line["event"]) for line in lines(tmp_path / "ledger" / "cli.ndjson")] == [
        (0, "secret_set"),
        (1, "checkpoint"),
        (2, "secret_set"),
        (3, "checkpoint"),
    ]
