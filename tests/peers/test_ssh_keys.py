"""Certificates and registered keys with the real OpenSSH client, as `hopgate token ssh-cert` makes them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hopgate.ssh_identity import fingerprint, issue_certificate
from tests.peers.sshd import OpenSSH, Sshd, keygen, public, run_keygen
from tests.peers.test_ssh_login import ssh
from tests.relays.ssh.world import SshWorld, configure

pytestmark = pytest.mark.peer


def certify(world: SshWorld, key: Path, ttl: float = 600, **more: Any) -> Any:
    """Put a certificate beside the key, where ssh looks for it."""
    line, certificate = issue_certificate(world.config, public(key), "agent-1", ["agents"], ttl, **more)
    key.with_name(f"{key.name}-cert.pub").write_text(line + "\n")
    return certificate


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
async def test_a_certificate_logs_in(tmp_path: Path, sshd: Sshd, openssh: OpenSSH, kind: str) -> None:
    key = keygen(tmp_path / "id", kind)
    async with SshWorld(configure(tmp_path, sshd)) as world:
        certify(world, key, connections=["build"], permits=["pty"], force_command="uptime", claims={"team": "payments"})
        done = await ssh(world, openssh, "echo in", key=key)
        assert done.stdout == b"in\n", done.stderr
        (login,) = world.logins
        assert (login.principal.subject, login.principal.groups, login.principal.claims["team"]) == ("agent-1", {"agents"}, "payments")
        assert (login.ceilings.pty, login.ceilings.port_forwarding, login.ceilings.agent) == (True, False, False)
        assert login.ceilings.force_command == b"uptime"
        opened = [each for each in await world.ledger() if each["event"] == "session_opened"]
        assert [each["subject"] for each in opened] == ["agent-1"]


async def test_what_is_wrong_with_a_certificate_is_said(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    key, authority = keygen(tmp_path / "id"), keygen(tmp_path / "ca")
    async with SshWorld(configure(tmp_path, sshd)) as world:
        certify(world, key, connections=["asked"])
        done = await ssh(world, openssh, "true", key=key)
        assert b"the certificate is for other connections" in done.stderr
        certify(world, key, peer="10.0.0.0/8")
        done = await ssh(world, openssh, "true", key=key)
        assert b"not for the address that you come from" in done.stderr
        certify(world, key, now=time.time() - 7200, ttl=3600)
        done = await ssh(world, openssh, "true", key=key)
        assert b"the certificate has expired" in done.stderr
        run_keygen("-q", "-s", str(authority), "-I", "id", "-n", "build", "-V", "+1h", str(key) + ".pub")
        done = await ssh(world, openssh, "true", key=key)
        assert b"signed by another authority" in done.stderr
        assert world.logins == []


@pytest.mark.parametrize("by", ["key_id", "serial"])
async def test_a_revoked_certificate_ends_its_session_and_opens_no_other(tmp_path: Path, sshd: Sshd, openssh: OpenSSH, by: str) -> None:
    key = keygen(tmp_path / "id")
    async with SshWorld(configure(tmp_path, sshd)) as world:
        certificate = certify(world, key)
        running = asyncio.ensure_future(ssh(world, openssh, "sleep 60", key=key))
        while not world.legs:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        name = certificate.key_id.decode() if by == "key_id" else f"ssh-serial:{certificate.serial}"
        await world.services.store.revoke(name, time.time() + 600, "ops")
        done = await running
        assert done.returncode == 255
        assert b"the token was revoked" in done.stderr
        done = await ssh(world, openssh, "true", key=key)
        assert b"the key or certificate was revoked" in done.stderr


async def test_a_certificate_that_expires_ends_its_session(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    key = keygen(tmp_path / "id")
    async with SshWorld(configure(tmp_path, sshd)) as world:
        certify(world, key, ttl=3)
        for _ in range(10):
            done = await ssh(world, openssh, "sleep 60", key=key)
            if world.legs:
                break
            certify(world, key, ttl=10)  # a machine so busy that the first had expired before it was used
        assert done.returncode == 255
        assert b"what you logged in with has expired" in done.stderr


async def test_a_registered_key_logs_in_where_it_may(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    key, bound, unknown = keygen(tmp_path / "id"), keygen(tmp_path / "bound"), keygen(tmp_path / "unknown")
    keys = [
        {"key": public(key) + " agent@host", "subject": "ci", "groups": ["agents"], "connections": ["build"]},
        {"key": public(bound), "subject": "far", "groups": ["agents"], "peer": "10.0.0.0/8"},
    ]
    identity = {"issuers": [{"name": "local", "local": True}], "ssh_keys": keys}
    async with SshWorld(configure(tmp_path, sshd, identity=identity)) as world:
        done = await ssh(world, openssh, "echo in", key=key)
        assert done.stdout == b"in\n", done.stderr
        assert str(world.logins[0].principal) == "local:ci"
        for refused, user in ((key, "asked"), (bound, "build"), (unknown, "build")):
            done = await ssh(world, openssh, "true", key=refused, user=user)
            assert b"Permission denied" in done.stderr
        assert len(world.logins) == 1
        name = world.logins[0].principal.claims["jti"]
        assert name == fingerprint_of(key)
        await world.services.store.revoke(name, time.time() + 600, "ops")
        await world.services.locks.refresh()
        done = await ssh(world, openssh, "true", key=key)
        assert b"Permission denied" in done.stderr


def fingerprint_of(key: Path) -> str:
    import base64

    found = run_keygen("-l", "-f", f"{key}.pub").split()[1]
    assert found == fingerprint(base64.b64decode(public(key).split()[1]))
    return found
