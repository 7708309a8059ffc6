"""What we offer and accept, in order of preference: nothing with SHA-1, MD5, CBC, RC4, DSA or RSA below 2048 bits."""

from __future__ import annotations

import struct
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.conch.ssh._kex import getSupportedKeyExchanges
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.keys import Key

from relays.ssh.ciphers import CTR_KEYS, GCM_KEYS, MACS

HYBRID: Final = b"mlkem768x25519-sha256"  # post-quantum; OpenSSH from 9.9 on prefers it
KEX: Final = (
    *([HYBRID] if HYBRID in getSupportedKeyExchanges() else []),  # from version 48 of the library `cryptography` on
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
    b"ecdh-sha2-nistp256",
    b"ecdh-sha2-nistp384",
    b"ecdh-sha2-nistp521",
)
CIPHERS: Final = (*GCM_KEYS, *CTR_KEYS)
MAC_NAMES: Final = tuple(MACS)
COMPRESSIONS: Final = (b"none",)

# Terrapin (CVE-2023-48795): whoever shows one of these starts both sequence numbers again with each NEWKEYS, and ends the connection at
# any message that does not belong into the first key exchange. OpenSSH's PROTOCOL, section 1.9.
STRICT_CLIENT: Final = b"kex-strict-c-v00@openssh.com"
STRICT_SERVER: Final = b"kex-strict-s-v00@openssh.com"
EXT_INFO_CLIENT: Final = b"ext-info-c"  # RFC 8308 section 2.1
EXT_INFO_SERVER: Final = b"ext-info-s"

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 16384  # a signature by a longer one is an hour of somebody's CPU
CERTIFIED: Final = b"-cert-v01@openssh.com"
_RSA: Final = (b"rsa-sha2-512", b"rsa-sha2-256")
_PLAIN: Final = (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", *_RSA)
SIGNATURES: Final = (*_PLAIN, *(name + CERTIFIED for name in _PLAIN))  # of users' keys, and of hosts'


def key_format(algorithm: bytes) -> bytes:
    """What the blob of a key that signs with `algorithm` begins with: `ssh-rsa` for `rsa-sha2-512`."""
    certified = algorithm.endswith(CERTIFIED)
    plain = algorithm.removesuffix(CERTIFIED)
    return (b"ssh-rsa" if plain in _RSA else plain) + (CERTIFIED if certified else b"")


def signing_algorithms(key: Key, accepted: tuple[bytes, ...] | None = None) -> tuple[bytes, ...]:
    """Names under which `key` signs, the best first; of those that the other side `accepted` (server-sig-algs), if it said."""
    names: tuple[bytes, ...] = _RSA if key.type() == "RSA" else (key.sshType(),)
    if accepted is None:
        return names
    return tuple(name for name in names if name in accepted)


def load_public(blob: bytes) -> Key | None:
    """The key in a blob (no certificate), None for one that cannot be read, is of an unknown kind or too short."""
    try:
        key = Key._fromString_BLOB(blob)
        if key.blob() != blob:  # bytes behind the key: two names for one key
            return None
        size = key.size()
    except Exception:
        return None
    return key if key.sshType() in _formats() and (key.type() != "RSA" or MIN_RSA_BITS <= size <= MAX_RSA_BITS) else None


def load_cryptography(public: object) -> Key | None:
    """The same for a key object of the library `cryptography`."""
    try:
        return load_public(Key(public).blob())
    except Exception:
        return None


def verify(key: Key, algorithm: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` (RFC 4253 section 6.6) over `data` is `key`'s own by `algorithm`, not by a weaker one of the same key."""
    wanted = algorithm.removesuffix(CERTIFIED)
    try:
        kind, value, rest = getNS(signature, 2)
        if kind != wanted or rest or key_format(wanted) != key.sshType():
            return False
        if isinstance(key._keyObject, rsa.RSAPublicKey) and len(value) > key.size() // 8 + 1:
            return False
        return bool(key.verify(signature, data))
    except (ValueError, TypeError, struct.error, IndexError):
        return False


def _formats() -> frozenset[bytes]:
    return frozenset(map(key_format, _PLAIN))
