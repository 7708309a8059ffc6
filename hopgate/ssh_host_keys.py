"""The keys that a target may show, as `host_key` of a connection names them: a line of known_hosts, with or without its host.

ssh-ed25519 AAAA…                      this key
build.internal ssh-ed25519 AAAA…       the same, as ssh-keyscan prints it
@cert-authority ssh-ed25519 AAAA…      any key that this authority has certified for the target's host name
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

CURVES: Final = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
KINDS: Final = ("ssh-ed25519", *CURVES, "ssh-rsa")
MIN_RSA_BITS: Final = 2048
_AUTHORITY: Final = "@cert-authority"
_EXPECTED: Final = (
    "must be `ssh-ed25519 AAAA…` or `@cert-authority ssh-ed25519 AAAA…`; ssh-keyscan prints the first (compare it with the host's own)"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key by its bytes."""

    kind: str  # `ssh-ed25519`, `ssh-rsa` …
    blob: bytes  # RFC 4253 section 6.6


@dataclass(frozen=True, slots=True)
class HostKey(PublicKey):
    """What a target is known by."""

    authority: bool = False  # not the host's own key, but of who certifies it


def parse_host_key(text: str) -> HostKey:
    """Raises ValueError with a sentence."""
    words = text.split()
    authority = words[:1] == [_AUTHORITY]
    words = words[authority:]
    if words and words[0].startswith("@"):
        raise ValueError(f"{words[0]} is not a mark that is known here: {_EXPECTED}")
    if len(words) > 2 and words[0] not in KINDS:
        words = words[1:]  # the host, of which a connection has only one
    try:
        key = parse_public_key(" ".join(words))
    except ValueError as error:
        raise ValueError(f"{error}: {_EXPECTED}") from None
    return HostKey(key.kind, key.blob, authority)


def parse_public_key(text: str) -> PublicKey:
    """`ssh-ed25519 AAAA… [comment]`. Raises ValueError: no such line, a kind that is not accepted, an RSA key below 2048 bits."""
    words = text.split()
    if len(words) < 2:
        raise ValueError("is not a public key")
    kind = words[0]
    if kind not in KINDS:
        raise ValueError(f"{kind} is not a kind of key that is accepted ({', '.join(KINDS)})")
    try:
        blob = base64.b64decode(words[1], validate=True)
        fields = _fields(blob)
    except (ValueError, binascii.Error):
        raise ValueError("is not a whole public key") from None
    sizes = {"ssh-ed25519": 2, "ssh-rsa": 3}
    if fields[0] != kind.encode() or len(fields) != sizes.get(kind, 3) or (kind == "ssh-ed25519" and len(fields[1]) != 32):
        raise ValueError("is not a whole public key")
    if kind == "ssh-rsa" and (bits := int.from_bytes(fields[2], "big").bit_length()) < MIN_RSA_BITS:
        raise ValueError(f"is an RSA key of {bits} bits, and less than {MIN_RSA_BITS} are not safe")
    return PublicKey(kind, blob)


def _fields(blob: bytes) -> list[bytes]:
    """The strings that a blob consists of. Raises ValueError."""
    found, at = [], 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        if end > len(blob) or at + 4 > len(blob):
            raise ValueError("cut")
        found.append(blob[at + 4 : end])
        at = end
    if not found:
        raise ValueError("empty")
    return found
