"""One issuer's tokens: compact JWS (RFC 7515) whose algorithm is allowed, whose key fits it, and whose claims hold (RFC 7519, RFC 8725)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
import orjson

from hopgate.claims import check_audience, check_times, principal_of
from hopgate.config import IssuerConfig
from hopgate.errors import Unauthenticated
from hopgate.jwks import KeyCache
from hopgate.tokens import token_id
from rules.model import Principal

MAX_TOKEN: Final = 16 << 10  # bytes; larger than any header or password that carries one (nginx and Node take 8 to 16 KB)
_MALFORMED: Final = "the token is malformed: it is neither a signed JWT nor a short token of this gateway"


@dataclass(frozen=True, slots=True)
class Parsed:
    """An unverified token: what it says about itself, good for nothing but choosing the key."""

    algorithm: str
    kid: str | None
    issuer: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified token: who it is, and with which key (its thumbprint) it was signed."""

    principal: Principal
    key: str


def parse(token: str) -> Parsed:
    """Header and `iss` of a compact JWS. Raises Unauthenticated, never quoting the token."""
    parts = token.split(".")
    if len(parts) == 5:
        raise Unauthenticated("the token is encrypted (JWE); only signed tokens are accepted")
    if len(parts) != 3 or "=" in token:
        raise Unauthenticated(_MALFORMED)
    header, payload = _json_object(parts[0]), _json_object(parts[1])
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), payload.get("iss")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None):
        raise Unauthenticated(_MALFORMED)
    if "crit" in header or header.get("b64", True) is not True:
        raise Unauthenticated("the token's header asks for an extension (crit) that is not supported")
    kind = header.get("typ", "JWT")
    # RFC 8725 section 3.11: a logout token or a DPoP proof is signed with the same keys, but is no access token
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in ("jwt", "at+jwt"):
        raise Unauthenticated("the token is of another kind (typ) than an access or identity token")
    if not isinstance(issuer, str) or not issuer:
        raise Unauthenticated("the token has no iss claim")
    return Parsed(algorithm, kid, issuer)


def _json_object(part: str) -> dict[str, Any]:
    try:
        value = orjson.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        value = None
    if not isinstance(value, dict):
        raise Unauthenticated(_MALFORMED)
    return value


class Issuer:
    """Verifies the tokens of one configured issuer."""

    def __init__(self, config: IssuerConfig, keys: KeyCache) -> None:
        self.config = config
        self.keys = keys
        self._algorithms = frozenset({"EdDSA"} if config.local else config.algorithms)

    async def verify(self, token: str, parsed: Parsed, now: float) -> Verified:
        """Raises Unauthenticated, Expired; Unavailable when the key cannot be had."""
        if parsed.algorithm not in self._algorithms:
            # `none` and HS256 end here: the configuration cannot name them
            raise Unauthenticated(f"issuer {self.config.name}: the token's algorithm is not one of {', '.join(sorted(self._algorithms))}")
        key = await self.keys.find(parsed.kid, parsed.algorithm)
        verifier = jwt.PyJWS(algorithms=[parsed.algorithm])
        try:
            signed = verifier.decode_complete(token, key=key.public, algorithms=[parsed.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Unauthenticated(f"issuer {self.config.name}: the token's signature is wrong") from None
        return Verified(self.principal(_claims(signed["payload"]), token_id(token), now), key.thumbprint)

    def principal(self, claims: Mapping[str, Any], identifier: str, now: float) -> Principal:
        """The principal of verified claims, as this issuer's configuration of now narrows it. Raises Unauthenticated, Expired."""
        check_audience(claims, self.config)
        expires_at = check_times(claims, now)
        return principal_of(claims, self.config, token_id=identifier, expires_at=expires_at)


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = orjson.loads(payload)
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise Unauthenticated(_MALFORMED)
    return claims
