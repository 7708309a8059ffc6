"""Who is signed in. A sign-in is a random token in a cookie; the store keeps its digest and the person, and forgets both at logout.

The rows lie among the short tokens, under prefixes and in a form of their own: no wire takes one for a token, nor this one for theirs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from hopgate.errors import Expired, Unauthenticated
from hopgate.store import Store, TokenRow
from hopgate.tokens import token_id
from rules.model import Principal

SESSION_PREFIX: Final = "hgc_"
LINK_PREFIX: Final = "hgl_"
LINK_SECONDS: Final = 300.0  # a link that was mailed by mistake is worth little soon
_BYTES: Final = 32
_NO_VERIFIER: Final = ""  # SCRAM cannot be done with these

type Kind = Literal["session", "link"]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """One person's sign-in. `csrf` goes into forms: only a page of ours knows it."""

    principal: Principal
    name: str  # for the page: what the provider calls the person
    csrf: str
    ends_at: float


class SignIns:
    """Sign-ins and single-use links, in the store that all processes share."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def begin(self, principal: Principal, seconds: float, name: str = "") -> str:
        """The cookie's value for a person who has just proved who he is. Raises Unavailable."""
        return await self._keep("session", SESSION_PREFIX, principal, seconds, name)

    async def make_link(self, principal: Principal, seconds: float = LINK_SECONDS) -> str:
        """A token that signs `principal` in once. Raises Unavailable."""
        return await self._keep("link", LINK_PREFIX, principal, seconds, "")

    async def _keep(self, kind: Kind, prefix: str, principal: Principal, seconds: float, name: str) -> str:
        token = prefix + secrets.token_urlsafe(_BYTES)
        ends_at = self._clock() + seconds
        document = {
            "console": kind,
            "issuer": principal.issuer,
            "subject": principal.subject,
            "groups": sorted(principal.groups),
            "actors": sorted(principal.actors),
            "name": name,
            "began_at": self._clock(),
        }
        await self._store.save_token(token_id(token), _NO_VERIFIER, orjson.dumps(document).decode(), ends_at)
        return token

    async def find(self, token: str) -> SignedIn:
        """Who is signed in with this cookie. Raises Unauthenticated, Expired, Unavailable."""
        if not _well_formed(token, SESSION_PREFIX):
            raise Unauthenticated("sign in first")
        return self._read("session", token, await self._store.find_token(token_id(token)))

    async def use_link(self, token: str) -> Principal:
        """Whom a link signs in: the first who comes. Raises Unauthenticated, Expired, Unavailable."""
        if not _well_formed(token, LINK_PREFIX):
            raise Unauthenticated("this is no sign-in link: ask for another with `hopgate console login`")
        return self._read("link", token, await self._store.take_token(token_id(token))).principal

    async def end(self, token: str) -> None:
        """Sign out. Raises Unavailable."""
        await self._store.take_token(token_id(token))

    def _read(self, kind: Kind, token: str, row: TokenRow | None) -> SignedIn:
        found: dict[str, Any] = {} if row is None else orjson.loads(row.principal_json)
        if row is None or found.get("console") != kind:
            what = "the link was used already, or never was one" if kind == "link" else "you are signed out"
            raise Unauthenticated(f"{what}: sign in again")
        now = self._clock()
        if now >= row.expires_at:
            raise Expired("the link is too old: ask for another" if kind == "link" else "your sign-in has expired: sign in again")
        if now < found["began_at"] - 60.0:
            # the clock went back: how long this is good for is anybody's guess
            raise Expired("the clock has changed since you signed in: sign in again")
        principal = Principal(
            issuer=found["issuer"],
            subject=found["subject"],
            groups=frozenset(found["groups"]),
            claims={"console": kind},
            expires_at=row.expires_at,
            token_id=row.digest,
            actors=frozenset(found["actors"]),
        )
        return SignedIn(principal, found["name"] or found["subject"], csrf_token(token), row.expires_at)


def csrf_token(token: str) -> str:
    """What forms of the session with this cookie carry. Tells nothing about the cookie."""
    return hmac.new(token.encode(), b"hopgate console csrf", hashlib.sha256).hexdigest()


def _well_formed(token: str, prefix: str) -> bool:
    return token.startswith(prefix) and len(token) == len(prefix) + 43 and token.isascii()
