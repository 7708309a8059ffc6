"""The real OpenSSH server of the playground as a fixture, and the real client. Import `sshd` in a conftest.py to have the server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from playground.sshd import KEY_KINDS, Sshd, Unavailable, keygen, public, run_keygen

__all__ = ["KEY_KINDS", "OpenSSH", "Sshd", "Unavailable", "keygen", "openssh", "public", "run_keygen", "sshd"]


class OpenSSH:
    """The real client, with nothing of the machine's own configuration, agent or known hosts. Files of its own are below `base`."""

    def __init__(self, base: Path, known_hosts: str = "") -> None:
        self.base = base
        base.mkdir(exist_ok=True)
        self.known_hosts = base / "known_hosts"
        self.known_hosts.write_text(known_hosts)
        self._asks = base / "askpass"
        self._asks.write_text('#!/bin/sh\nprintf "%s\\n" "$1" >> "$0.asked"\nprintf "%s\\n" "$HOPGATE_TEST_ANSWER"\n')
        self._asks.chmod(0o700)

    def options(self, port: int, *, key: Path | None = None, check: bool = True) -> list[str]:
        """Words for ssh, and for scp and sftp with -P in place of -p; `check` false trusts any host key."""
        pairs = {
            "Port": port,
            "UserKnownHostsFile": self.known_hosts if check else os.devnull,
            "GlobalKnownHostsFile": os.devnull,
            "StrictHostKeyChecking": "yes" if check else "no",
            "UpdateHostKeys": "no",
            "IdentitiesOnly": "yes",
            "IdentityFile": key or "none",
            "IdentityAgent": "none",
            "NumberOfPasswordPrompts": 1,
            "ConnectTimeout": 30,
            "LogLevel": "INFO",
        }
        return ["-F", os.devnull, *(word for name, value in pairs.items() for word in ("-o", f"{name}={value}"))]

    def environment(self, answer: str = "") -> dict[str, str]:
        """In which `answer` is typed at every prompt; an empty one cannot be."""
        asking = {"SSH_ASKPASS": str(self._asks), "SSH_ASKPASS_REQUIRE": "force", "HOPGATE_TEST_ANSWER": answer, "DISPLAY": ":0"}
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.base), "LC_ALL": "C.UTF-8", **(asking if answer else {})}

    @property
    def asked(self) -> list[str]:
        """The prompts that were answered, so far."""
        path = self._asks.with_name("askpass.asked")
        return path.read_text().splitlines() if path.exists() else []

    def run(
        self,
        port: int,
        user: str,
        *words: str,
        key: Path | None = None,
        answer: str = "",
        check: bool = True,
        stdin: bytes = b"",
        timeout: float = 60,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """`ssh user@127.0.0.1 words`; options of ssh may come first among the words, then `--` does before the command."""
        split = words.index("--") if "--" in words else 0
        more, command = words[:split], words[split + 1 :] if "--" in words else words
        line = ["ssh", *self.options(port, key=key, check=check), *more, f"{user}@127.0.0.1", *command]
        everything = {**self.environment(answer), **(environment or {})}
        return subprocess.run(line, input=stdin, env=everything, capture_output=True, timeout=timeout, check=False)


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """One server for the whole run. Whoever changes its settings makes one of their own."""
    server = Sshd()
    try:
        server.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def openssh(tmp_path: Path) -> OpenSSH:
    """The real client, with files of its own."""
    if shutil.which("ssh") is None:
        pytest.skip("no ssh is installed: apt-get install openssh-client")
    return OpenSSH(tmp_path / "openssh")
