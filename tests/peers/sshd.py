"""A real OpenSSH server on loopback, and the real OpenSSH client, for tests. Import `sshd` in a conftest.py to have the server.

The server runs as whoever runs the test, with a configuration, host keys and authorized keys of its own below a temporary directory,
and lets that same user in: an unprivileged sshd can do no more. It asks for no password: that takes PAM or the shadow file, which are
the machine's.
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from playground.postgres import free_port

START_SECONDS: Final = 30.0
KEY_KINDS: Final = ("ed25519", "rsa", "ecdsa")
_SEPARATION: Final = Path("/run/sshd")  # sshd of root does not start without it


class Unavailable(Exception):
    """No server can run here; the text says why, in one line."""


def keygen(path: Path, kind: str = "ed25519", *options: str) -> Path:
    """Make a key without a passphrase at `path`, and its public half at `path`.pub."""
    run_keygen("-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path), *options)
    return path


def run_keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True, timeout=60).stdout


def public(path: Path) -> str:
    """`ssh-ed25519 AAAA…` of a private key's path: its public half without the comment."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


class Sshd:
    """One server. `settings` are lines of sshd_config that go before ours, so they win; `host_keys` the kinds that it shows.

    with Sshd() as server:
        OpenSSH(...).run(server.port, server.user, "uptime", key=server.key)
    """

    def __init__(self, *settings: str, host_keys: tuple[str, ...] = KEY_KINDS) -> None:
        self.settings = settings
        self.host_kinds = host_keys
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.port = 0
        self.base = Path(os.devnull)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- life

    def start(self) -> None:
        """Make its files and run it. Raises Unavailable."""
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("ssh-keygen") is None:
            raise Unavailable("no sshd is installed: apt-get install openssh-server")
        self.base = Path(tempfile.mkdtemp(prefix="hopgate-sshd-"))
        self.home.mkdir()
        for kind in self.host_kinds:
            keygen(self.base / f"host_{kind}", kind, *(("-b", "2048") if kind == "rsa" else ()))
        keygen(self.key)
        keygen(self.rsa_key, "rsa", "-b", "2048")
        self.authorize(public(self.key), public(self.rsa_key))
        self._program = program
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

    def close(self) -> None:
        self.stop()
        if self.base.is_dir():
            shutil.rmtree(self.base, ignore_errors=True)

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
            # bash under sshd reads ~/.bashrc even for one command: the machine's own would cost time and print what it likes
            f"SetEnv HOME={self.home}",
        ]
        return "".join(f"{line}\n" for line in lines)

    def _run(self) -> None:
        if os.geteuid() == 0:
            _SEPARATION.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.port = self.port or free_port()
        (self.base / "sshd_config").write_text(self._configuration())
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-D", "-e", "-f", str(self.base / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
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
