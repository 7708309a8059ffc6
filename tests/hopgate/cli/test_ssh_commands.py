"""`hopgate ssh` and `hopgate token ssh-cert`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from tests.doubles import HOST_KEY
from tests.hopgate.cli.conftest import Hopgate

CONFIG = f"""\
version: 1
state: ./var
identity: {{issuers: [{{name: local, local: true}}]}}
operators: [ops]
connections:
  - {{name: build, kind: ssh, target: "127.0.0.1:9", host_key: "{HOST_KEY}", credential: {{username: u, password: "${{secret:b}}"}}}}
listen: {{ssh: "127.0.0.1:12222"}}
"""


@pytest.fixture
def configured(config: Path) -> Path:
    config.write_text(CONFIG)
    return config


def test_known_hosts_is_the_same_line_each_time(hopgate: Hopgate, configured: Path) -> None:
    first = hopgate("ssh", "known-hosts")
    assert first.out.startswith("[127.0.0.1]:12222 ssh-ed25519 AAAA")
    assert hopgate("ssh", "known-hosts").out == first.out
    there = hopgate("ssh", "known-hosts", "--address", "gateway.example:22")
    assert there.out == "gateway.example " + first.out.partition(" ")[2]
    told = json.loads(hopgate("ssh", "known-hosts", "--json").out)
    assert told["host_key"] in first.out
    assert told["fingerprint"].startswith("SHA256:")
    key = configured.parent / "var" / "keys" / "ssh_host_ed25519.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    assert (hopgate("ssh", "known-hosts").status, "others than its owner" in hopgate("ssh", "known-hosts").err) == (1, True)


def test_ssh_config_has_a_block_for_each_connection(hopgate: Hopgate, configured: Path) -> None:
    done = hopgate("ssh", "config", "--address", "gateway:2222")
    assert done.out.splitlines()[:4] == ["Host build", "    HostName gateway", "    Port 2222", "    User build"]


@pytest.mark.parametrize(("words", "said"), [(("--address", "x"), "--address must be host:port"), ((), "has no ssh listener")])
def test_what_is_missing_is_said(hopgate: Hopgate, configured: Path, words: tuple[str, ...], said: str) -> None:
    configured.write_text(CONFIG.replace('listen: {ssh: "127.0.0.1:12222"}\n', ""))
    for command in ("known-hosts", "config"):
        done = hopgate("ssh", command, *words)
        assert (done.status, said in done.err, done.err.count("\n")) == (2, True, 1)


def test_a_certificate_for_a_key_in_a_file_or_on_stdin(hopgate: Hopgate, configured: Path) -> None:
    key = configured.parent / "id.pub"
    key.write_text(HOST_KEY + " me@host\n")
    words = ("--subject", "agent-1", "--group", "agents", "--connection", "build", "--ttl", "10m", "--permit", "none", "--claim", "team=x")
    for where, stdin in ((str(key), ""), ("-", HOST_KEY)):
        done = hopgate("token", "ssh-cert", where, *words, stdin=stdin)
        assert (done.status, done.err) == (0, "")
        found = load_ssh_public_identity(done.out.strip().encode())
        assert isinstance(found, SSHCertificate)
        assert (found.valid_principals, found.valid_before - found.valid_after, found.extensions) == ([b"build"], 600, {})
    lines = [json.loads(line) for path in (configured.parent / "var" / "ledger").glob("*") for line in path.read_text().splitlines()]
    issued = [line for line in lines if line["event"] == "certificate_issued"]
    assert [line["subject"] for line in issued] == ["agent-1", "agent-1"]
    assert issued[-1]["key_id"] == found.key_id.decode()
    token = hopgate("token", "issue", "--subject", "olga", "--group", "ops").out
    revoked = hopgate("token", "revoke", "--id", found.key_id.decode(), "--token", "-", stdin=token)
    assert (revoked.status, revoked.out) == (0, f"revoked {found.key_id.decode()}\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--ttl", "2d"), 1, "at most 1d"),
        (("--ttl", "soon"), 2, "--ttl must be a length of time"),
        (("--connection", "nowhere"), 1, "no connection 'nowhere'"),
        (("--permit", "all"), 1, "nothing is called 'all'"),
        (("--peer", "x"), 1, "peer must be"),
    ],
)
def test_what_no_certificate_is_made_for(hopgate: Hopgate, configured: Path, words: tuple[str, ...], status: int, said: str) -> None:
    done = hopgate("token", "ssh-cert", "-", "--subject", "a", *words, stdin=HOST_KEY)
    assert (done.status, done.out, said in done.err) == (status, "", True), done.err


def test_a_private_key_is_not_taken_and_not_shown(hopgate: Hopgate, configured: Path) -> None:
    path = configured.parent / "id"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")
    done = hopgate("token", "ssh-cert", str(path), "--subject", "a")
    assert (done.status, "secret" in done.err + done.out) == (1, False)
    assert hopgate("token", "ssh-cert", str(path) + ".missing", "--subject", "a").status == 1
