"""The certificate authority that signs what agents see of HTTPS targets, and the bundle that an agent's programs need.

The files are mitmproxy's (`mitmproxy-ca.pem` with key and certificate, `mitmproxy-ca-cert.pem`), made here once, so that several
processes starting on a fresh state directory do not each make one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from pathlib import Path
from typing import Final

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hopgate.errors import Misconfigured

KEY_FILE: Final = "mitmproxy-ca.pem"
CERTIFICATE_FILE: Final = "mitmproxy-ca-cert.pem"
BUNDLE_FILE: Final = "bundle.pem"
_YEARS: Final = 5
_KEY_BITS: Final = 3072


def certificate_path(state: Path) -> Path:
    return state / "ca" / CERTIFICATE_FILE


def bundle_path(state: Path) -> Path:
    return state / "ca" / BUNDLE_FILE


def create_ca(state: Path) -> bool:
    """Make the authority below `state` unless it is there; True when it was made. Raises Misconfigured for half of one."""
    directory = state / "ca"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (directory / KEY_FILE).exists():
        load_certificate(state)
        return False
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    certificate = _certificate(key)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    # the key comes last: whoever finds it finds a complete authority
    _write(certificate_path(state), certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(directory / KEY_FILE, secret, 0o600)
    return True


def load_certificate(state: Path) -> x509.Certificate:
    """Raises Misconfigured when there is none, or it is no certificate."""
    path = certificate_path(state)
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise Misconfigured(f"{path}: there is no certificate authority yet: run `hopgate ca create`, or `hopgate up` once") from None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path}: is not a certificate ({type(error).__name__}): restore it, or remove the directory") from None


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 as browsers and openssl show it: `AB:CD:…`."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def write_bundle(state: Path) -> Path:
    """Public authorities (certifi's) and ours in one file: SSL_CERT_FILE replaces a client's own list, it does not add to it."""
    ours = load_certificate(state).public_bytes(serialization.Encoding.PEM)
    wanted = Path(certifi.where()).read_bytes().rstrip() + b"\n\n# hopgate\n" + ours
    path = bundle_path(state)
    if not path.exists() or path.read_bytes() != wanted:
        _write(path, wanted, 0o644)
    return path


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hopgate"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "hopgate")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # two days back: agents' clocks are not always right
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, with `mode` from the first byte."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
