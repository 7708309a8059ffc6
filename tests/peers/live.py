"""A live gateway in front of the billing API, for tests that drive it with real programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

from playground.demo.stage import Stage


class Live(Stage):
    """The demonstration's stage, and curl."""

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
