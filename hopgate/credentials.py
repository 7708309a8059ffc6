"""What the gateway adds for the caller, who never has it: leased to an open session, and to nothing else."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from hopgate.errors import Denied, Expired, Misconfigured
from hopgate.grants import SessionGrant
from hopgate.references import Reference, Template
from hopgate.secret_store import Secret, SecretInfo, SecretStore
from hopgate.sources import Sources
from hopgate.store import Store, Subscription

__all__ = ["Credentials", "Lease", "Secret", "SecretInfo", "SecretStore"]

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5: a field value has none of these
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_SENSITIVE: Final = re.compile(r"auth|token|key|secret|cookie|pass|credential|signature|session", re.IGNORECASE)
_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})


class CredentialTemplates(Protocol):
    """`credential:` of a connection."""

    @property
    def templates(self) -> tuple[tuple[tuple[str, ...], Template], ...]: ...


class LeasedConnection(Protocol):
    """A connection, as far as its credential goes."""

    @property
    def name(self) -> str: ...
    @property
    def credential(self) -> CredentialTemplates | None: ...


class CredentialSettings(Protocol):
    """The configuration, as far as credentials go."""

    @property
    def state(self) -> Path: ...
    @property
    def connections(self) -> Iterable[LeasedConnection]: ...


@dataclass(frozen=True, slots=True, repr=False)
class Lease:
    """The credential of a connection as it is now. Shows names, never values. Another `version` means other values."""

    connection: str
    version: int
    headers: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    query: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    username: str = ""
    password: str = ""
    private_key: str = ""
    literals: tuple[bytes, ...] = ()  # every secret in it, to be masked wherever it comes back

    def __repr__(self) -> str:
        single = [name for name in ("username", "password", "private_key") if getattr(self, name)]
        named = ", ".join([*(f"header {name}" for name in self.headers), *(f"query {name}" for name in self.query), *single])
        return f"Lease({self.connection!r}, version {self.version}: {named or 'nothing'})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a lease is not copied or stored")


class Credentials:
    """Leases for open sessions. Values are kept in memory until they change at their source."""

    def __init__(self, config: CredentialSettings, store: Store, sources: Sources | None = None) -> None:
        self._store = store
        self._connections = {connection.name: connection.credential for connection in config.connections}
        self.sources = sources or Sources(SecretStore(store, config.state))
        self._leases: dict[str, tuple[Lease, Hashable]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._versions: dict[str, tuple[int, float]] = {}
        self._starting = asyncio.Lock()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Follow the versions of sealed secrets. `lease` does it, if nobody has. Raises Unavailable."""
        async with self._starting:
            if self._subscription is None:
                self._subscription = await self._store.subscribe(self._read, read_now=self._read_now)

    async def close(self) -> None:
        """Forget every value."""
        self._leases.clear()
        if self._subscription is not None:
            self._store.unsubscribe(self._subscription)
            self._subscription = None
        await self.sources.close()

    async def _read(self) -> None:
        self._read_now()

    def _read_now(self) -> None:
        self._versions = self._store.sealed_versions_now()

    async def lease(self, grant: SessionGrant) -> Lease:
        """The credential of the connection that `grant` opens; empty if it has none.

        Raises TypeError for anything but a grant, Expired when its session is over, Misconfigured when a secret is missing, does not open
        or does not fit where it is to go, Unavailable when its source does not answer.
        """
        if type(grant) is not SessionGrant:
            raise TypeError("a lease takes the grant of an open session")
        if grant.ended:
            raise Expired("the session is over")
        name = grant.connection
        if name not in self._connections:
            raise Denied(f"there is no connection {name!r}")
        credential = self._connections[name]
        if credential is None:
            return Lease(name, 0)
        if self._subscription is None:
            await self.start()
        kept = self._kept(name, credential)
        if kept is None:
            async with self._locks.setdefault(name, asyncio.Lock()):
                kept = self._kept(name, credential) or await self._resolve(name, credential)
            if grant.ended:
                raise Expired("the session is over")
        return kept

    def _kept(self, name: str, credential: CredentialTemplates) -> Lease | None:
        kept = self._leases.get(name)
        return kept[0] if kept is not None and kept[1] == self._stamps(credential) else None

    def _stamps(self, credential: CredentialTemplates) -> Hashable:
        return tuple(self.sources.stamp(reference, self._versions) for reference in _references(credential))

    async def _resolve(self, name: str, credential: CredentialTemplates) -> Lease:
        stamps = self._stamps(credential)  # before the values: a change in between is seen next time
        values = {reference: (await self.sources.resolve(reference)).reveal() for reference in _references(credential)}
        last = self._leases.get(name)
        lease = _render(name, 1 if last is None else last[0].version + 1, credential, values)
        self._leases[name] = (lease, stamps)
        return lease


def _references(credential: CredentialTemplates) -> tuple[Reference, ...]:
    return tuple(dict.fromkeys(reference for _, template in credential.templates for reference in template.references))


def _render(name: str, version: int, credential: CredentialTemplates, values: Mapping[Reference, str]) -> Lease:
    fields: dict[str, dict[str, str]] = {"headers": {}, "query": {}}
    single: dict[str, str] = {}
    literals: dict[bytes, None] = {}
    for where, template in credential.templates:
        text = template.render(values)
        _check(name, where, text)
        if len(where) == 2:
            fields[where[0]][where[1]] = text
        else:
            single[where[0]] = text
        literals.update(dict.fromkeys(_literals(where, template, values, text)))
    return Lease(name, version, MappingProxyType(fields["headers"]), MappingProxyType(fields["query"]), **single, literals=tuple(literals))


def _check(connection: str, where: tuple[str, ...], text: str) -> None:
    place = f"connection {connection!r}: credential.{'.'.join(where)}"
    if not text:
        raise Misconfigured(f"{place}: is empty")
    if where[0] == "headers" and not _TOKEN.fullmatch(where[1]):
        raise Misconfigured(f"{place}: is no name of a header field")
    # a line end in a header value would begin a header, or a request, of the secret's own making
    if where[0] == "headers" and (_CONTROL.search(text) or text != text.strip()):
        raise Misconfigured(f"{place}: must have no line ends or other control characters, and no space around it")
    if where[0] in ("username", "password") and "\0" in text:
        raise Misconfigured(f"{place}: must not have NUL characters")


def _literals(where: tuple[str, ...], template: Template, values: Mapping[Reference, str], text: str) -> Iterable[bytes]:
    """What must never come back: every referenced value, and text written in the configuration itself where a secret belongs."""
    for reference in template.references:
        # a user name from a variable or file is no secret, and hiding `app` everywhere would break responses
        if where[0] != "username" or reference.source in ("secret", "vault"):
            yield values[reference].encode()
    if where[0] == "headers":
        yield from _basic(text)
    if not template.references and (where[0] in ("password", "private_key") or (len(where) == 2 and _SENSITIVE.search(where[1]))):
        yield text.encode()
        scheme, _, value = text.partition(" ")
        if where[0] == "headers" and scheme.lower() in ("bearer", "basic", "token") and value.strip():
            yield value.strip().encode()


def _basic(text: str) -> Iterable[bytes]:
    """What `Basic` credentials (RFC 7617) are in clear text: targets that echo a request decode them."""
    scheme, _, encoded = text.partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return
    password = pair.partition(b":")[2]
    if password:
        yield pair
        yield password
