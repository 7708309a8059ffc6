"""A throw-away authority and a server certificate of it, for targets on loopback."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 7


class Authority:
    """A certificate authority whose key lives as long as the object. `pem` is its certificate."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("playground authority")
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        made = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(_usage(signs=True), True)
            .add_extension(self._identifier, False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)

    def certificate(self, *hosts: str, ended: bool = False) -> tuple[bytes, bytes]:
        """PEM of a server's certificate for these names and IP addresses (the first names the subject), and of its key.

        With `ended` it is no longer valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        # Python 3.13 checks strictly by RFC 5280: key identifiers and key usage must be there
        made = (
            _builder(_named(hosts[0]), self._name, key.public_key(), ended=ended)
            .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), False)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(_usage(signs=False), True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return made.public_bytes(Encoding.PEM), private


def loopback_certificate() -> tuple[bytes, bytes, bytes]:
    """PEM of an authority, and of a certificate for localhost and 127.0.0.1 with its key. The authority's key is forgotten."""
    authority = Authority()
    return authority.pem, *authority.certificate("localhost", "127.0.0.1")


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, ended: bool = False) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2 * _DAYS if ended else 0)
    begin, end = now - datetime.timedelta(minutes=5), now + datetime.timedelta(days=_DAYS)
    named = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return named.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    return x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **others)
