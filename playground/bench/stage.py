"""What the benchmark runs: the target, stock mitmdump, the gateway with everything on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from playground.bench.origin import MASKED
from playground.demo.stage import Failed, Stage

RULES = 100
URL = "http://billing.internal/v1/customers?page=2"
_TICK = os.sysconf("SC_CLK_TCK")


def rules() -> str:
    """`RULES` http rules that all apply to the connection, as a large API has: most of them name other paths."""
    lines = ["version: 1", "rules:", "  - {id: open, on: session, who: {groups: [agents]}, effect: allow}"]
    for number in range(RULES - 6):
        effect = ("allow", "deny", "allow")[number % 3]
        lines.append(f'  - {{id: r{number}, on: http, match: {{method: [GET, POST], path: "/v1/area{number}/**"}}, effect: {effect}}}')
    lines += [
        '  - {id: read, on: http, match: {method: [GET, HEAD], path: "/v1/**"}, effect: allow}',
        "  - {id: refund, on: http, match: {method: POST, path: /v1/refunds}, effect: hold, hold: {reviewers: [finance]}}",
        '  - {id: no-admin, on: http, match: {path: "/admin/**"}, effect: deny}',
        '  - {id: no-beta, on: http, match: {headers: {X-Beta: "*"}}, effect: deny}',
        '  - {id: hide-fields, on: http, effect: mask, mask: {jsonpath: ["$..password"], strategy: redact}}',
        "  - {id: hide-values, on: http, effect: mask, mask: {detect: [email, card, jwt, aws_access_key], strategy: partial, keep: 4}}",
    ]
    return "\n".join(lines) + "\n"


class Bench(Stage):
    """The demonstration's stage with a cheaper target, without packs, and with stock mitmdump beside it."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(directory, rules())
        self.packs = ""
        self.stock = 0  # port
        self.stock_pid = 0

    def start_target(self) -> None:
        self._spawn([sys.executable, "-P", "-m", "playground.bench.origin", str(self.origin)])

    def start_stock(self, port: int) -> None:
        program = "from mitmproxy.tools.main import mitmdump; mitmdump()"
        options = ["--listen-host", "127.0.0.1", "-p", str(port), "--set", f"confdir={self.base / 'stock'}"]
        self._spawn([sys.executable, "-P", "-c", program, "-q", *options])
        self.stock, self.stock_pid = port, self._processes[-1].pid
        deadline = time.monotonic() + 20
        while self.load(port, 1, connections=1, direct=True) is None:
            if time.monotonic() > deadline:
                raise Failed("stock mitmdump did not start")
            time.sleep(0.2)

    def load(self, proxy: int, requests: int, *, token: str = "", connections: int = 8, direct: bool = False) -> dict[str, Any] | None:
        """Send `requests` through a proxy; None when nothing could be sent."""
        url = f"http://127.0.0.1:{self.origin}/v1/customers?page=2" if direct else URL
        host = f"127.0.0.1:{self.origin}" if direct else "billing.internal"
        order = {"proxy": proxy, "url": url, "host": host, "token": token, "requests": requests, "connections": connections}
        words = [sys.executable, "-P", "-m", "playground.bench.load"]
        done = subprocess.run(words, input=json.dumps(order), capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
        return dict(json.loads(done.stdout)) if done.returncode == 0 else None

    def worker_pids(self) -> list[int]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.health}/healthz", timeout=5) as answer:
            return [worker["pid"] for worker in json.load(answer)["workers"]]


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def relay_pid(health: int) -> int:
    """The one relay of the gateway that answers on this health port. Raises Failed."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{health}/healthz", timeout=5) as answer:
        found = [worker["pid"] for worker in json.load(answer)["workers"] if worker["name"].startswith("relay-")]
    if len(found) != 1:
        raise Failed(f"expected one relay process, found {len(found)}")
    return int(found[0])


def done_by(state: Path) -> dict[str, int]:
    """What ledgers and recordings say: http decisions, recorded flows, masked values."""
    from mitmproxy.io import FlowReader

    found = {"decided": 0, "masked": 0, "recorded": 0}
    for path in (state / "ledger").glob("http-*.ndjson"):
        for line in path.open():
            event = json.loads(line)
            if event["event"] == "decided" and event["kind"] == "http":
                found["decided"] += 1
            elif event["event"] == "masked":
                found["masked"] += sum(event["counts"].values())
    for path in (state / "recordings").rglob("*.mitm"):
        with path.open("rb") as file:
            found["recorded"] += sum(1 for _ in FlowReader(file).stream())
    return found


def expected(requests: int) -> dict[str, int]:
    return {"decided": requests, "masked": requests * MASKED, "recorded": requests}
