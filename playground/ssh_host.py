"""An SSH host for the playground: a real OpenSSH sshd on loopback, as whoever runs it, which lets in one key that is made for it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from playground.demo.stage import free_ports

START_SECONDS: Final = 20.0
_PRIVILEGE_SEPARATION: Final = Path("/run/sshd")  # root's sshd wants it


class Unavailable(Exception):
    """There is no SSH host; the text says why, in one line."""


def missing() -> str:
    """What is not installed; "" when all of it is."""
    for program, package in (("sshd", "openssh-server"), ("ssh-keygen", "openssh-client"), ("ssh", "openssh-client")):
        if _program(program) is None:
            return f"{program} is not installed (apt install {package})"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


class SshHost:
    """`base` holds its keys, its log and `srv`, where the playground's files are."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="hopgate-host-"))
        self.srv = self.base / "srv"
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        """The private key that it lets in."""
        return self.base / "user"

    @property
    def host_key(self) -> str:
        """`ssh-ed25519 AAAA…`."""
        return " ".join((self.base / "host.pub").read_text().split()[:2])

    @property
    def log(self) -> str:
        """What it has said so far."""
        path = self.base / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None

    def restarts(self) -> list[tuple[float, str]]:
        """When systemctl was called, in seconds since the epoch, and with what. It is none of the machine's own."""
        path = self.base / "services"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(line.partition(" ")[0]), line.partition(" ")[2]) for line in lines]

    def start(self) -> None:
        """Make its keys and run it. Raises Unavailable."""
        if reason := missing():
            raise Unavailable(reason)
        for directory in (self.srv, self.base / "home", self.base / "bin"):
            directory.mkdir(exist_ok=True)
        control = self.base / "bin" / "systemctl"
        control.write_text(f'#!/bin/sh\necho "$(date +%s.%N) $*" >> {self.base / "services"}\necho "$1ed $2"\n')
        control.chmod(0o755)
        for name in ("host", "user"):
            words = [str(_program("ssh-keygen")), "-q", "-t", "ed25519", "-N", "", "-C", f"playground {name}", "-f", str(self.base / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)  # noqa: S603
        shutil.copy(self.base / "user.pub", self.base / "authorized_keys")
        (self.base / "sshd_config").write_text(self._configuration())
        if os.geteuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, parents=True, exist_ok=True)
        words = [str(_program("sshd")), "-D", "-e", "-f", str(self.base / "sshd_config")]
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"sshd did not start: {(self.log.strip().splitlines() or ['it says nothing'])[-1]}")
            time.sleep(0.02)

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
        shutil.rmtree(self.base, ignore_errors=True)

    def _configuration(self) -> str:
        lines = (
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {self.base / 'host'}",
            f"AuthorizedKeysFile {self.base / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 1000",
            "MaxSessions 100",
            "AcceptEnv LANG LC_*",
            "Subsystem sftp internal-sftp",
            # bash under sshd reads ~/.bashrc for a single command, too: the machine's own takes time and prints what it likes
            f"SetEnv HOME={self.base / 'home'} PATH={self.base / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        )
        return "".join(f"{line}\n" for line in lines)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as found:
                return found.recv(4) == b"SSH-"
        except OSError:
            return False
