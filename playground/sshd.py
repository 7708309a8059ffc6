"""A real OpenSSH server on loopback, run as whoever runs it, which lets in that same user: an unprivileged sshd can do no more.

Configuration, host keys and authorized keys are its own, below a temporary directory. It asks for no password: that takes PAM or the
shadow file, which are the machine's.
"""

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
from playground.server import Server, Unavailable

START_SECONDS: Final = 30.0
KEY_KINDS: Final = ("ed25519", "rsa", "ecdsa")
_SEPARATION: Final = Path("/run/sshd")  # sshd of root does not start without it


def missing() -> str:
    """What is not installed; "" when all of it is."""
    for program, package in (("sshd", "openssh-server"), ("ssh-keygen", "openssh-client"), ("ssh", "openssh-client")):
        if program_of(program) is None:
            return f"{program} is not installed (apt install {package})"
    return ""


def program_of(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def keygen(path: Path, kind: str = "ed25519", *options: str) -> Path:
    """Make a key without a passphrase at `path`, and its public half at `path`.pub."""
    run_keygen("-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path), *options)
    return path


def run_keygen(*words: str) -> str:
    line = [str(program_of("ssh-keygen")), *words]
    return subprocess.run(line, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout  # noqa: S603


def public(path: Path) -> str:
    """`ssh-ed25519 AAAA…` of a private key's path: its public half without the comment."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


class Sshd(Server):
    """One server. `settings` are lines of sshd_config that go before ours, so they win; `host_keys` the kinds that it shows, `user_keys`
    those of the keys that it lets in.

    with Sshd() as server:
        OpenSSH(...).run(server.port, server.user, "uptime", key=server.key)
    """

    def __init__(self, *settings: str, host_keys: tuple[str, ...] = KEY_KINDS, user_keys: tuple[str, ...] = ("ed25519", "rsa")) -> None:
        self.settings = settings
        self.host_kinds = host_keys
        self.user_kinds = user_keys
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        (self.port,) = free_ports(1)
        self.base = Path(tempfile.mkdtemp(prefix="hopgate-sshd-"))

    # --- life

    def start(self) -> None:
        """Make its files and run it. Raises Unavailable."""
        if reason := missing():
            self.close()
            raise Unavailable(reason)
        self.home.mkdir()
        for name, kinds in (("host", self.host_kinds), ("user", self.user_kinds)):
            for kind in kinds:
                keygen(self.base / f"{name}_{kind}", kind, *(("-b", "2048") if kind == "rsa" else ()))
        self.authorize(*(public(self.base / f"user_{kind}") for kind in self.user_kinds))
        try:
            self._run()
        except Unavailable:
            self.close()
            raise

    def stop(self) -> None:
        """End it and every connection to it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    def restart(self, *settings: str, host_keys: tuple[str, ...] = ()) -> None:
        """Run it again on the same port, with other settings."""
        self.stop()
        self.settings, self.host_kinds = settings, host_keys or self.host_kinds
        self._run()

    # --- its files

    @property
    def home(self) -> Path:
        """`$HOME` of what runs in it. The directory that sessions begin in is the user's own: sshd has no option for that."""
        return self.base / "home"

    @property
    def key(self) -> Path:
        """An ed25519 key that is let in."""
        return self.base / "user_ed25519"

    @property
    def rsa_key(self) -> Path:
        """An RSA key that is let in."""
        return self.base / "user_rsa"

    def host_key(self, kind: str = "ed25519") -> str:
        """`ssh-ed25519 AAAA…`, as a connection's `host_key` has it."""
        return public(self.base / f"host_{kind}")

    def authorize(self, *lines: str) -> None:
        """Let in these keys, and no others."""
        (self.base / "authorized_keys").write_text("".join(f"{line}\n" for line in lines))

    @property
    def environment(self) -> dict[str, str]:
        """Of what runs in it. bash under sshd reads ~/.bashrc even for one command, and the machine's own prints what it likes."""
        return {"HOME": str(self.home)}

    def log(self) -> str:
        """All that it has said so far, at LogLevel VERBOSE."""
        path = self.base / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # --- inside

    def _configuration(self) -> str:
        lines = [
            *self.settings,
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            *(f"HostKey {self.base / f'host_{kind}'}" for kind in self.host_kinds),
            f"AuthorizedKeysFile {self.base / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 1000",
            "MaxSessions 100",
            "MaxAuthTries 6",
            "LogLevel VERBOSE",
            "AcceptEnv LANG LC_* HOPGATE_TEST_*",
            "Subsystem sftp internal-sftp",
            "SetEnv " + " ".join(f"{name}={value}" for name, value in self.environment.items()),
        ]
        return "".join(f"{line}\n" for line in lines)

    def _run(self) -> None:
        if os.geteuid() == 0:
            _SEPARATION.mkdir(mode=0o755, parents=True, exist_ok=True)
        (self.base / "sshd_config").write_text(self._configuration())
        with (self.base / "log").open("ab") as log:
            words = [str(program_of("sshd")), "-D", "-e", "-f", str(self.base / "sshd_config")]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        deadline = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"sshd did not start: {(self.log().strip().splitlines() or ['it says nothing'])[-1]}")
            time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as found:
            return found.recv(4) == b"SSH-"
    except OSError:
        return False
