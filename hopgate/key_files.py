"""Private ed25519 keys of our own: files below `keys/` of the state directory, made at first use, for their owner's eyes only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hopgate.errors import Misconfigured


def ed25519_key(path: Path, *, create: bool = True) -> Ed25519PrivateKey:
    """The key at `path` (PEM, 0600), made unless it is there. Raises Misconfigured: unreadable, not ed25519, or open to others."""
    try:
        if create and not path.exists():
            _create(path)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Misconfigured(f"{path}: others than its owner may read it: chmod 600, or delete it to have a new one made")
            key = serialization.load_pem_private_key(file.read(65536), password=None)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read or made: {(error.strerror or 'i/o error').lower()}") from None
    except (ValueError, TypeError):
        raise Misconfigured(f"{path}: is not a private key in PEM form") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(f"{path}: is not an ed25519 key")
    return key


def _create(path: Path) -> None:
    """Write a new key whole or not at all. Of several processes that start together, the first one's key stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
