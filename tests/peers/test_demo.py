"""The demonstration is a test of everything at once: it must hold, say so plainly, and fail when something did not happen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from playground.demo import proof
from playground.demo.report import Report
from playground.demo.stage import Stage

pytestmark = pytest.mark.peer


def test_everything_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "playground.demo", "--directory", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything held." in done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout  # plain where there is no terminal
    for said in (
        "held, approved",
        "the agent's own token could not approve",
        "hopgate verify: whole",
        "edited: flow",
        "the held deletion ran once",
    ):
        assert said in done.stdout


def test_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run(
        [sys.executable, "-m", "playground.demo", "--directory", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"demo: {tmp_path}: is not empty\n")


@pytest.mark.parametrize("change", ["missing", "status", "text", "extra"])
def test_a_hop_that_did_not_happen_so_fails(tmp_path: Path, change: str) -> None:
    stage, report = Stage(tmp_path), Report()
    found = [
        {"client": "x", "request": hop.request.format(origin=stage.origin), "status": hop.status, "text": hop.contains, "note": ""}
        for hop in proof.HOPS
    ]
    proof.hops(report, found, stage)
    assert not report.failed
    if change == "missing":
        found.pop()
    elif change == "extra":
        found.append(found[0])
    else:
        found[3][change] = {"status": 200, "text": "{}"}[change]
    proof.hops(report, found, stage)
    assert len(report.failed) == 1


def test_a_key_in_any_form_is_found() -> None:
    import base64
    import urllib.parse

    key = "bk/live+Zk29fjqLw83"
    for hidden in (
        key,
        f'{{"key": "{key}"}}',
        *(base64.b64encode(b"x" * before + key.encode() + b"y" * after).decode() for before in range(4) for after in range(4)),
        urllib.parse.quote(key, safe=""),
    ):
        assert any(form in hidden for form in proof.key_forms(key)), hidden
    assert not any(form in "bk/live+other" for form in proof.key_forms(key))
