"""An SSH host for the playground: a real OpenSSH sshd, with files of its own and a systemctl that only writes down how it was called."""

from __future__ import annotations

from pathlib import Path

from playground.sshd import Sshd


class SshHost(Sshd):
    """`srv` is where the playground's files are."""

    def __init__(self) -> None:
        super().__init__(host_keys=("ed25519",), user_keys=("ed25519",))
        self.srv = self.base / "srv"

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PATH": f"{self._programs}:/usr/local/bin:/usr/bin:/bin"}

    @property
    def _programs(self) -> Path:
        return self.base / "bin"

    def restarts(self) -> list[tuple[float, str]]:
        """When systemctl was called, in seconds since the epoch, and with what. It is none of the machine's own."""
        path = self.base / "services"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(line.partition(" ")[0]), line.partition(" ")[2]) for line in lines]

    def start(self) -> None:
        for directory in (self.srv, self._programs):
            directory.mkdir(exist_ok=True)
        control = self._programs / "systemctl"
        control.write_text(f'#!/bin/sh\necho "$(date +%s.%N) $*" >> {self.base / "services"}\necho "$1ed $2"\n')
        control.chmod(0o755)
        super().start()
