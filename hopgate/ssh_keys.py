"""The gateway's own SSH keys: one host key, and the authority that signs short-lived user certificates."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hopgate.addresses import Address
from hopgate.key_files import ed25519_key

HOST_KEY: Final = "ssh_host_ed25519.pem"
USER_CA: Final = "ssh_user_ca.pem"
_SSH_PORT: Final = 22


def host_key(state: Path, *, create: bool = True) -> Ed25519PrivateKey:
    """What clients know the gateway by, made once. Raises Misconfigured."""
    return ed25519_key(state / "keys" / HOST_KEY, create=create)


def user_ca(state: Path, *, create: bool = True) -> Ed25519PrivateKey:
    """What signs user certificates, made once. Raises Misconfigured."""
    return ed25519_key(state / "keys" / USER_CA, create=create)


def user_ca_stamp(state: Path) -> tuple[int, int] | None:
    """Changes when the authority's file does; None while there is none."""
    try:
        found = (state / "keys" / USER_CA).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def public_blob(key: Ed25519PrivateKey) -> bytes:
    """The public half as it goes over the wire, RFC 8709 section 4."""
    return base64.b64decode(public_line(key).split()[1])


def public_line(key: Ed25519PrivateKey) -> str:
    """`ssh-ed25519 AAAA…`"""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def known_hosts_line(key: Ed25519PrivateKey, address: Address) -> str:
    """The line of known_hosts (sshd(8)) for the gateway at `address`."""
    host = address.host if address.port == _SSH_PORT else f"[{address.host}]:{address.port}"
    return f"{host} {public_line(key)}"
