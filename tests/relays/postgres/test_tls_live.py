"""TLS with real libpq clients in front, and with a real PostgreSQL behind whose certificates are of all sorts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.certificates import Authority
from playground.postgres import Postgres, Unavailable
from relays.postgres import codec
from relays.postgres.startup import SSLRequest, Startup
from tests.relays.postgres.live import gateway
from tests.relays.postgres.test_live import one
from tests.relays.test_tls import certificate

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def hosting(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`tls:` of a gateway with a certificate for localhost, and where its authority is."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key, ca = (directory / name for name in ("gateway.pem", "gateway.key", "ca.pem"))
    for path, content in zip((cert, key), authority.certificate("localhost", "127.0.0.1"), strict=True):
        path.write_bytes(content)
    ca.write_bytes(authority.pem)
    return {"tls": {"cert": str(cert), "key": str(key)}, "ca": str(ca)}


# --- in front: what clients speak


VERIFIED = {"sslmode": "verify-full"}


@pytest.mark.parametrize(
    ("spoken", "version"),
    [
        ({}, 30000),
        ({"sslnegotiation": "direct"}, 30000),
        ({"max_protocol_version": "3.2"}, 30002),
        ({"min_protocol_version": "3.2", "max_protocol_version": "3.2", "sslnegotiation": "direct"}, 30002),
        ({"max_protocol_version": "latest", "gssencmode": "prefer"}, 30002),
    ],
    ids=["request", "direct", "protocol-3.2", "direct-3.2", "latest"],
)
@pytest.mark.parametrize("connection", ["db", "secure"])
async def test_libpq_over_tls(
    postgres: Postgres, tmp_path: Path, hosting: dict[str, Any], connection: str, spoken: dict[str, str], version: int
) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        assert found.pgconn.ssl_in_use
        assert found.pgconn.full_protocol_version == version
        assert found.execute("SELECT %s::int, %s::text", (1, "x" * 100_000)).fetchall() == [(1, "x" * 100_000)]
        with found.pipeline():
            assert [found.execute("SELECT %s::int", (number,)).fetchone() for number in range(5)] == [(number,) for number in range(5)]

    async with gateway(tmp_path, postgres, tls=hosting["tls"]) as world:
        await world.client(work, connection, **VERIFIED, sslrootcert=hosting["ca"], **spoken)


@pytest.mark.parametrize("newest", [False, True], ids=["psql of the system", "psql of the wheel"])
async def test_psql_verifies_the_gateway(postgres: Postgres, tmp_path: Path, hosting: dict[str, Any], newest: bool) -> None:
    program = str(postgres.programs / "psql") if newest else shutil.which("psql")
    if program is None:
        pytest.skip("psql is not installed")
    more = {"sslnegotiation": "direct"} if newest else {}
    async with gateway(tmp_path, postgres, tls=hosting["tls"]) as world:
        dsn = world.dsn(**VERIFIED, sslrootcert=hosting["ca"], **more)
        status, out, err = await world.run(program, "-XAtq", dsn, "-c", "SELECT 1 + 1", "-c", "\\conninfo")
        assert status == 0, err
        assert out.splitlines()[0] == "2"
        assert "SSL" in out
        bad = world.dsn(**VERIFIED, sslrootcert=str(postgres.ca), **more)
        status, out, err = await world.run(program, "-XAtq", bad, "-c", "SELECT 1 + 1")
        assert (status, out) == (2, "")
        assert "certificate verify failed" in err


async def test_what_binds_to_the_channel(postgres: Postgres, tmp_path: Path, hosting: dict[str, Any]) -> None:
    more = {**VERIFIED, "sslrootcert": hosting["ca"]}
    async with gateway(tmp_path, postgres, tls=hosting["tls"]) as world:
        short = await world.services.identity.exchange(world.token(), peer="127.0.0.1")
        scram = {**more, "password": short.access_token, "dbname": "db", "require_auth": "scram-sha-256"}
        user = f"db+{short.principal.token_id}"
        for binding in ("disable", "prefer", "require"):
            assert await world.client(lambda found: one(found, "SELECT 1"), user, channel_binding=binding, **scram) == 1
        # a token as a password goes over the channel, which is encrypted, but binds to nothing
        assert await world.client(lambda found: one(found, "SELECT 1"), channel_binding="prefer", **more) == 1
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            await world.client(lambda found: None, channel_binding="require", **more)


async def test_no_tls_where_there_is_no_certificate(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        assert await world.client(lambda found: found.pgconn.ssl_in_use, sslmode="prefer") is False
        with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
            await world.client(lambda found: None, sslmode="require")
        with pytest.raises(psycopg.OperationalError):
            await world.client(lambda found: None, sslmode="require", sslnegotiation="direct")


async def test_direct_tls_speaks_of_postgresql_first(postgres: Postgres, tmp_path: Path, hosting: dict[str, Any]) -> None:
    """A TLS client that names no protocol, or another one, may be led here by somebody else (ALPACA): as the server, refuse it."""
    context = ssl.create_default_context(cafile=hosting["ca"])
    async with gateway(tmp_path, postgres, tls=hosting["tls"]) as world:
        for names in ([], ["http/1.1"]):
            context.set_alpn_protocols(names)
            reader, writer = await world.connect(ssl=context, server_hostname="localhost")
            writer.write(Startup(codec.PROTOCOL_3_0, ((b"user", b"db"),)).build())
            said = await asyncio.wait_for(reader.read(), 20)
            assert b"must name the protocol postgresql" in said
            assert said[:1] == b"E"
        await world.quiet()


# --- behind: what targets show


class Target:
    """A server of its own, whose certificate changes."""

    def __init__(self, server: Postgres, directory: Path) -> None:
        self.server = server
        self.directory = directory

    def show(self, certificate: bytes, key: bytes) -> None:
        """Serve new connections with this certificate."""
        for name, content in (("server.crt", certificate), ("server.key", key)):
            path = self.server.home / "data" / name
            path.unlink()
            path.write_bytes(content)
            path.chmod(0o600)
            self.server.own(path)
        os.kill(self.server.pid, signal.SIGHUP)
        expected = ssl.PEM_cert_to_DER_cert(certificate.decode())
        for _ in range(2000):
            if self.shown() == expected:
                return
        raise AssertionError("the server does not take the certificate")

    def shown(self) -> bytes | None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as plain:
            plain.sendall(SSLRequest().build())
            assert plain.recv(1) == b"S"
            with context.wrap_socket(plain) as spoken:
                return spoken.getpeercert(binary_form=True)

    def connections(self, ca: Path) -> list[dict[str, Any]]:
        base = {"kind": "postgres", "database": "orders", "credential": {"username": "app", "password": self.server.password()}}
        hosts = {"": "127.0.0.1", "-by-name": "localhost"}
        return [
            {
                **base,
                "name": policy + suffix,
                "tls": policy,
                "target": f"{host}:{self.server.port}",
                **({} if policy == "disable" else {"ca": str(ca)}),
            }
            for policy in ("verify-full", "verify-ca", "require", "disable")
            for suffix, host in hosts.items()
        ]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    server = Postgres(logs=False)
    try:
        server.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield Target(server, tmp_path_factory.mktemp("target"))
    finally:
        server.close()


RULES = """
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: sql, match: {effects: [read]}, effect: allow}
"""
CERTIFICATES = {
    # which: (policies that take it, what the client reads where another does not)
    "good": ({"verify-full", "verify-ca", "require", "disable"}, ""),
    "another name": ({"verify-ca", "require", "disable"}, "mismatch"),
    "expired": ({"require", "disable"}, "expired"),
    "another authority": ({"require", "disable"}, "unable to get|self-signed"),
    "self-signed": ({"require", "disable"}, "self-signed|unable to get"),
}


@pytest.mark.parametrize("which", CERTIFICATES)
async def test_targets_by_policy(target: Target, authority: Authority, tmp_path: Path, which: str) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    good = ("localhost", "127.0.0.1")
    shown = {
        "good": lambda: authority.certificate(*good),
        "another name": lambda: authority.certificate("db.example", "192.0.2.7"),
        "expired": lambda: authority.certificate(*good, ended=True),
        "another authority": lambda: Authority().certificate(*good),
        "self-signed": lambda: tuple(path.read_bytes() for path in certificate(tmp_path, "self-signed")),
    }[which]()
    await asyncio.to_thread(target.show, *shown)
    taken, said = CERTIFICATES[which]
    async with gateway(tmp_path, target.server, RULES, connections=target.connections(ca)) as world:
        for policy in ("verify-full", "verify-ca", "require", "disable"):
            for name in (policy, f"{policy}-by-name"):
                if policy in taken:
                    encrypted = await world.client(
                        lambda found: one(found, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), name, dbname="orders"
                    )
                    assert encrypted is (policy != "disable"), (which, name)
                else:
                    with pytest.raises(psycopg.OperationalError, match=f"TLS handshake with the target of {name} failed: .*({said})"):
                        await world.client(lambda found: None, name, dbname="orders")


async def test_targets_that_demand_what_the_policy_is_not(target: Target, tmp_path: Path) -> None:
    rules = target.server.home / "data" / "pg_hba.conf"
    before = rules.read_text()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(target.server.ca.read_bytes())
    try:
        rules.write_text("hostssl all all all scram-sha-256\n")
        os.kill(target.server.pid, signal.SIGHUP)
        async with gateway(tmp_path, target.server, RULES, connections=target.connections(ca)) as world:
            for _ in range(500):  # until the server has read it
                try:
                    await world.client(lambda found: None, "disable", dbname="orders")
                except psycopg.OperationalError as error:
                    assert "the target refuses the gateway's login (SQLSTATE 28000)" in str(error)  # noqa: PT017
                    break
            else:
                raise AssertionError("the server takes connections without TLS")
            assert await world.client(lambda found: one(found, "SELECT 1"), "require", dbname="orders") == 1
    finally:
        rules.write_text(before)
        os.kill(target.server.pid, signal.SIGHUP)
