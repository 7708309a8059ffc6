"""A gateway for SSH in this process, between the real OpenSSH client and a real sshd, with the rules of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hopgate.addresses import Address
from hopgate.ssh_keys import known_hosts_line
from relays.ssh.listen import SshListener
from rules.model import Principal
from tests.peers.sshd import OpenSSH, Sshd
from tests.relays.ssh.world import SshWorld, configure

REVIEWER = Principal("local", "rita", frozenset({"ops"}))
SECRET = "s3cret-that-was-injected"
RULES = """
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, where: {connections: [build]}, effect: allow}
  - id: look
    on: ssh
    match:
      action: exec
      programs: [echo, printf, cat, "true", "false", sleep, head, wc, sha256sum, pwd, cd, ls, "yes", env, exit, kill, dd, bash, sh, touch,
                 test, "[", seq, tr, python3, id, uptime]
      not: {programs: [rm]}
    effect: allow
  - {id: nothing-removed, on: ssh, match: {programs: [rm]}, effect: deny, message: nothing is removed here}
  - {id: ask, on: ssh, match: {programs: [mkdir]}, effect: hold, hold: {reviewers: [ops]}}
  - {id: copy, on: ssh, match: {action: exec, programs: [scp, rsync, git-upload-pack, git-receive-pack]}, effect: allow}
  - {id: sftp, on: ssh, match: {action: subsystem, subsystem: sftp}, effect: allow}
  - {id: locale, on: ssh, match: {action: env, variable: ["LC_*"]}, effect: allow}
  - {id: database, on: ssh, match: {action: forward, destination: "127.0.0.1:*"}, effect: allow}
  - {id: no-ssh, on: ssh, match: {action: forward, destination: "*:22"}, effect: deny, message: no jumping}
  - {id: back, on: ssh, match: {action: reverse_forward, destination: "localhost:*"}, effect: allow}
  - {id: hide, on: ssh, effect: mask, mask: {detect: [aws_access_key]}}
"""
SHELL = """
  - {id: lines, on: ssh, match: {action: shell}, effect: allow}
"""
FILES = """
  - {id: files, on: ssh, match: {action: sftp, paths: ["TMP/**"]}, effect: allow}
"""


class Gateway(SshWorld):
    """`ssh` runs the real client against it."""

    def __init__(self, *arguments: Any, openssh: OpenSSH) -> None:
        super().__init__(*arguments)
        self.openssh = openssh
        self._token = ""

    async def __aenter__(self) -> Gateway:
        await super().__aenter__()
        self.listener.close()
        self.listener = SshListener(self.outside, Address("127.0.0.1", 0))  # with relays.ssh.relay
        self.listener.open()
        self.openssh.known_hosts.write_text(known_hosts_line(self.listener.host_key, self.listener.address) + "\n")
        self._token = await self.short_token()
        return self

    @property
    def password(self) -> str:
        return self._token

    async def ssh(self, *words: str, user: str = "build", **more: Any) -> subprocess.CompletedProcess[bytes]:
        return await asyncio.to_thread(lambda: self.openssh.run(self.port, user, *words, answer=self._token, **more))

    async def start(self, *words: str, user: str = "build", stdin: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        """One that goes on."""
        line = ["ssh", *self.openssh.options(self.port), f"{user}@127.0.0.1", *words]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*line, stdin=stdin, stdout=pipe, stderr=pipe, env=self.openssh.environment(self._token))

    async def program(self, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        """Another program that runs ssh: scp, sftp, rsync, git."""
        environment = {**self.openssh.environment(self._token), **more.pop("environment", {})}
        return await asyncio.to_thread(lambda: subprocess.run(words, env=environment, capture_output=True, timeout=60, check=False, **more))

    async def pending(self) -> Any:
        """The approval that somebody waits for, as soon as there is one."""
        async with asyncio.timeout(50):
            while not (found := await self.services.store.list_approvals("pending")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found[0]

    async def decide(self, verdict: Any = "approve") -> str:
        """Decide the approval that is pending, and tell its id."""
        found = await self.pending()
        await self.services.approvals.decide(found.id, REVIEWER, verdict, comment="not now" if verdict == "deny" else "")
        return str(found.id)

    async def decisions(self) -> list[tuple[str, str]]:
        """(title, effect) of every operation in the ledger."""
        return [(line["title"], line["effect"]) for line in await self.ledger() if line["event"] == "decided" and line["kind"] == "ssh"]


@contextlib.asynccontextmanager
async def gateway(directory: Path, server: Sshd, openssh: OpenSSH, *, more: str = "", **sections: Any) -> AsyncIterator[Gateway]:
    config = configure(directory, server, approvals={"reviewers": ["ops"]}, **sections)
    (directory / "rules.yaml").write_text(RULES + more.replace("TMP", str(directory)))
    async with Gateway(config, openssh=openssh) as found:
        yield found
