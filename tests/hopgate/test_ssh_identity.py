"""Certificates and registered keys: who may come in with which, one row a reason."""

from __future__ import annotations

import base64
import math
import struct
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, SSHCertificateBuilder, SSHCertificateType
from hypothesis import given
from hypothesis import strategies as st

from hopgate.config import Config
from hopgate.errors import Misconfigured, Unauthenticated, Unavailable
from hopgate.ssh_certificates import read_certificate
from hopgate.ssh_identity import CLAIMS_OPTION, SshIdentity, fingerprint, issue_certificate
from hopgate.ssh_keys import USER_CA, public_line, user_ca
from tests.doubles import HOST_KEY, START, Clock, Revoked, make_config

PEER = "10.1.2.3"
HOLDER = Ed25519PrivateKey.generate()
NOW = int(START)


def configured(directory: Path, **identity: Any) -> Config:
    connections = [
        {
            "name": name,
            "kind": "ssh",
            "target": "h:22",
            "host_key": HOST_KEY,
            "credential": {"username": "u", "password": "p"},
        }
        for name in ("build", "other")
    ]
    return make_config(directory, connections=connections, identity={"issuers": [{"name": "local", "local": True}], **identity})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


def identity(config: Config, revoked: Revoked | None = None, now: float = START) -> SshIdentity:
    return SshIdentity(config, revoked or Revoked(), Clock(now))  # type: ignore[arg-type]


def blob_of(line: str) -> bytes:
    return base64.b64decode(line.split()[1])


def issued(config: Config, **more: Any) -> bytes:
    arguments: dict[str, Any] = {"subject": "agent-1", "groups": ["agents"], "ttl": 600, "now": START, **more}
    return blob_of(issue_certificate(config, public_line(HOLDER), **arguments)[0])


def test_what_is_issued_is_accepted(config: Config) -> None:
    more = {"claims": {"team": "x", "run": "r1"}, "peer": "10.0.0.0/8", "permits": ["pty"], "force_command": "uptime"}
    blob = issued(config, connections=["build"], **more)
    found = identity(config).certified(blob, connection="build", peer=PEER)
    principal = found.principal
    assert (str(principal), principal.groups, principal.run, principal.peer) == ("local:agent-1", {"agents"}, "r1", "10.0.0.0/8")
    assert principal.claims["team"] == "x"
    assert (principal.expires_at, found.expires_at) == (START + 600, START + 600)
    assert (found.permits, found.force_command) == ({"pty"}, b"uptime")
    assert identity(config).certified(issued(config), connection="anything", peer=PEER).permits == {"pty", "port-forwarding"}


def made(config: Config, **changes: Any) -> bytes:
    """A certificate with everything right but what `changes` says."""
    how: dict[str, Any] = {
        "kind": SSHCertificateType.USER,
        "names": [b"build"],
        "after": NOW - 10,
        "before": NOW + 10,
        "options": {CLAIMS_OPTION: orjson.dumps({"sub": "agent-1", "groups": ["agents"]})},
        "key": HOLDER,
        "by": user_ca(config.state),
        "key_id": b"id-1",
        **changes,
    }
    builder = SSHCertificateBuilder().public_key(how["key"].public_key()).type(how["kind"]).serial(7).key_id(how["key_id"])
    builder = builder.valid_after(how["after"]).valid_before(how["before"])
    builder = builder.valid_principals(how["names"]) if how["names"] else builder.valid_for_all_principals()
    for name, value in how["options"].items():
        builder = builder.add_critical_option(name, value)
    return blob_of(builder.sign(how["by"]).public_bytes().decode())


CLAIMS = {CLAIMS_OPTION: orjson.dumps({"sub": "agent-1"})}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another authority": ({"by": Ed25519PrivateKey.generate()}, "signed by another authority"),
    "signed by itself": ({"by": HOLDER}, "signed by another authority"),
    "a host's": ({"kind": SSHCertificateType.HOST}, "is for hosts"),
    "over": ({"before": NOW}, "has expired"),
    "not yet": ({"after": NOW + 1}, "not valid yet"),
    "other connections": ({"names": [b"other", b"buil", b"build2"]}, "for other connections"),
    "no principals": ({"names": []}, "for other connections"),
    "unknown option": ({"options": {**CLAIMS, b"verify-required": b""}}, "critical option that is not known here: verify-required"),
    "strange option": ({"options": {**CLAIMS, b"\x1b[2J\xff": b""}}, "not known here: \\?"),
    "no claims": ({"options": {}}, "does not say for whom it speaks"),
    "claims that are none": ({"options": {CLAIMS_OPTION: b"[1]"}}, "does not say for whom"),
    "broken claims": ({"options": {CLAIMS_OPTION: b"{"}}, "does not say for whom"),
    "no key id": ({"key_id": b""}, "does not say for whom"),
    "key id of no text": ({"key_id": b"\xff"}, "does not say for whom"),
    "no subject": ({"options": {CLAIMS_OPTION: b"{}"}}, "no sub claim"),
    "groups of no text": ({"options": {CLAIMS_OPTION: b'{"sub": "a", "groups": [1]}'}}, "not a list of group names"),
    "another place": ({"options": {**CLAIMS, b"source-address": b"192.168.0.0/16,10.9.0.0/16"}}, "not for the address"),
    "a place of no address": ({"options": {**CLAIMS, b"source-address": b"10.0.0.0/8,anywhere"}}, "cannot be read"),
    "an empty place": ({"options": {**CLAIMS, b"source-address": b""}}, "cannot be read"),
    "short RSA": ({"key": rsa.generate_private_key(65537, 1024)}, "cannot be read"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_certificates_that_are_refused(config: Config, what: str) -> None:
    changes, said = REFUSED[what]
    with pytest.raises(Unauthenticated, match=said):
        identity(config).certified(made(config, **changes), connection="build", peer=PEER)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"names": [b"*"]},
        {"options": {**CLAIMS, b"source-address": b"192.168.0.0/16,10.0.0.0/8"}},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"before": NOW + 1, "after": NOW},
    ],
)
def test_certificates_that_are_accepted(config: Config, changes: dict[str, Any]) -> None:
    assert identity(config).certified(made(config, **changes), connection="build", peer=PEER).principal.subject == "agent-1"


def test_claims_do_not_change_what_the_certificate_itself_says(config: Config) -> None:
    told = {"sub": "agent-1", "jti": "other", "exp": 9e9, "iss": "https://corp", "ssh_serial": "x", "peer": 3}
    found = identity(config).certified(made(config, options={CLAIMS_OPTION: orjson.dumps(told)}), connection="build", peer=PEER)
    claims = found.principal.claims
    assert (claims["jti"], claims["ssh_serial"], claims["iss"], found.principal.expires_at) == (
        "id-1",
        "ssh-serial:7",
        "hopgate:local",
        NOW + 10,
    )


def test_no_authority_no_certificate(config: Config, tmp_path: Path) -> None:
    blob = made(config)
    (config.state / "keys" / USER_CA).unlink()
    with pytest.raises(Unauthenticated, match="another authority"):
        identity(config).certified(blob, connection="build", peer=PEER)
    (tmp_path / "remote").mkdir()
    remote = {"issuers": [{"name": "corp", "issuer": "https://corp.example", "audience": "hopgate"}]}
    without = configured(tmp_path / "remote", **remote)
    with pytest.raises(Unauthenticated, match="another authority"):
        identity(without).certified(made(without), connection="build", peer=PEER)


def test_a_replaced_authority_is_in_force_at_once(config: Config) -> None:
    known = identity(config)
    blob = made(config)
    known.certified(blob, connection="build", peer=PEER)
    (config.state / "keys" / USER_CA).unlink()
    other = made(config)
    known.certified(other, connection="build", peer=PEER)
    with pytest.raises(Unauthenticated):
        known.certified(blob, connection="build", peer=PEER)


def test_revocations(config: Config) -> None:
    blob = made(config)
    found = identity(config).certified(blob, connection="build", peer=PEER).principal
    for name in ("id-1", "ssh-serial:7", found.token_id):
        revoked = Revoked()
        revoked.ids.add(name)
        with pytest.raises(Unauthenticated, match="revoked"):
            identity(config, revoked).certified(blob, connection="build", peer=PEER)
    revoked.down = True
    with pytest.raises(Unavailable):
        identity(config, revoked).certified(blob, connection="build", peer=PEER)


def test_a_weak_signature_of_the_authority_is_refused(config: Config) -> None:
    """ssh-keygen -t rsa-sha2-… is what makes one; with plain ssh-rsa the same certificate is worth nothing."""
    authority = rsa.generate_private_key(65537, 2048)
    blob = made(config, by=authority)
    assert read_certificate(blob)[0].key_id == b"id-1"
    weak = blob.replace(struct.pack(">L", 12) + b"rsa-sha2-512", struct.pack(">L", 7) + b"ssh-rsa")
    size = len(blob.rpartition(struct.pack(">L", 12) + b"rsa-sha2-512")[2]) + 16
    head = blob[: len(blob) - size - 4]
    assert weak != blob
    with pytest.raises(ValueError, match="too weak"):
        read_certificate(head + struct.pack(">L", size - 5) + weak[len(head) + 4 :])


@pytest.mark.parametrize("position", range(0, 300, 7))
def test_no_altered_certificate_is_read(config: Config, position: int) -> None:
    blob = bytearray(made(config))
    blob[position % len(blob)] ^= 0x20
    with pytest.raises(ValueError, match="certificate"):
        read_certificate(bytes(blob))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        read_certificate(b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com" + data)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"subject": ""}, "subject must be printable"),
    ({"ttl": 0}, "time to live"),
    ({"ttl": 86401}, "at most 1d"),
    ({"claims": {"sub": "x"}}, "the claim sub is set by the gateway"),
    ({"connections": ["nowhere"]}, "no connection 'nowhere' of kind ssh"),
    ({"permits": ["root"]}, "nothing is called 'root'"),
    ({"peer": "everywhere"}, "peer must be an address"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_what_is_not_issued(config: Config, change: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        issued(config, **change)


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_for_what_is_no_public_key_nothing_is_issued(config: Config, key: str) -> None:
    with pytest.raises(Misconfigured, match="public key"):
        issue_certificate(config, key, "a", [], 60)


# --- registered keys


def registered(directory: Path, **more: Any) -> Config:
    return configured(directory, ssh_keys=[{"key": public_line(HOLDER) + " me@host", "subject": "ci", "groups": ["agents"], **more}])


def test_a_registered_key(tmp_path: Path) -> None:
    blob = blob_of(public_line(HOLDER))
    found = identity(registered(tmp_path)).keyholder(blob, connection="build", peer=PEER)
    assert (str(found), found.groups, found.expires_at, found.peer) == ("local:ci", {"agents"}, math.inf, None)
    assert found.claims["jti"] == fingerprint(blob)


@pytest.mark.parametrize(
    ("more", "connection", "peer", "ok"),
    [
        ({"connections": ["build"]}, "build", PEER, True),
        ({"connections": ["build"]}, "other", PEER, False),
        ({"peer": "10.0.0.0/8"}, "build", PEER, True),
        ({"peer": "10.0.0.0/8"}, "build", "192.168.0.1", False),
    ],
)
def test_where_a_registered_key_is_good(tmp_path: Path, more: dict[str, Any], connection: str, peer: str, ok: bool) -> None:
    known, blob = identity(registered(tmp_path, **more)), blob_of(public_line(HOLDER))
    if ok:
        assert known.keyholder(blob, connection=connection, peer=peer).subject == "ci"
    else:
        with pytest.raises(Unauthenticated):
            known.keyholder(blob, connection=connection, peer=peer)


def test_keys_that_are_not_registered_or_revoked(tmp_path: Path) -> None:
    config, blob = registered(tmp_path), blob_of(public_line(HOLDER))
    with pytest.raises(Unauthenticated):
        identity(config).keyholder(blob_of(public_line(Ed25519PrivateKey.generate())), connection="build", peer=PEER)
    for name in (fingerprint(blob), identity(config).keyholder(blob, connection="build", peer=PEER).token_id):
        revoked = Revoked()
        revoked.ids.add(name)
        with pytest.raises(Unauthenticated, match="revoked"):
            identity(config, revoked).keyholder(blob, connection="build", peer=PEER)


def test_what_accepts_nothing_says_so(tmp_path: Path, config: Config) -> None:
    assert identity(config).accepts
    (tmp_path / "remote").mkdir()
    remote = configured(tmp_path / "remote", issuers=[{"name": "corp", "issuer": "https://corp.example", "audience": "hopgate"}])
    assert not identity(remote).accepts


SHORT = rsa.generate_private_key(65537, 1024).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
LINE = public_line(HOLDER)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([{"key": "ssh-ed25519 AAAA", "subject": "a"}], "ssh_keys[0].key: is not a whole public key: must be a line as in id_ed25519.pub"),
        ([{"key": SHORT, "subject": "a"}], "is an RSA key of 1024 bits"),
        ([{"key": LINE}], "ssh_keys[0].subject: is required"),
        (
            [{"key": LINE, "subject": "a"}, {"key": LINE + " again", "subject": "b"}],
            "ssh_keys[1].key: is already registered by ssh_keys[0]",
        ),
        ([{"key": LINE, "subject": "a", "issuer": "corp"}], "ssh_keys[0].issuer: is none of the issuers local"),
        ([{"key": LINE, "subject": "a", "connections": ["nowhere"]}], "ssh_keys[0].connections[0]: `nowhere` is no connection of kind ssh"),
        ([{"key": LINE, "subject": "a", "peer": "10.0.0.1/8"}], "ssh_keys[0].peer: must be a network"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_hopgate_yaml_says_wrong_about_keys(tmp_path: Path, keys: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        configured(tmp_path, ssh_keys=keys)
    assert said in str(caught.value)
