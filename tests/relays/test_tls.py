"""TLS in the middle of a connection and from its first byte, on both sides, by the policy of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relays.commands import CLIENT, SERVER
from tests.relays.world import Target, World, configure


def certificate(directory: Path, name: str, *, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate for a host, which is its own authority: (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    cert, private = directory / f"{name}.pem", directory / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return cert, private


class Secured:
    """A gateway with a certificate, and a target with one."""

    def __init__(self, directory: Path, *, policy: str = "verify-full", host: str = "127.0.0.1", ca: bool = True) -> None:
        self.directory, self.policy, self.ca = directory, policy, ca
        self.ours = certificate(directory, "ours")
        self.theirs = certificate(directory, "theirs", host=host)

    async def __aenter__(self) -> Secured:
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(*self.theirs)
        self.target = await Target(tls=served).__aenter__()
        where: dict[str, Any] = {"kind": "postgres", "target": f"127.0.0.1:{self.target.port}", "tls": self.policy}
        if self.ca:
            where["ca"] = str(self.theirs[0])
        credential = {"username": "app", "password": "s3cret-of-the-target"}
        more = [{"name": "secure", **where, "credential": credential}]
        tls = {"cert": str(self.ours[0]), "key": str(self.ours[1])}
        self.world = await World(configure(self.directory, self.target.port, more=more, tls=tls)).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.world.__aexit__()
        await self.target.__aexit__()

    def context(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ours[0])
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
    writer.write(line)
    return await reader.readline()


async def test_both_sides_upgrade_in_the_middle(tmp_path: Path) -> None:
    async with Secured(tmp_path) as secured:
        reader, writer = await secured.world.connect()
        assert await exchange(reader, writer, b"starttls\n") == b"go\n"
        await writer.start_tls(secured.context(), server_hostname="127.0.0.1")
        assert await exchange(reader, writer, f"secure {secured.world.token()}\n".encode()) == b"ready\n"
        (driver,) = secured.world.outside.drivers
        client, server = driver.relay.tls[CLIENT], driver.relay.tls[SERVER]
        assert client is not None
        assert server is not None
        assert (client.version, server.version) == ("TLSv1.3", "TLSv1.3")
        assert server.certificate == ssl.PEM_cert_to_DER_cert(secured.theirs[0].read_text())
        for line in (b"get 1\n", b"put 2\n", b"get " + b"x" * 4000 + b"\n"):
            assert await exchange(reader, writer, line) == b"did " + line


async def test_a_client_may_begin_with_tls(tmp_path: Path) -> None:
    async with Secured(tmp_path) as secured:
        reader, writer = await secured.world.connect(ssl=secured.context("plain"))
        assert await exchange(reader, writer, f"secure {secured.world.token()}\n".encode()) == b"ready\n"
        (driver,) = secured.world.outside.drivers
        found = driver.relay.tls[CLIENT]
        assert found is not None
        assert found.alpn == "plain"
        assert await exchange(reader, writer, b"get 1\n") == b"did get 1\n"


async def test_bytes_in_front_of_the_handshake_are_refused(tmp_path: Path) -> None:
    async with Secured(tmp_path) as secured:
        reader, writer = await secured.world.connect()
        writer.write(f"starttls\nsecure {secured.world.token()}\n".encode())
        assert await reader.read() == b"error bytes came before the handshake\n"


async def test_a_client_that_breaks_the_handshake_ends(tmp_path: Path) -> None:
    async with Secured(tmp_path) as secured:
        reader, writer = await secured.world.connect()
        assert await exchange(reader, writer, b"starttls\n") == b"go\n"
        writer.write(b"this is no hello")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        await secured.world.quiet()


async def test_a_gateway_without_a_certificate_speaks_no_tls(tmp_path: Path) -> None:
    async with Target() as target, World(configure(tmp_path, target.port)) as world:
        reader, writer = await world.connect()
        writer.write(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):  # we close with its hello unread
            assert await reader.read() == b""
        reader, writer = await world.connect()
        assert await exchange(reader, writer, b"starttls\n") == b"go\n"
        assert await reader.readline() == b"error tls: is not configured\n"


@pytest.mark.parametrize(
    ("policy", "host", "ca", "passes"),
    [
        ("verify-full", "127.0.0.1", True, True),
        ("verify-full", "127.0.0.9", True, False),  # another host's
        ("verify-full", "127.0.0.1", False, False),  # nobody's
        ("verify-ca", "127.0.0.9", True, True),
        ("verify-ca", "127.0.0.1", False, False),
        ("require", "127.0.0.9", False, True),
    ],
)
async def test_targets_are_trusted_as_the_connection_says(tmp_path: Path, policy: str, host: str, ca: bool, passes: bool) -> None:
    async with Secured(tmp_path, policy=policy, host=host, ca=ca) as secured:
        reader, writer = await secured.world.connect()
        said = await exchange(reader, writer, f"secure {secured.world.token()}\n".encode())
        if passes:
            assert said == b"ready\n"
        else:
            assert said.startswith(b"error the TLS handshake with the target of secure failed: ")
            assert secured.target.lines == []  # the credential least of all
