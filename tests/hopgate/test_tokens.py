"""Tokens of our own: the local issuer's key, the JWTs that it signs, short tokens and their SCRAM verifiers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hopgate.errors import Misconfigured, Unauthenticated
from hopgate.tokens import (
    check_opaque,
    is_opaque,
    issue_token,
    key_path,
    local_key,
    new_opaque_token,
    parse_peer,
    revocation_ids,
    scram_verifier,
    token_id,
)
from tests.doubles import START, make_config, signing_key


def unverified(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_a_token_says_what_was_asked_for(tmp_path: Path) -> None:
    token = issue_token(make_config(tmp_path), "agent-7", ["a", "b"], 3600, peer="10.0.0.7", claims={"run": "r1", "team": "x"}, now=START)
    claims = unverified(token)
    assert len(claims.pop("jti")) >= 16
    assert claims == {
        "iss": "hopgate:local",
        "aud": "hopgate",
        "sub": "agent-7",
        "groups": ["a", "b"],
        "iat": START,
        "nbf": START,
        "exp": START + 3600,
        "peer": "10.0.0.7/32",
        "run": "r1",
        "team": "x",
    }
    assert jwt.get_unverified_header(token)["alg"] == "EdDSA"


def test_tokens_differ(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert issue_token(config, "a", [], 60, now=START) != issue_token(config, "a", [], 60, now=START)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"subject": ""}, "subject must be printable"),
    ({"subject": "a\nb"}, "subject must be printable"),
    ({"subject": "a" * 256}, "at most 255"),
    ({"ttl": 0}, "time to live"),
    ({"ttl": -1}, "time to live"),
    ({"ttl": 31 * 86400}, "at most 30d"),
    ({"ttl": float("nan")}, "time to live"),
    ({"peer": "everywhere"}, "address or network"),
    ({"peer": "10.0.0.1/8"}, "address or network"),
    ({"claims": {"exp": 1e12}}, "claim exp is set by the gateway"),
    ({"claims": {"groups": ["root"]}}, "claim groups is set by the gateway"),
    ({"claims": {"peer": "0.0.0.0/0"}}, "claim peer is set by the gateway"),
    ({"claims": {"iss": "corp"}}, "claim iss is set by the gateway"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_tokens_that_are_not_issued(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    asked: dict[str, Any] = {"subject": "a", "groups": [], "ttl": 60, **changes}
    with pytest.raises(Misconfigured, match=words):
        issue_token(make_config(tmp_path), **asked)


def test_without_a_local_issuer_nothing_is_issued(tmp_path: Path) -> None:
    config = make_config(tmp_path, identity={"issuers": [{"name": "corp", "issuer": "https://i.example", "audience": "a"}]})
    with pytest.raises(Misconfigured, match="no issuer is local"):
        issue_token(config, "a", [], 60)
    assert not key_path(config.state).exists()


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = local_key(tmp_path / "var")
    path = key_path(tmp_path / "var")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert local_key(tmp_path / "var").private_bytes_raw() == first.private_bytes_raw()
    assert os.listdir(path.parent) == ["issuer.pem"]


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {key.private_bytes_raw() for key in pool.map(lambda _: local_key(tmp_path), range(16))}
    assert len(keys) == 1


def test_keys_that_are_refused(tmp_path: Path) -> None:
    path = key_path(tmp_path)
    with pytest.raises(Misconfigured, match="no such file"):
        local_key(tmp_path, create=False)
    path.parent.mkdir(parents=True)
    path.write_text("nonsense")
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="not a private key in PEM form"):
        local_key(tmp_path)
    path.write_bytes(signing_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(Misconfigured, match="not an ed25519 key"):
        local_key(tmp_path)
    path.unlink()
    local_key(tmp_path)
    path.chmod(0o640)
    with pytest.raises(Misconfigured, match="others than its owner may read it"):
        local_key(tmp_path)


def test_what_to_revoke(tmp_path: Path) -> None:
    token = issue_token(make_config(tmp_path), "a", [], 60, now=START)
    assert revocation_ids(token) == (token_id(token), unverified(token)["jti"])
    for other in (new_opaque_token(), "nonsense", "a.b.c", ""):
        assert revocation_ids(other) == (token_id(other),)


def test_short_tokens_are_short_and_differ() -> None:
    tokens = {new_opaque_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(is_opaque(token) and len(token) == 47 for token in tokens)
    for token in tokens:
        check_opaque(token)


@pytest.mark.parametrize("token", ["hgt_", "hgt_" + "a" * 42, "hgt_" + "a" * 44, "hgt_" + "é" * 43])
def test_what_is_no_short_token(token: str) -> None:
    with pytest.raises(Unauthenticated, match="malformed"):
        check_opaque(token)


def test_the_scram_verifier_is_that_of_rfc_7677() -> None:
    # section 3: user "user", password "pencil", this salt and 4096 rounds; ServerSignature follows from ServerKey
    import base64
    import hmac

    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram_verifier("pencil", salt=salt)
    server_key = base64.b64decode(verifier.rpartition(":")[2])
    first, final = "n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    signature = hmac.digest(server_key, f"{first},{server},{final}".encode(), "sha256")
    assert base64.b64encode(signature).decode() == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert verifier.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")


@pytest.mark.parametrize(("text", "network"), [("10.1.2.3", "10.1.2.3/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("fd00::1", "fd00::1/128")])
def test_peers(text: str, network: str) -> None:
    assert parse_peer(text) == network
