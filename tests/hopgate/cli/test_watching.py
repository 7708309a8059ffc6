"""`hopgate watch`: once, and as JSON; what agents are called cannot act on the terminal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hopgate.cli.app import run
from tests.hopgate.console.seed import WRITE, Past, agent, configure


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    async def work() -> None:
        past = await Past.open(configure(tmp_path))
        who = agent("evil\x1b[31m\u202ename[red]")
        session = await past.session(who, "orders-db", "postgres")
        await past.hold(who, session, "orders-db", WRITE, "DELETE FROM orders WHERE id = 3")
        await past.close()

    asyncio.run(work())
    return tmp_path


def test_what_waits_and_what_lives_is_shown(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["watch", "--once", "--config", str(directory / "hopgate.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "waiting for approval: 1" in shown
    assert "live sessions: 1" in shown
    assert "DELETE FROM orders" in shown
    assert "0 of 1" in shown
    assert "evil\\u{1b}[31m\\u{202e}name[red]" in shown
    assert "\x1b" not in shown


def test_as_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "--json", "--config", str(directory / "hopgate.yaml")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["title"] for each in found["approvals"]] == ["DELETE FROM orders WHERE id = 3"]
    assert [each["connection"] for each in found["sessions"]] == ["orders-db"]


def test_a_sign_in_link_is_printed(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(directory / "hopgate.yaml")]
    assert run(["console", "login", "--subject", "alice", "--group", "dba", *config]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("http://127.0.0.1:18443/login/link?token=hgl_")
    assert "local:alice once" in err
    assert "role" not in err
    assert run(["console", "login", "--subject", "alice", "--group", "agents", *config]) == 0
    assert "no group of his has a role" in capsys.readouterr().err
    assert run(["console", "login", "--subject", "alice", "--ttl", "2h", *config]) == 2
    assert run(["console", "login", "--subject", "\x1b", *config]) == 2
