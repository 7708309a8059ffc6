"""Secrets at rest: AES-256-GCM with a key of its own for each version, which is wrapped by the gateway's key (NIST SP 800-38D).

Both layers are bound to the secret's name and version, so a row that is moved, renamed or mixed with another does not open. The database
alone reveals names, lengths and dates.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hopgate.errors import Misconfigured, Unavailable
from hopgate.secret_keys import KeyFiles, SecretKey
from hopgate.store import SealedSecret, Store

MIN_CHARACTERS: Final = 4  # a shorter one would be "found" all over the responses that it is hidden in
MAX_BYTES: Final = 65536
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_NONCE: Final = 12
_TRIES: Final = 5


class Secret:
    """A secret value. It is not in its repr, its str or a pickle; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not copied or stored")


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be told of a secret."""

    name: str
    version: int
    at: float  # seconds since the epoch
    by: str


class SecretStore:
    """`hopgate secrets`: sealed values by name, in the store. Raises Unavailable when that does not answer."""

    def __init__(self, store: Store, state: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._store = store
        self._keys = KeyFiles(Path(state), environ)
        self._lock = Path(state) / "keys" / "secrets.lock"

    async def set(self, name: str, value: str, by: str = "") -> int:
        """Seal a new version, which replaces the last; gives its number. Makes the key if there is neither key nor secret yet.

        Raises Misconfigured: a bad name or value, a key that is missing, unreadable or not the one that sealed the others.
        """
        _check(name, value)
        async with self._alone():
            for _ in range(_TRIES):
                others = await self._store.list_sealed()
                key = self._sealing_key(others)
                last = next((each for each in others if each.name == name), None)
                sealed = _seal(key, name, 1 if last is None else last.version + 1, value, by)
                if await self._store.replace_sealed([(sealed, last)]):
                    return sealed.version
        raise Unavailable(f"the secret {name!r} is being changed by somebody else: try again")

    async def get(self, name: str) -> Secret:
        """Open a secret. Raises Misconfigured when there is none or it does not open; never gives an empty one."""
        sealed = await self._store.find_sealed(name)
        if sealed is None:
            raise Misconfigured(f"there is no secret {name!r}: hopgate secrets set {name}")
        return Secret(_open(self._opening_key(sealed), sealed))

    async def list(self) -> tuple[SecretInfo, ...]:
        return tuple(SecretInfo(each.name, each.version, each.at, each.by) for each in await self._store.list_sealed())

    async def delete(self, name: str) -> bool:
        """Forget a secret. False when there was none."""
        return await self._store.delete_sealed(name)

    async def rotate_key(self) -> int:
        """Wrap every secret with a new key, all or none; gives how many. The values stay, and running gateways follow.

        A rotation that was cut short is finished by the next one; until then both keys are there, and both kinds open.
        """
        async with self._alone():
            if not self._keys.in_environment and await self._finish():
                return len(await self._store.list_sealed())
            new = self._keys.prepare()
            sealed = await self._store.list_sealed()
            rewrapped = [(_rewrap(self._opening_key(each), new, each), each) for each in sealed]
            if not await self._store.replace_sealed(rewrapped):
                raise Unavailable("a secret was changed meanwhile: try again")
            if not self._keys.in_environment:
                self._keys.promote()
            return len(sealed)

    async def _finish(self) -> bool:
        """Complete a rotation that had changed the database and not yet the file."""
        current = self._keys.current()
        sealed = await self._store.list_sealed()
        if current is None or not sealed or any(each.key_id == current.id for each in sealed):
            return False
        for each in sealed:
            self._opening_key(each)
        self._keys.promote()
        return True

    def _sealing_key(self, others: tuple[SealedSecret, ...]) -> SecretKey:
        if others:
            # the key that the others have, which during a rotation is not yet the current one
            return self._opening_key(max(others, key=lambda each: each.at))
        return self._keys.current() or self._keys.create()

    def _opening_key(self, sealed: SealedSecret) -> SecretKey:
        key = self._keys.find(sealed.key_id)
        if key is not None:
            return key
        current = self._keys.current()
        if current is None:
            raise Misconfigured(
                f"the secret {sealed.name!r} is sealed with the key {sealed.key_id}, and there is none: put {self._keys.source} back"
            )
        holds = f"{self._keys.source} holds {current.id}"
        raise Misconfigured(f"the secret {sealed.name!r} is sealed with the key {sealed.key_id}, and {holds}: put the right key back")

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One process at a time seals: a secret sealed with the old key just after a rotation could never be opened."""
        try:
            self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Unavailable(f"{self._lock}: {error.strerror}") from None
        try:
            until = time.monotonic() + 5.0
            while not _locked(descriptor):
                if time.monotonic() > until:
                    raise Unavailable("somebody else is changing secrets: try again")
                await asyncio.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise Misconfigured(f"{name!r} is no name for a secret: up to 128 letters, digits, dots, dashes and underscores")
    if len(value) < MIN_CHARACTERS:
        raise Misconfigured(f"the secret {name!r} has fewer than {MIN_CHARACTERS} characters: it could not be hidden in responses")
    if not _utf8(value) or "\0" in value or len(value.encode()) > MAX_BYTES:
        raise Misconfigured(f"the secret {name!r} must be UTF-8 text without NUL, of at most {MAX_BYTES} bytes")


def _utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _aad(layer: bytes, name: str, version: int, key_id: str = "") -> bytes:
    fields = (name.encode(), str(version).encode(), key_id.encode())
    return b"hopgate secret v1 " + layer + b"".join(len(each).to_bytes(4, "big") + each for each in fields)


def _seal(key: SecretKey, name: str, version: int, value: str, by: str) -> SealedSecret:
    data_key, nonce, wrap_nonce = AESGCM.generate_key(256), secrets.token_bytes(_NONCE), secrets.token_bytes(_NONCE)
    ciphertext = AESGCM(data_key).encrypt(nonce, value.encode(), _aad(b"value", name, version))
    wrapped = AESGCM(key.reveal()).encrypt(wrap_nonce, data_key, _aad(b"key", name, version, key.id))
    return SealedSecret(name, version, key.id, wrap_nonce, wrapped, nonce, ciphertext, by, time.time())


def _open(key: SecretKey, sealed: SealedSecret) -> str:
    try:
        data_key = _unwrap(key, sealed)
        value = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, _aad(b"value", sealed.name, sealed.version)).decode()
    except (InvalidTag, ValueError):
        raise Misconfigured(f"the secret {sealed.name!r} does not open: its row in the database was altered; set it again") from None
    if not value:
        raise Misconfigured(f"the secret {sealed.name!r} is empty: set it again")
    return value


def _unwrap(key: SecretKey, sealed: SealedSecret) -> bytes:
    aad = _aad(b"key", sealed.name, sealed.version, sealed.key_id)
    return AESGCM(key.reveal()).decrypt(sealed.wrap_nonce, sealed.wrapped_key, aad)


def _rewrap(old: SecretKey, new: SecretKey, sealed: SealedSecret) -> SealedSecret:
    try:
        data_key = _unwrap(old, sealed)
    except (InvalidTag, ValueError):
        raise Misconfigured(
            f"the secret {sealed.name!r} does not open: its row in the database was altered; set or delete it first"
        ) from None
    nonce = secrets.token_bytes(_NONCE)
    wrapped = AESGCM(new.reveal()).encrypt(nonce, data_key, _aad(b"key", sealed.name, sealed.version, new.id))
    return replace(sealed, key_id=new.id, wrap_nonce=nonce, wrapped_key=wrapped)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
