"""JSON Web Key Sets (RFC 7517): which key verifies what, and a cache of an issuer's keys that outlives the provider being down."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from hopgate.errors import HopgateError, Unauthenticated, Unavailable
from hopgate.tasks import spawn

type PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MAX_KEYS: Final = 100  # Entra publishes about 10, Google 3; a caller's unknown `kid` must not cost a walk over thousands
MIN_RSA_BITS: Final = 2048  # RFC 7518 section 3.3
COOL_DOWN: Final = 30.0  # seconds between fetches that callers cause with keys we do not know
REFRESH: Final = 300.0  # seconds between fetches in the background
RETRY: Final = 15.0  # the same while the provider does not answer
MAX_STALE: Final = 86400.0  # seconds that keys stay good while the provider does not answer
_PUBLIC_MEMBERS: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
_EC_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and the algorithms that it may verify: those that fit its type and that its `alg` permits."""

    kid: str
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)
    thumbprint: str  # SHA-256 of its public members as hex; tells replaced keys of one `kid` apart


@dataclass(frozen=True, slots=True)
class KeySet:
    """An issuer's usable keys. Symmetric, encryption and malformed ones are left out."""

    keys: tuple[VerificationKey, ...] = ()

    @property
    def thumbprints(self) -> frozenset[str]:
        return frozenset(key.thumbprint for key in self.keys)

    def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """The key of that id that fits the algorithm; without an id the only key that fits, if there is just one."""
        fitting = [key for key in self.keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]
        return fitting[0] if len(fitting) == 1 else None

    def has(self, kid: str | None) -> bool:
        return any(key.kid == kid for key in self.keys)


def parse_jwks(data: bytes) -> KeySet:
    """Read a JWKS document. Raises Unavailable when it is none or holds no usable key."""
    try:
        document = orjson.loads(data)
        entries = document["keys"]
    except (ValueError, TypeError, KeyError):
        raise Unavailable("what was fetched is not a JWKS document") from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise Unavailable(f"the JWKS document has no list of at most {MAX_KEYS} keys")
    keys = tuple(key for entry in entries if isinstance(entry, dict) and (key := parse_key(entry)) is not None)
    if not keys:
        raise Unavailable("the JWKS document holds no key that can verify signatures")
    return KeySet(keys)


def parse_key(entry: Mapping[str, Any]) -> VerificationKey | None:
    """One JWK as a verification key, or None where it is not one that we take."""
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    members = {name: entry.get(name) for name in _PUBLIC_MEMBERS.get(str(entry.get("kty")), ())}
    try:
        public, algorithms = _public(members)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    declared = entry.get("alg")
    algorithms = algorithms if declared is None else frozenset(each for each in algorithms if each == declared)
    if public is None or not algorithms:
        return None
    thumbprint = hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return VerificationKey(str(entry.get("kid", "")), algorithms, public, thumbprint)


def _public(members: Mapping[str, Any]) -> tuple[PublicKey | None, frozenset[str]]:
    match members.get("kty"):
        case "RSA":
            rsa = RSAAlgorithm.from_jwk(dict(members))
            if isinstance(rsa, RSAPublicKey) and rsa.key_size >= MIN_RSA_BITS:
                return rsa, _RSA_ALGORITHMS
        case "EC" if members["crv"] in _EC_ALGORITHMS:
            curve = ECAlgorithm.from_jwk(dict(members))
            if isinstance(curve, EllipticCurvePublicKey):
                return curve, frozenset({_EC_ALGORITHMS[members["crv"]]})
        case "OKP" if members["crv"] == "Ed25519":
            edwards = OKPAlgorithm.from_jwk(dict(members))
            if isinstance(edwards, Ed25519PublicKey):
                return edwards, frozenset({"EdDSA"})
    return None, frozenset()


class KeySource(Protocol):
    """Where an issuer's keys come from. `interval` is the number of seconds after which they are read again."""

    interval: float

    async def fetch(self) -> KeySet: ...


class KeyCache:
    """An issuer's keys as last fetched. Known keys go on working while the provider is down, for a day; unknown ones are refused."""

    def __init__(self, issuer: str, source: KeySource, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self.keys = KeySet()
        self.error: HopgateError | None = None  # why the last fetch failed
        self.on_removed: Callable[[frozenset[str]], None] = lambda _thumbprints: None
        self._source = source
        self._clock = clock
        self._tried = float("-inf")
        self._fetched = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        """The key for a token's header. An unknown one is looked for at the provider at most every 30 s, whoever asks.

        Raises Unauthenticated: no such key. Raises Unavailable: it cannot be known, the provider does not answer.
        """
        key = self._known(kid, algorithm)
        if key is not None:
            return key
        if self._fetching is not None or self._clock() - self._tried >= COOL_DOWN:
            await self.refresh()
            key = self._known(kid, algorithm)
        if key is not None:
            return key
        if self.error is not None:
            raise Unavailable(f"issuer {self.issuer}: the token's key is not known and the provider does not answer: {self.error.message}")
        if kid is not None and self.keys.has(kid):
            raise Unauthenticated(f"issuer {self.issuer}: the token's key is not for the algorithm that the token names")
        raise Unauthenticated(f"issuer {self.issuer}: the token is signed with a key that the provider does not publish")

    def _known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        if self._clock() - self._fetched > MAX_STALE:
            return None
        return self.keys.find(kid, algorithm)

    async def refresh(self) -> None:
        """Fetch now; callers at the same time share one fetch. A failure is kept in `error` and leaves the keys as they are."""
        if self._fetching is None:
            self._fetching = spawn(self._fetch(), name=f"keys of {self.issuer}")
        # a caller who gives up must not end the fetch of the others
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            fresh = await self._source.fetch()
        except HopgateError as error:
            self.error = error
        except Exception as error:  # whatever a document made of bad will raises, the keys we have stay
            self.error = Unavailable(f"its keys cannot be read ({type(error).__name__})")
        else:
            removed = self.keys.thumbprints - fresh.thumbprints
            self.keys, self.error, self._fetched = fresh, None, self._clock()
            if removed:
                self.on_removed(removed)
        finally:
            self._fetching = None

    def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def follow(self) -> None:
        """Fetch again and again until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._source.interval if self.error is None else min(RETRY, self._source.interval))
