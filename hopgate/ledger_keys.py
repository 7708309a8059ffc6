"""The key that signs ledgers: `keys/ledger.pem`, made once, and the public half beside it for whoever verifies elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hopgate.errors import Misconfigured, Unavailable
from hopgate.ledger_format import ledger_names

_PEM: Final = serialization.Encoding.PEM


def ledger_key(state: Path) -> Ed25519PrivateKey:
    """The signing key of the state directory, made at first use (0600). Safe when several processes start at once.

    Raises Misconfigured: the key is missing though there are ledgers, others may read it, it is not ed25519, or `ledger.pub` is not
    its public half.
    """
    path = state / "keys" / "ledger.pem"
    if not path.exists():
        if ledger_names(state / "ledger"):
            raise Misconfigured(f"{path}: missing, but {state / 'ledger'} has ledgers signed with it: put it back, or move them away")
        _create(path)
    if path.stat().st_mode & 0o077:
        raise Misconfigured(f"{path}: others than its owner may read it: chmod 600")
    key = _load(path)
    public = path.with_suffix(".pub")
    if not public.exists():
        _write_once(public, key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    if public_key(public).public_bytes_raw() != key.public_key().public_bytes_raw():
        raise Misconfigured(f"{public}: not the public half of {path.name}")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key from PEM. Raises Misconfigured."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except FileNotFoundError:
        raise Misconfigured(
            f"{path}: there is no public key: the gateway, which makes it, has not run here, or it was taken away"
        ) from None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path}: no public key can be read from it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Misconfigured(f"{path}: not an ed25519 key")
    return key


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured(f"{path}: no private key can be read from it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(f"{path}: not an ed25519 key")
    return key


def _create(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    _write_once(path, key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def _write_once(path: Path, data: bytes) -> None:
    """The file appears whole or not at all, and the first of several writers wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        for directory in (path.parent.parent, path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    except OSError as error:
        raise Unavailable(f"{path}: cannot write it: {(error.strerror or str(error)).lower()}") from error
