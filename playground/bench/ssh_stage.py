"""What `scripts/bench ssh` runs: a real sshd, and the gateway in front of it with masking and recording on; OpenSSH's client for both."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from playground.bench.stage import relay_pid
from playground.demo.host import CONNECTION, HostStage
from playground.demo.stage import Failed

CIPHER: Final = "aes256-gcm@openssh.com"
RULES: Final = 100
SECRETS: Final = 50  # in the big file
_SECRET: Final = "AKIA{:016d}"  # noqa: S105
_LINE: Final = "2030-01-31T14:30:{:02d} host-1 app[{:5d}]: request {:08d} of 10.0.0.7 took {:3d} ms and was answered with 200\n"


def rules(srv: Path) -> str:
    """`RULES` rules that all apply to the connection; most name other programs and paths."""
    lines = ["version: 1", "rules:", "  - {id: open, on: session, who: {groups: [agents]}, effect: allow}"]
    for number in range(RULES - 8):
        effect = ("allow", "deny", "deny")[number % 3]
        lines.append(f'  - {{id: r{number}, on: ssh, match: {{programs: [tool{number}], argv: ["tool{number} * x"]}}, effect: {effect}}}')
    lines += [
        "  - {id: look, on: ssh, match: {action: exec, programs: ['true', cat, head, wc, sort, uniq, grep, bash, cd, ls]}, effect: allow}",
        "  - {id: no-rm, on: ssh, match: {programs: [rm]}, effect: deny}",
        "  - {id: sftp, on: ssh, match: {action: subsystem, subsystem: sftp}, effect: allow}",
        "  - {id: find, on: ssh, match: {action: sftp, op: [realpath, stat, list]}, effect: allow}",
        f'  - {{id: files, on: ssh, match: {{action: sftp, op: [read, write, setstat], paths: ["{srv}/**"]}}, effect: allow}}',
        f'  - {{id: copies, on: ssh, match: {{action: exec, programs: [scp], op: [read, write], paths: ["{srv}/**"]}}, effect: allow}}',
        "  - {id: hide, on: ssh, effect: mask, mask: {detect: [aws_access_key, github_token, private_key, jwt, bearer]}}",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Way:
    """How a client gets to the host."""

    name: str
    address: str
    options: tuple[str, ...]
    environment: Mapping[str, str]


class SshBench(HostStage):
    """`big` is a log of `mebibytes` MiB with `SECRETS` keys in it."""

    def __init__(self, mebibytes: int) -> None:
        super().__init__(None, "")
        self.packs = ""
        self.mebibytes = mebibytes
        self.rules = rules(self.host.srv)
        self.token_text = ""
        self.execs = self.uploads = self.downloads = self.secrets = 0  # through the gateway, so far

    def open(self, workers: int = 1) -> None:
        super().open(workers)
        self.token_text = self.token("agent-7", "agents")
        self._write_big()

    @property
    def big(self) -> Path:
        return self.host.srv / "big"

    def _write_big(self) -> None:
        piece = "".join(_LINE.format(number % 60, number % 30000, number, number % 500) for number in range(10_000)).encode()
        size = self.mebibytes << 20
        data = bytearray((piece * (size // len(piece) + 1))[:size])
        for number in range(SECRETS):
            at = data.index(b"request", size // SECRETS * number)
            secret = _SECRET.format(number).encode()
            data[at : at + len(secret)] = secret
        self.big.write_bytes(data)

    @property
    def direct(self) -> Way:
        known = self.host.base / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.host.port} {self.host.host_key()}\n")
        options = self.clients.options(self.host.port, f"UserKnownHostsFile={known}", f"IdentityFile={self.host.key}", f"Ciphers={CIPHER}")
        # the first setting counts
        return Way("direct", f"{self.host.user}@127.0.0.1", ("-o", f"UserKnownHostsFile={known}", *options), self.clients.environment(""))

    @property
    def through(self) -> Way:
        options = self.clients.options(self.ssh_port, f"Ciphers={CIPHER}", "IdentityFile=none")
        return Way("hopgate", f"{CONNECTION}@127.0.0.1", tuple(options), self.clients.environment(self.token_text))

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.direct, self.through

    def timed(self, way: Way, words: Sequence[str], stdin: IO[bytes] | int = subprocess.DEVNULL) -> float:
        """Seconds of one program, whose output goes nowhere. Raises Failed."""
        started = time.perf_counter()
        done = subprocess.run(  # noqa: S603
            words, env=dict(way.environment), stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600, check=False
        )
        took = time.perf_counter() - started
        if done.returncode:
            raise Failed(f"{way.name}: {' '.join(words[:1])}: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return took

    def relay_pid(self) -> int:
        return relay_pid(self.health)

    def done(self) -> dict[str, int]:
        """What the ledgers say so far: commands, uploads, downloads that were decided, values masked."""
        found = {"execs": 0, "uploads": 0, "downloads": 0, "masked": 0}
        for path in (self.state / "ledger").glob("relay-*.ndjson"):
            for line in path.read_text().splitlines():
                event: dict[str, Any] = json.loads(line)
                if event["event"] == "masked":
                    found["masked"] += sum(event["counts"].values())
                elif event["event"] == "decided" and event["kind"] == "ssh" and event["effect"] == "allow":
                    title = event["title"]
                    found["uploads"] += title.startswith("sftp write")
                    found["downloads"] += title.startswith("sftp read")
                    found["execs"] += not title.startswith(("sftp", "subsystem", "env"))
        return found

    @property
    def expected(self) -> dict[str, int]:
        return {"execs": self.execs, "uploads": self.uploads, "downloads": self.downloads, "masked": self.secrets}

    def check(self) -> None:
        """Raises Failed unless all that was sent was decided, and all that was to be hidden was hidden."""
        deadline = time.monotonic() + 20
        while (found := self.done()) != self.expected:
            if time.monotonic() > deadline:
                raise Failed(f"of {self.expected}, {found}")
            time.sleep(0.2)
