"""The real OpenSSH client through the gateway to a real sshd, with a connection layer that passes everything on."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hopgate.ssh_keys import known_hosts_line
from rules.model import Principal
from tests.peers.sshd import OpenSSH, Sshd, keygen, public, run_keygen
from tests.relays.ssh.world import SshWorld, configure

pytestmark = pytest.mark.peer

PAYLOAD = bytes(range(256)) * 8192  # 2 MiB


async def ssh(world: SshWorld, client: OpenSSH, *words: str, user: str = "build", **more: Any) -> subprocess.CompletedProcess[bytes]:
    client.known_hosts.write_text(known_hosts_line(world.listener.host_key, world.listener.address) + "\n")
    return await asyncio.to_thread(lambda: client.run(world.port, user, *words, **more))


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
async def test_a_short_token_logs_in(tmp_path: Path, sshd: Sshd, openssh: OpenSSH, method: str) -> None:
    async with SshWorld(configure(tmp_path, sshd)) as world:
        token = await world.short_token()
        done = await ssh(world, openssh, "-o", f"PreferredAuthentications={method}", "--", "cat; exit 7", answer=token, stdin=PAYLOAD)
        assert (done.returncode, done.stdout) == (7, PAYLOAD), done.stderr
        (login,) = world.logins
        assert (str(login.principal), login.connection, login.peer) == ("local:agent-1", "build", "127.0.0.1")
    assert len(openssh.asked) == 1


@pytest.mark.parametrize(
    ("options", "cipher"),
    [
        ((), rb"aes\d+-gcm@openssh.com MAC: <implicit>"),
        (("-c", "aes256-gcm@openssh.com"), rb"aes256-gcm@openssh.com MAC: <implicit>"),
        (("-c", "aes192-ctr", "-m", "hmac-sha2-512"), rb"aes192-ctr MAC: hmac-sha2-512"),
        (("-c", "aes128-ctr"), rb"aes128-ctr MAC: hmac-sha2-256"),
    ],
)
async def test_ciphers_and_rekeying_by_the_client(
    tmp_path: Path, sshd: Sshd, openssh: OpenSSH, options: tuple[str, ...], cipher: bytes
) -> None:
    async with SshWorld(configure(tmp_path, sshd)) as world:
        token = await world.short_token()
        done = await ssh(world, openssh, "-v", "-o", "RekeyLimit=1M", *options, "--", "cat", answer=token, stdin=PAYLOAD)
        assert done.returncode == 0, done.stderr
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(PAYLOAD).digest()
        assert len(re.findall(rb"server->client cipher: " + cipher, done.stderr)) > 2, done.stderr


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("hgt_" + "x" * 43, b"the token is not known to this gateway"),
        ("not-a-token", b"malformed"),
        ("y" * 4000, b"cut off after 1023 bytes"),
    ],
)
async def test_a_wrong_token_is_told_why(tmp_path: Path, sshd: Sshd, openssh: OpenSSH, token: str, said: bytes) -> None:
    async with SshWorld(configure(tmp_path, sshd)) as world:
        done = await ssh(world, openssh, "true", answer=token)
        assert done.returncode == 255
        assert said in done.stderr
        assert b"Permission denied" in done.stderr
        assert token[:40].encode() not in done.stderr
        assert world.logins == []


@pytest.mark.parametrize("connection", ["forbidden", "nowhere"])
async def test_a_refused_session_says_the_same_whether_there_is_such_a_connection(
    tmp_path: Path, sshd: Sshd, openssh: OpenSSH, connection: str
) -> None:
    async with SshWorld(configure(tmp_path, sshd)) as world:
        done = await ssh(world, openssh, "true", user=connection, answer=await world.short_token())
        assert done.returncode == 255
        assert b"no rule allows this" in done.stderr
        assert world.legs == []


async def test_an_rsa_key_signs_with_sha_2(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    more = [{"name": "build", "credential": {"username": sshd.user, "private_key": f"${{file:{sshd.rsa_key}}}"}}]
    async with SshWorld(configure(tmp_path, sshd, more=more)) as world:
        done = await ssh(world, openssh, "echo in", answer=await world.short_token())
        assert done.stdout == b"in\n", done.stderr


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
async def test_the_host_key_that_is_pinned_is_the_one_that_is_asked_for(tmp_path: Path, sshd: Sshd, openssh: OpenSSH, kind: str) -> None:
    async with SshWorld(configure(tmp_path, sshd, more=[{"name": "build", "host_key": sshd.host_key(kind)}])) as world:
        done = await ssh(world, openssh, "echo in", answer=await world.short_token())
        assert done.stdout == b"in\n", done.stderr


async def test_another_host_key_is_refused_before_the_credential_is_shown(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    other = " ".join(sshd.key.with_name("user_ed25519.pub").read_text().split()[:2])
    before = len(sshd.log())
    async with SshWorld(configure(tmp_path, sshd, more=[{"name": "build", "host_key": other}])) as world:
        done = await ssh(world, openssh, "echo in", answer=await world.short_token())
        assert done.returncode == 255
        assert b"the target's host key is not the one that host_key names: it shows SHA256:" in done.stderr
    assert "Accepted" not in sshd.log()[before:]


async def test_a_host_is_known_by_who_certifies_it(tmp_path: Path, openssh: OpenSSH) -> None:
    with Sshd(host_keys=("ed25519",)) as server:
        authority = keygen(tmp_path / "host_ca")
        run_keygen("-q", "-s", str(authority), "-I", "host", "-h", "-n", "127.0.0.1", "-V", "+1h", str(server.base / "host_ed25519.pub"))
        server.restart(f"HostCertificate {server.base / 'host_ed25519-cert.pub'}")
        line = f"@cert-authority {public(authority)}"
        more = [{"name": "build", "host_key": line}, {"name": "other", "host_key": f"@cert-authority {server.host_key()}"}]
        async with SshWorld(configure(tmp_path, server, more=more)) as world:
            done = await ssh(world, openssh, "echo in", answer=await world.short_token())
            assert done.stdout == b"in\n", done.stderr
            done = await ssh(world, openssh, "echo in", user="other", answer=await world.short_token())
            assert b"the target's host certificate is signed by another authority" in done.stderr


async def test_a_target_that_is_not_there_is_one_sentence(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    more = [{"name": "build", "target": f"127.0.0.1:{port}"}]
    async with SshWorld(configure(tmp_path, sshd, more=more)) as world:
        done = await ssh(world, openssh, "echo in", answer=await world.short_token())
        assert done.returncode == 255
        assert b"connection build: connection refused" in done.stderr


async def test_a_session_that_is_held_says_so_and_starts_with_the_approval(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with SshWorld(configure(tmp_path, sshd)) as world:
        running = asyncio.ensure_future(ssh(world, openssh, "echo in", user="asked", answer=await world.short_token()))
        approvals = world.services.approvals
        while not (pending := await world.services.store.list_approvals("pending")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        reviewer = Principal("local", "dora", groups=frozenset({"dba"}))
        await approvals.decide(pending[0].id, reviewer, "approve", scope="once", comment="")
        done = await running
        assert done.stdout == b"in\n", done.stderr
        assert b"waiting for a reviewer" in done.stderr
