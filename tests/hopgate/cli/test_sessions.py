"""`hopgate sessions` and `hopgate unlock`."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from hopgate.store import SessionRow, Store
from tests.hopgate.cli.conftest import Hopgate
from tests.hopgate.cli.test_token import issue


@pytest.fixture
def rows(config: Path) -> Path:
    """Two sessions in the store: an open one with a recording, and one that has ended. Gives the state directory."""
    state = config.parent / "var"
    recording = "recordings/2030/01/01/s1.mitm"

    async def work() -> None:
        store = await Store.open(state)
        await store.save_session(SessionRow("s1", "local", "agent-7", "billing", "http", "http-0", 1e9, run="r1\x1b", recording=recording))
        ended = SessionRow(
            "s2", "local", "agent-8", "billing", "http", "http-0", 2e9, ended_at=2e9 + 5, reason="idle", operations=3, denied=1
        )
        await store.save_session(ended)
        await store.close()

    asyncio.run(work())
    (state / recording).parent.mkdir(parents=True)
    (state / recording).write_bytes(b"flow\x00bytes")
    return state


def test_list_and_show(hopgate: Hopgate, rows: Path) -> None:
    assert [row["id"] for row in json.loads(hopgate("sessions", "list", "--json").out)] == ["s2", "s1"]
    assert [row["id"] for row in json.loads(hopgate("sessions", "list", "--active", "--json").out)] == ["s1"]
    assert json.loads(hopgate("sessions", "list", "--connection", "other", "--json").out) == []
    assert "local:agent-7" in hopgate("sessions", "list").out
    shown = hopgate("sessions", "show", "s1").out
    assert r"r1\u{1b}" in shown
    assert json.loads(hopgate("sessions", "show", "s2", "--json").out)["reason"] == "idle"


def test_export(hopgate: Hopgate, rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mitm"
    assert hopgate("sessions", "export", "s1", "--output", str(target)).status == 0
    assert target.read_bytes() == b"flow\x00bytes"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert hopgate("sessions", "export", "s1", "--output", str(target)).status == 1  # nothing is overwritten
    assert "has no recording" in hopgate("sessions", "export", "s2", "--output", "x").err
    (rows / "recordings/2030/01/01/s1.mitm").unlink()
    assert "the recording is gone" in hopgate("sessions", "export", "s1").err


def test_kill_and_unlock_take_an_operator(hopgate: Hopgate, rows: Path) -> None:
    agent, operator = issue(hopgate, "agent-7", "agents"), issue(hopgate, "olga", "ops")
    assert hopgate("sessions", "kill", "--all", token=agent).status == 1
    done = hopgate("sessions", "kill", "--subject", "local:agent-7", token=operator)
    assert done.out == "1 session ends; subject local:agent-7 is locked until `hopgate unlock`\n"
    assert [(each["kind"], each["value"]) for each in json.loads(hopgate("unlock", "list", "--json").out)] == [("subject", "local:agent-7")]
    assert hopgate("unlock", "subject", "local:agent-7", token=agent).status == 1
    assert hopgate("unlock", "subject", "local:agent-7", token=operator).status == 0
    assert hopgate("unlock", "subject", "local:agent-7", token=operator).err == "hopgate: subject local:agent-7 is not locked\n"
    assert hopgate("unlock", "list").out == "no locks\n"


@pytest.mark.parametrize(("arguments", "ended"), [(("s1",), 1), (("--connection", "billing"), 1), (("--all",), 1), (("--run", "r2"), 0)])
def test_kill_names_one_thing(hopgate: Hopgate, rows: Path, arguments: tuple[str, ...], ended: int) -> None:
    done = hopgate("sessions", "kill", *arguments, token=issue(hopgate, "olga", "ops"))
    assert done.status == 0
    assert done.out.startswith(f"{ended} session")


def test_without_operators_nobody_kills(hopgate: Hopgate, rows: Path, config: Path) -> None:
    config.write_text(config.read_text().replace("operators: [ops]\n", ""))
    done = hopgate("sessions", "kill", "--all", token=issue(hopgate, "olga", "ops"))
    assert (done.status, done.err) == (1, "hopgate: the configuration names no operators: nobody may do this\n")
