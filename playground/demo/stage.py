"""The demonstration's processes and directories: the billing API, the gateway, the tokens."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

_CONFIG = """\
version: 1
state: ./var
rules: [{packs}./rules.yaml]
identity:
  issuers:
    - {{name: local, local: true}}
connections:
  - name: billing
    kind: http
    hosts: [{hosts}]          # what agents call it; only the gateway knows where it is
    target: "http://127.0.0.1:{origin}"
    labels: {{env: demo}}
    credential: {{headers: {{Authorization: "Bearer ${{secret:billing}}"}}}}
{connections}listen: {{http: "127.0.0.1:{proxy}", health: "127.0.0.1:{health}"{listeners}}}
operators: [ops]
approvals: {{reviewers: [finance], timeout: 5m, http_wait: 50s}}
"""
START_SECONDS = 100.0  # several programs import much, on a machine that may be busy


class Failed(Exception):
    """The demonstration cannot go on; the text says why, in one line."""


class Stage:
    """Everything that the demonstration starts. Close it to stop all of it and delete its directory."""

    def __init__(self, directory: Path | None = None, rules: str = "") -> None:
        self.rules = rules  # YAML; the demonstration's own when empty
        self.hosts = '"billing.internal:80"'
        self.packs = "rules/packs/, "  # what stands before our own rule file
        self.connections = self.listeners = ""  # more of them, as YAML
        self._temporary = directory is None
        self.base = Path(tempfile.mkdtemp(prefix="hopgate-demo-")) if directory is None else directory.absolute()
        self.gateway, self.agent = self.base / "gateway", self.base / "agent"
        for path, mode in ((self.base, 0o711), (self.gateway, 0o700), (self.agent, 0o755)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)  # the agent's user must find its own directory, and no other
        self.key = "bk/live+" + secrets.token_urlsafe(24)  # characters that base64 and URLs write differently
        self.origin, self.proxy, self.health = free_ports(3)
        self.config, self.state = self.gateway / "hopgate.yaml", self.gateway / "var"
        self.access_log, self.log = self.gateway / "access.ndjson", self.gateway / "gateway.log"
        self._processes: list[subprocess.Popen[Any]] = []
        self._gateway: subprocess.Popen[bytes] | None = None

    def open(self, workers: int = 1) -> None:
        """Configuration, secret, billing API, gateway: in that order. Raises Failed."""
        values = {name: getattr(self, name) for name in ("packs", "hosts", "origin", "proxy", "health", "connections", "listeners")}
        self.config.write_text(_CONFIG.format(**values))
        (self.gateway / "rules.yaml").write_text(self.rules or files("playground.demo").joinpath("rules.yaml").read_text())
        self.hopgate("secrets", "set", "billing", stdin=self.key)
        self.start_target()
        self.start_gateway(workers)

    def start_target(self) -> None:
        words = [sys.executable, "-P", "-m", "playground.billing", "--port", str(self.origin), "--log", str(self.access_log)]
        self._spawn(words, environment={"BILLING_API_KEY": self.key})

    def start_gateway(self, workers: int = 1) -> None:
        self._spawn([sys.executable, "-P", "-m", "hopgate", "up", "--config", str(self.config), "--workers", str(workers)])
        self._gateway = self._processes[-1]
        self._await_gateway()

    @property
    def gateway_process(self) -> subprocess.Popen[bytes]:
        """The supervisor, while it has not been stopped."""
        assert self._gateway is not None
        return self._gateway

    def token(self, subject: str, group: str, *more: str) -> str:
        return self.hopgate("token", "issue", "--subject", subject, "--group", group, "--ttl", "1h", *more).strip()

    def hopgate(self, *arguments: str, stdin: str = "", token: str = "", fails: bool = False) -> str:
        """What `hopgate …` prints. With `fails` it must end with a status other than 0, and stderr is given back too. Raises Failed."""
        done = self.command([sys.executable, "-P", "-m", "hopgate", *arguments, "--config", str(self.config)], stdin, token)
        if (done.returncode != 0) is not fails:
            ended = f"ended with status {done.returncode}: {(done.stderr or done.stdout).strip()}"
            raise Failed(f"hopgate {' '.join(arguments)} {ended}")
        return done.stdout + done.stderr if fails else done.stdout

    def following(self, *arguments: str) -> subprocess.Popen[str]:
        """`hopgate …` that goes on, to the end of the stage at the latest: what it prints can be read from its stdout."""
        words = [sys.executable, "-P", "-m", "hopgate", *arguments, "--config", str(self.config)]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
        self._processes.append(process)
        return process

    def command(self, words: Sequence[str], stdin: str = "", token: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOPGATE_TOKEN": token}
        return subprocess.run(words, input=stdin, capture_output=True, text=True, env=environment, timeout=300, check=False)  # noqa: S603

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        if self._temporary:
            shutil.rmtree(self.base, ignore_errors=True)

    def stop_gateway(self) -> None:
        process, self._gateway = self._gateway, None
        if process is not None:
            self._processes.remove(process)
            process.terminate()
            process.wait(30)

    def accesses(self) -> list[dict[str, Any]]:
        """The billing API's own access log."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()] if self.access_log.exists() else []

    def _spawn(self, words: Sequence[str], environment: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(words, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603
        self._processes.append(process)

    def _await_gateway(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{self.health}/healthz", timeout=2) as answer:
                if answer.status == 200:
                    return
            if self.gateway_process.poll() is not None:
                break
            time.sleep(0.05)
        last = " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
        raise Failed(f"the gateway did not start: {last}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that systems give to outgoing connections: one of these could take it meanwhile."""
    found: list[int] = []
    while len(found) < count:
        port = 15000 + secrets.randbelow(15000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port in found:
                continue
            found.append(port)
    return found
