"""OpenSSH certificates (PROTOCOL.certkeys): reading any, and the user certificates that this gateway signs for its own callers."""

from __future__ import annotations

import base64
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, SSHCertificate, load_ssh_public_identity

from hopgate.ssh_host_keys import MIN_RSA_BITS

MAX_CERTIFICATE: Final = 16 << 10  # bytes
_WEAK: Final = (b"ssh-rsa", b"ssh-dss")  # signatures with SHA-1


def read_certificate(blob: bytes) -> tuple[SSHCertificate, bytes]:
    """A certificate whose signature is right, and the blob of the key that made it: whether that is to be trusted is for the caller.

    Raises ValueError with a sentence.
    """
    try:
        if len(blob) > MAX_CERTIFICATE:
            raise ValueError("too long")
        size = int.from_bytes(blob[:4], "big")
        found = load_ssh_public_identity(blob[4 : 4 + size] + b" " + base64.b64encode(blob))
        if not isinstance(found, SSHCertificate):
            raise ValueError("a plain key")
        signer, held = found.signature_key(), found.public_key()
        if any(isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS for key in (signer, held)):
            raise ValueError("a short RSA key")
        # the last string is the signature, whose own first string says how it was made
        kind, _ = _string(_signature(blob))
        if kind in _WEAK:
            raise ValueError("signed with SHA-1")
        found.verify_cert_signature()
    except (ValueError, InvalidSignature, TypeError, IndexError, AssertionError, NotImplementedError):
        raise ValueError("the certificate cannot be read, or its signature is wrong or too weak") from None
    except Exception:
        # what the library raises for a kind that it does not know
        raise ValueError("the certificate is of a kind that is not accepted") from None
    authority = signer.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    return found, base64.b64decode(authority)


def _string(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("cut")
    return data[4 : 4 + size], data[4 + size :]


def _signature(blob: bytes) -> bytes:
    """The signature of a certificate's blob, behind all its other fields."""
    kind, rest = _string(blob)
    for _ in range(2 if b"ed25519" in kind else 3):  # nonce, and the key: one field, or curve and point, or exponent and modulus
        _, rest = _string(rest)
    rest = rest[12:]  # serial and type
    for _ in range(2):  # key id, principals
        _, rest = _string(rest)
    rest = rest[16:]  # validity
    for _ in range(4):  # critical options, extensions, reserved, signature key
        _, rest = _string(rest)
    signature, rest = _string(rest)
    if rest:
        raise ValueError("more behind it")
    return signature
