"""The keys that seal secrets: from `HOPGATE_KEY` (32 bytes in base64) or `keys/secrets.key` of the state directory (the same, mode 0600).

A key is told by its id, a digest, so that a wrong one is named instead of tried.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from hopgate.errors import Misconfigured, Unavailable

VARIABLE: Final = "HOPGATE_KEY"
NEXT_VARIABLE: Final = "HOPGATE_NEXT_KEY"  # what `secrets rotate` changes to where the key comes from the environment
_BYTES: Final = 32


class SecretKey:
    """32 random bytes that wrap the keys of secrets. Shows its id and nothing else."""

    __slots__ = ("_raw", "id")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _BYTES:
            raise ValueError(f"a key has {_BYTES} bytes")
        self._raw = raw
        self.id = hashlib.sha256(b"hopgate secret key id\0" + raw).hexdigest()[:16]

    @classmethod
    def generate(cls) -> SecretKey:
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def parse(cls, text: str, where: str) -> SecretKey:
        """32 bytes in base64. Raises Misconfigured, which does not quote them."""
        try:
            return cls(base64.b64decode(text.strip(), validate=True))
        except (ValueError, binascii.Error):
            raise Misconfigured(f"{where}: is no key: must be 32 random bytes in base64, as `openssl rand -base64 32` prints") from None

    def reveal(self) -> bytes:
        return self._raw

    def text(self) -> str:
        return base64.b64encode(self._raw).decode()

    def __repr__(self) -> str:
        return f"SecretKey(id={self.id})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a key is not copied or stored")


class KeyFiles:
    """Where keys are found. `secrets.key.next` exists only while a rotation is under way, or after one that was cut short."""

    def __init__(self, state: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.path = state / "keys" / "secrets.key"
        self.next = state / "keys" / "secrets.key.next"
        self._environ = environ

    @property
    def in_environment(self) -> bool:
        return bool(self._environ.get(VARIABLE))

    @property
    def source(self) -> str:
        """Where the key that seals comes from, for messages."""
        return VARIABLE if self.in_environment else str(self.path)

    def current(self) -> SecretKey | None:
        """The key that seals, or None when there is none yet. Raises Misconfigured."""
        return SecretKey.parse(self._environ[VARIABLE], VARIABLE) if self.in_environment else _read(self.path)

    def find(self, key_id: str) -> SecretKey | None:
        """The key with this id, wherever it is. Raises Misconfigured."""
        found = [self.current(), _read(self.path), _read(self.next)]
        return next((key for key in found if key is not None and key.id == key_id), None)

    def create(self) -> SecretKey:
        """A new key in `secrets.key`, or the one that somebody else has made there meanwhile. Raises Unavailable."""
        key = SecretKey.generate()
        _write(self.path, key)
        return _read(self.path) or key

    def prepare(self) -> SecretKey:
        """The key to rotate to: that of a rotation that was cut short, else a new one. Raises Misconfigured, Unavailable."""
        if self.in_environment:
            text = self._environ.get(NEXT_VARIABLE)
            if not text:
                raise Misconfigured(f"{VARIABLE} is set: put the new key into {NEXT_VARIABLE} for this command, then into {VARIABLE}")
            return SecretKey.parse(text, NEXT_VARIABLE)
        _write(self.next, SecretKey.generate())
        key = _read(self.next)
        if key is None:
            raise Unavailable(f"{self.next}: disappeared while it was written")
        return key

    def promote(self) -> None:
        """Make the key that was rotated to the one that seals. Raises Unavailable."""
        if self.next.exists():
            try:
                os.replace(self.next, self.path)
                _sync(self.path.parent)
            except OSError as error:
                raise Unavailable(f"{self.path}: cannot be replaced: {error.strerror}") from None


def _read(path: Path) -> SecretKey | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for a writer
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Misconfigured(f"{path}: is no regular file")
        if found.st_mode & 0o077:
            raise Misconfigured(f"{path}: others than its owner may read it (mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 it")
        if found.st_uid not in (0, os.geteuid()):
            raise Misconfigured(f"{path}: belongs to somebody else: chown it to the user that hopgate runs as")
        return SecretKey.parse(os.read(descriptor, 1024).decode("ascii", "replace"), str(path))
    finally:
        os.close(descriptor)


def _write(path: Path, key: SecretKey) -> None:
    """The file appears whole or not at all, and never replaces one that is there."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(key.text().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            return
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise Unavailable(f"{path}: cannot be written: {error.strerror}") from None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
