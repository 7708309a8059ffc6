"""Token to Principal: the only way for anybody to become somebody."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from hopgate.claims import LEEWAY, check_peer
from hopgate.config import Config, IssuerConfig
from hopgate.errors import Denied, Expired, Unauthenticated, Unavailable
from hopgate.issuers import MAX_TOKEN, Issuer, Verified, parse
from hopgate.jwks import KeyCache, KeySource
from hopgate.ssh_identity import SshIdentity
from hopgate.tasks import spawn
from hopgate.tokens import LocalKeys, check_opaque, is_opaque, new_opaque_token, parse_peer, scram_verifier, token_id
from rules.model import Principal

if TYPE_CHECKING:
    import httpx

MAX_CACHED: Final = 4096  # verified tokens kept in memory, 2 to 20 KB each


class StoredToken(Protocol):
    """What the store keeps of a short token."""

    @property
    def principal_json(self) -> str: ...
    @property
    def scram_verifier(self) -> str: ...
    @property
    def expires_at(self) -> float: ...


class TokenStore(Protocol):
    """The part of the store that short tokens need. Its methods raise Unavailable."""

    async def save_token(self, digest: str, scram_verifier: str, principal_json: str, expires_at: float) -> None: ...
    async def find_token(self, digest: str) -> StoredToken | None: ...


class Revocations(Protocol):
    """What is refused, in memory. Its methods raise Unavailable when that may be out of date."""

    def is_revoked(self, *token_ids: str) -> bool: ...
    def is_locked(self, principal: Principal, connection: str = "") -> str | None: ...


@dataclass(slots=True)
class _Cached:
    """A verified token, found by its digest until `deadline`."""

    principal: Principal
    deadline: float
    ids: tuple[str, ...]  # whichever of these is revoked ends it
    key: str  # thumbprint of the key that signed it; gone from the issuer's set, so is this


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A short token for a long one (RFC 8693)."""

    access_token: str = field(repr=False)
    expires_in: int  # seconds
    principal: Principal


class Identity:
    """Verifies tokens, and remembers those that it verified by their digest until they end. `start` before use, `close` after."""

    def __init__(self, config: Config, store: TokenStore, revocations: Revocations, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._store = store
        self._revocations = revocations
        self._clock = clock
        self.ssh = SshIdentity(config, revocations, clock)  # keys and certificates, which are no tokens
        self._issuers: dict[str, Issuer] = {}  # by `iss`
        self._cache: dict[bytes, _Cached] = {}
        self._client: httpx.AsyncClient | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, follow: bool = True) -> None:
        """Begin to fetch the issuers' keys; does not wait for any provider. With `follow` false (a command line) only when needed.

        Raises Misconfigured when the local issuer's key is wrong.
        """
        for issuer in self._config.identity.issuers:
            keys = KeyCache(issuer.name, await self._source(issuer))
            keys.on_removed = self._forget_keys
            self._issuers[issuer.issuer_url] = Issuer(issuer, keys)
            if issuer.local:
                await keys.refresh()
                if keys.error is not None:
                    raise keys.error
            if follow:
                self._tasks.append(spawn(keys.follow(), name=f"following the keys of {issuer.name}"))

    async def _source(self, issuer: IssuerConfig) -> KeySource:
        if issuer.local:
            return LocalKeys(self._config.state)
        from hopgate.providers import FileKeys, RemoteKeys, open_client  # httpx: a fifth of a start that may not need it

        if issuer.jwks.startswith("file:"):
            return FileKeys(self._config.directory / issuer.jwks.removeprefix("file:"))
        if self._client is None:
            self._client = await open_client()
        return RemoteKeys(issuer, self._client)

    async def close(self) -> None:
        """Stop fetching. Nothing is verified afterwards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for issuer in self._issuers.values():
            issuer.keys.close()
        self._issuers.clear()
        self._cache.clear()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Issuers whose keys could not be fetched last time, one sentence each: for health and `doctor`."""
        failed = ((each.config.name, each.keys.error) for each in self._issuers.values())
        return tuple(f"issuer {name}: {error.message}" for name, error in failed if error is not None)

    def cached_principal(self, token: str, peer: str) -> Principal | None:
        """Who this token is, if that was verified before and nothing has changed since; None means: ask `verify`. Raises Unavailable."""
        found = self._cache.get(hashlib.sha256(token.encode("utf-8", "replace")).digest())
        if found is None or self._clock() >= found.deadline or self._revocations.is_revoked(*found.ids):
            return None
        if found.principal.peer is not None:
            try:
                check_peer(found.principal.peer, peer)
            except Unauthenticated:
                return None
        return found.principal

    async def verify(self, token: str, *, peer: str) -> Principal:
        """Who sent `token` from `peer` (an IP address).

        Raises Unauthenticated, Expired: it proves nothing. Raises Unavailable: that cannot be found out now. No text quotes the token.
        """
        if not token:
            raise Unauthenticated("no token was sent")
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("the token is longer than 16 KB")
        if not token.isascii() or not token.isprintable():
            raise Unauthenticated("the token is malformed: it holds a character that no token has")
        principal = self.cached_principal(token, peer)
        if principal is not None:
            return principal
        found = await (self._find_opaque(token) if is_opaque(token) else self._verify_signed(token))
        if self._revocations.is_revoked(*found.ids):
            raise Unauthenticated("the token was revoked")
        check_peer(found.principal.peer, peer)
        self._remember(token, found)
        return found.principal

    async def _verify_signed(self, token: str) -> _Cached:
        parsed = parse(token)
        issuer = self._issuers.get(parsed.issuer)
        if issuer is None:
            raise Unauthenticated("the token's issuer is not one that this gateway accepts")
        verified: Verified = await issuer.verify(token, parsed, self._clock())
        return self._entry(verified.principal, verified.key)

    async def find_verifier(self, identifier: str, *, peer: str) -> tuple[str, Principal]:
        """The SCRAM verifier of a short token by its id (SHA-256 as hex), and whom a proof against it proves: nobody is proved before that.

        Raises like `verify`.
        """
        if len(identifier) != 64 or not identifier.isascii() or not identifier.isalnum():
            raise Unauthenticated("the token is not known to this gateway")
        row = await self._store.find_token(identifier)
        found = self._from_row(row, identifier)
        if row is None or self._revocations.is_revoked(*found.ids):
            raise Unauthenticated("the token was revoked")
        check_peer(found.principal.peer, peer)
        return row.scram_verifier, found.principal

    async def _find_opaque(self, token: str) -> _Cached:
        check_opaque(token)
        identifier = token_id(token)
        return self._from_row(await self._store.find_token(identifier), identifier)

    def _from_row(self, row: StoredToken | None, identifier: str) -> _Cached:
        if row is None:
            raise Unauthenticated("the token is not known to this gateway")
        if self._clock() >= row.expires_at + LEEWAY:
            raise Expired("the token has expired: get a new one")
        stored = _stored(row.principal_json)
        issuer = next((each for each in self._issuers.values() if each.config.name == stored["issuer"]), None)
        if issuer is None:
            raise Unauthenticated("the token's issuer is not accepted by this gateway any more")
        if issuer.config.local and stored["key"] not in issuer.keys.keys.thumbprints:
            raise Unauthenticated("the token was made from one whose key was replaced: get a new one")
        principal = issuer.principal(stored["claims"], identifier, self._clock())
        bound = replace(principal, expires_at=row.expires_at, peer=stored["peer"], run=stored["run"])
        return self._entry(bound, stored["key"], stored["parent"])

    @staticmethod
    def _entry(principal: Principal, key: str, *more: str) -> _Cached:
        jti = principal.claims.get("jti")
        ids = (principal.token_id, *more, *([jti] if isinstance(jti, str) and jti else []))
        return _Cached(principal, principal.expires_at + LEEWAY, ids, key)

    def _remember(self, token: str, found: _Cached) -> None:
        if len(self._cache) >= MAX_CACHED:
            now = self._clock()
            self._cache = {digest: each for digest, each in self._cache.items() if each.deadline > now}
            for digest in list(self._cache)[: max(0, len(self._cache) - MAX_CACHED * 9 // 10)]:
                del self._cache[digest]
        self._cache[hashlib.sha256(token.encode()).digest()] = found

    def _forget_keys(self, thumbprints: frozenset[str]) -> None:
        self._cache = {digest: each for digest, each in self._cache.items() if each.key not in thumbprints}

    async def exchange(self, token: str, *, peer: str, bind: str | None = None) -> Exchanged:
        """A short token for a signed one, good as long as that (RFC 8693); `bind` (CIDR) binds it to where it may come from.

        Raises Unauthenticated, Denied, Unavailable, and Misconfigured for a wrong `bind`.
        """
        if is_opaque(token):
            raise Unauthenticated("a short token cannot be exchanged again")
        principal = await self.verify(token, peer=peer)
        if reason := self._revocations.is_locked(principal):
            raise Denied(f"refused: {reason}")
        if bind is not None and principal.peer is not None and bind != principal.peer:
            raise Denied("the token is bound to a peer already")
        remaining = int(principal.expires_at - self._clock())
        if remaining <= 0:
            raise Expired("the token has expired: get a new one")
        short = new_opaque_token()
        entry = self._cache[hashlib.sha256(token.encode()).digest()]
        bound = principal.peer if bind is None else parse_peer(bind)
        verifier = await asyncio.to_thread(scram_verifier, short)
        stored = _storable(replace(principal, peer=bound), entry.key, self._clock())
        await self._store.save_token(token_id(short), verifier, stored, principal.expires_at)
        return Exchanged(short, remaining, replace(principal, peer=bound, token_id=token_id(short)))


def _storable(principal: Principal, key: str, now: float) -> str:
    # `iat` is the short token's own; its `jti` names what to revoke besides its own digest
    claims = {**principal.claims, "iat": int(now), "jti": principal.claims.get("jti") or principal.token_id}
    document = {
        "issuer": principal.issuer,
        "claims": claims,
        "peer": principal.peer,
        "run": principal.run,
        "key": key,
        "parent": principal.token_id,
    }
    try:
        return orjson.dumps(document).decode()
    except TypeError:
        raise Unauthenticated("the token's claims are nested too deep") from None


def _stored(text: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
        if isinstance(document, dict) and document.keys() == {"issuer", "claims", "peer", "run", "key", "parent"}:
            return document
    except ValueError:
        pass
    raise Unavailable("the store's record of a token is damaged")
