"""The stage with an SSH host: the playground's sshd as the connection `build-host`, and the real OpenSSH client through the gateway."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playground.demo.stage import Failed, Stage, free_ports
from playground.ssh_host import SshHost
from playground.sshd import Unavailable

CONNECTION = "build-host"
_CONNECTION = """\
  - name: {name}
    kind: ssh
    target: "127.0.0.1:{port}"
    host_key: "{host_key}"
    shell: bash
    labels: {{env: demo}}
    credential: {{username: {user}, private_key: "${{file:{key}}}"}}
"""


class SshClients:
    """Command lines of ssh, sftp and scp through the gateway, without a configuration file of the user's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.known_hosts = home / "known_hosts"
        self._asks = home / "askpass"
        self._asks.write_text('#!/bin/sh\nprintf "%s\\n" "$HOPGATE_TOKEN"\n')
        self._asks.chmod(0o755)

    def options(self, port: int, *more: str) -> list[str]:
        """For ssh, sftp and scp alike."""
        settings = (
            f"Port={port}",
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "NumberOfPasswordPrompts=1",
            "PreferredAuthentications=publickey,password",
            "IdentityAgent=none",
            "LogLevel=ERROR",
            *more,
        )
        return ["-F", "/dev/null", *(word for setting in settings for word in ("-o", setting))]

    def environment(self, token: str) -> dict[str, str]:
        """In which ssh gets the token where it asks for a password."""
        asking = {"SSH_ASKPASS": str(self._asks), "SSH_ASKPASS_REQUIRE": "force", "HOPGATE_TOKEN": token}
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), "LC_ALL": "C.UTF-8", **asking}


def connection_of(host: SshHost, name: str = CONNECTION) -> str:
    """The YAML of a connection to the host."""
    return _CONNECTION.format(name=name, port=host.port, host_key=host.host_key(), user=host.user, key=host.key)


class HostStage(Stage):
    """`host` may be given, and is then the caller's to start and to close; else the stage has one of its own."""

    def __init__(self, directory: Path | None = None, rules: str = "", host: SshHost | None = None) -> None:
        super().__init__(directory, rules)
        self._owned = host is None
        self.host = host or SshHost()
        (self.ssh_port,) = free_ports(1)
        self.clients = SshClients(self.agent)

    def open(self, workers: int = 1) -> None:
        if self._owned and not self.host.running:
            try:
                self.host.start()
            except Unavailable as error:
                raise Failed(str(error)) from None
        self.connections += connection_of(self.host)
        self.listeners += f', ssh: "127.0.0.1:{self.ssh_port}"'
        super().open(workers)
        self.clients.known_hosts.write_text(self.hopgate("ssh", "known-hosts"))

    def close(self) -> None:
        super().close()
        if self._owned:
            self.host.close()

    def ssh_words(self, *words: str, more: Sequence[str] = (), program: str = "ssh") -> list[str]:
        """`ssh … build-host@gateway words`; for sftp and scp only the options."""
        options = [program, *self.clients.options(self.ssh_port, *more)]
        return [*options, f"{CONNECTION}@127.0.0.1", *words] if program == "ssh" else [*options, *words]

    def ssh(self, token: str, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return self.run(self.ssh_words(*words), token, **more)

    def run(self, words: Sequence[str], token: str, *, stdin: bytes = b"", timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
        environment = self.clients.environment(token)
        return subprocess.run(words, input=stdin, env=environment, capture_output=True, timeout=timeout, check=False)  # noqa: S603
