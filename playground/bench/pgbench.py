"""pgbench of the server's own wheel, through whatever listens on a port."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playground.demo.stage import Failed
from playground.tables import DATABASE


@dataclass(frozen=True, slots=True)
class Ran:
    """What pgbench says of one run."""

    transactions: int
    per_second: float
    latency: float  # seconds of one transaction, on average


def run(program: Path, port: int, user: str, password: str, *options: str, home: Path, connection: str = "") -> Ran:
    """One run, without TLS. Raises Failed when anything but success comes of it."""
    words: Sequence[str] = [str(program), "-n", *options, "-h", "127.0.0.1", "-p", str(port), "-U", user, DATABASE]
    environment = {"PATH": os.defpath, "HOME": str(home), "PGPASSWORD": password, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    return parse(done.stdout, done.stderr if done.returncode else "", connection or user)


def parse(output: str, trouble: str, what: str) -> Ran:
    """Raises Failed unless all transactions were processed and none failed."""
    processed = re.search(r"transactions actually processed: (\d+)/(\d+)", output)
    failed = re.search(r"number of failed transactions: (\d+)", output)
    rate = re.search(r"tps = ([\d.]+)", output)
    latency = re.search(r"latency average = ([\d.]+) ms", output)
    if (
        trouble
        or processed is None
        or rate is None
        or latency is None
        or processed[1] != processed[2]
        or (failed is not None and failed[1] != "0")
    ):
        lines = (trouble.strip() or output.strip() or "no output").splitlines()
        last = next((line for line in lines if "ERROR" in line or "FATAL" in line), lines[-1])
        raise Failed(f"pgbench through {what}: {last}")
    return Ran(int(processed[1]), float(rate[1]), float(latency[1]) / 1e3)
