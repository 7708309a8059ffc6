"""A live gateway in front of the billing API, for tests that drive it with real programs."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from hopgate.cli.app import run
from playground.demo.stage import Failed, Stage


class Live(Stage):
    """The demonstration's stage, and curl. `hopgate …` runs in this process: to start Python takes longer than any command."""

    def hopgate(self, *arguments: str, stdin: str = "", token: str = "", fails: bool = False) -> str:
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            patch.setenv("HOPGATE_TOKEN", token)
            status = run([*arguments, "--config", str(self.config)])
        if (status != 0) is not fails:
            raise Failed(f"hopgate {' '.join(arguments)} ended with status {status}: {(err.getvalue() or out.getvalue()).strip()}")
        return out.getvalue() + err.getvalue() if fails else out.getvalue()

    def curl(self, token: str, *arguments: str, body: str | None = None) -> subprocess.CompletedProcess[str]:
        """curl through the gateway; the last line of its output is the status."""
        data = () if body is None else ("--data-binary", "@-")
        words = ("curl", "-sS", "--max-time", "30", "--path-as-is", "--proxy", f"http://agent:{token}@127.0.0.1:{self.proxy}")
        return self.command([*words, "--noproxy", "", "-w", "\n%{http_code}", *data, *arguments], stdin=body or "")

    def ledger(self) -> list[dict[str, Any]]:
        """All events of the proxy processes, checkpoints left out."""
        lines = [line for path in sorted((self.state / "ledger").glob("http-*.ndjson")) for line in path.read_text().splitlines()]
        return [event for event in map(json.loads, lines) if event["event"] != "checkpoint"]


def until(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Whether `condition` became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def missing(program: str) -> bool:
    return shutil.which(program) is None
