"""Tokens of our own: JWTs signed with the local issuer's ed25519 key, and short opaque tokens with what the store keeps of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hopgate.config import LOCAL_ISSUER, Config, IssuerConfig
from hopgate.errors import Misconfigured, Unauthenticated
from hopgate.jwks import KeySet, VerificationKey, parse_key
from hopgate.key_files import ed25519_key

OPAQUE_PREFIX: Final = "hgt_"  # lets secret scanners know it
MAX_TTL: Final = 30 * 86400.0  # seconds; a token of our own is not a permanent credential
PEER_CLAIM: Final = "peer"  # in our own JWTs: the network (CIDR) from which alone the token is good
RUN_CLAIM: Final = "run"
_SCRAM_ITERATIONS: Final = 4096  # RFC 7677; the password is 256 random bits, more rounds add nothing
_RESERVED: Final = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", PEER_CLAIM})


def token_id(token: str) -> str:
    """The name of a token in store, ledger and sessions: its SHA-256 as hex; of a JWT, without the signature.

    A signature can be written in more than one way (ECDSA has two for each; padding), and what is revoked must stay so in all of them.
    """
    named = token.rpartition(".")[0] if token.count(".") == 2 else token
    return hashlib.sha256(named.encode()).hexdigest()


def revocation_ids(token: str) -> tuple[str, ...]:
    """What to revoke so that `token`, and every short token made of it, is refused: its digest, and its `jti` if it is a JWT with one."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError):
        return (token_id(token),)
    jti = claims.get("jti")
    return (token_id(token), jti) if isinstance(jti, str) and jti else (token_id(token),)


# --- the local issuer


def key_path(state: Path) -> Path:
    return state / "keys" / "issuer.pem"


def local_key(state: Path, *, create: bool = True) -> Ed25519PrivateKey:
    """The local issuer's signing key, made at first use (0600). Raises Misconfigured: unreadable, not ed25519, or open to others."""
    return ed25519_key(key_path(state), create=create)


def local_verification_key(key: Ed25519PrivateKey) -> VerificationKey:
    """The public half, named by its RFC 7638 style thumbprint: a replaced key has another `kid`."""
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    found = parse_key({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA"})
    assert found is not None
    return VerificationKey(found.thumbprint[:16], found.algorithms, found.public, found.thumbprint)


class LocalKeys:
    """The local issuer's own key as a source of keys: `token issue` in another process, or an operator, may have replaced it."""

    interval = 5.0

    def __init__(self, state: Path) -> None:
        self._state = state

    async def fetch(self) -> KeySet:
        """Raises Misconfigured."""
        return KeySet((local_verification_key(local_key(self._state)),))


def issue_token(
    config: Config,
    subject: str,
    groups: Iterable[str],
    ttl: float,
    *,
    peer: str | None = None,
    claims: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> str:
    """A signed JWT for `subject`, good for `ttl` seconds and, with `peer` (CIDR or IP address), only from there.

    Raises Misconfigured: no local issuer, a time to live that is not within 30 days, a peer that is no network, a reserved claim.
    """
    issuer = config.identity.local
    if issuer is None:
        raise Misconfigured(f"{config.path}: identity.issuers: no issuer is local: add {{name: local, local: true}} to issue tokens")
    if not subject or not subject.isprintable() or len(subject) > 255:
        raise Misconfigured("the subject must be printable text of at most 255 characters")
    if not 0 < ttl <= MAX_TTL:
        raise Misconfigured("a token's time to live must be more than nothing and at most 30d")
    key = local_key(config.state)
    payload = _payload(issuer, subject, list(groups), ttl, peer, dict(claims or {}), time.time() if now is None else now)
    return jwt.encode(payload, key, algorithm="EdDSA", headers={"kid": local_verification_key(key).kid})


def _payload(
    issuer: IssuerConfig, subject: str, groups: list[str], ttl: float, peer: str | None, claims: dict[str, Any], now: float
) -> dict[str, Any]:
    if reserved := sorted((_RESERVED | {issuer.groups_claim}) & claims.keys()):
        raise Misconfigured(f"the claim {reserved[0]} is set by the gateway itself")
    issued = int(now)
    payload = {
        "iss": LOCAL_ISSUER,
        "aud": issuer.audiences[0],
        "sub": subject,
        "iat": issued,
        "nbf": issued,
        "exp": issued + max(1, int(ttl)),
        "jti": secrets.token_urlsafe(16),
        issuer.groups_claim: groups,
        **claims,
    }
    return payload if peer is None else {**payload, PEER_CLAIM: parse_peer(peer)}


def parse_peer(text: str) -> str:
    """A peer binding (`10.1.2.3` or `10.1.0.0/16`) as CIDR. Raises Misconfigured."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise Misconfigured("a token's peer must be an address or network, as in 10.1.2.3 or 10.1.0.0/16") from None


# --- short opaque tokens


def new_opaque_token() -> str:
    """256 random bits in 47 characters: fits where ssh (1023 bytes) and old SQL clients cut a password."""
    return OPAQUE_PREFIX + secrets.token_urlsafe(32)


def is_opaque(token: str) -> bool:
    return token.startswith(OPAQUE_PREFIX)


def scram_verifier(token: str, *, salt: bytes | None = None) -> str:
    """`SCRAM-SHA-256$4096:salt$StoredKey:ServerKey` (RFC 5803, as PostgreSQL keeps it): proves the token without holding it."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", token.encode(), salt, _SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def check_opaque(token: str) -> None:
    """Raises Unauthenticated for what cannot be one of our short tokens, before anything is looked up."""
    if len(token) != len(OPAQUE_PREFIX) + 43 or not token.isascii():
        raise Unauthenticated("the token is malformed")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
