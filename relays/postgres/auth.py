"""Proving who one is in PostgreSQL's ways: the client to us (SCRAM against the verifier of a token), and we to the target. No I/O.

SCRAM-SHA-256 and its -PLUS are RFC 5802 and RFC 7677, as PostgreSQL speaks them (documentation, section 54.3). The client's half is
scramp's. The server's half is here: libpq sends an empty user name, which scramp refuses.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

import scramp
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from relays.postgres import codec
from relays.wire import RemoteProtocolError

MECHANISM: Final = "SCRAM-SHA-256"
_PLUS: Final = "SCRAM-SHA-256-PLUS"
_BINDS: Final = b"p=tls-server-end-point"
_NONCE: Final = frozenset(range(0x21, 0x7F)) - {ord(",")}
_MAX_NONCE: Final = 512
_MAX_ITERATIONS: Final = 1_000_000  # a target that asks for more keeps a thread busy for a second and longer


class AuthFailed(Exception):
    """The proof is wrong, or of a kind that is not accepted. The message quotes nothing that was sent."""


# --- the client, to us


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """What is kept of a token: enough to check a proof, not enough to make one."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, verifier: str) -> TokenVerifier:
        """`SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`. Raises ValueError."""
        scheme, _, rest = verifier.partition("$")
        parameters, _, keys = rest.partition("$")
        iterations, _, salt = parameters.partition(":")
        stored, _, server = keys.partition(":")
        decoded = [base64.b64decode(each, validate=True) for each in (salt, stored, server)]
        if scheme != MECHANISM or not decoded[0] or len(decoded[1]) != 32 or len(decoded[2]) != 32:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        return cls(int(iterations), *decoded)

    @classmethod
    def mock(cls, name: str, key: bytes) -> TokenVerifier:
        """For a token that there is not: the same salt each time, so that nobody can tell, and keys that no proof fits."""
        salt = hmac.digest(key, name.encode(), "sha256")[:16]
        return cls(4096, salt, secrets.token_bytes(32), secrets.token_bytes(32))


class ScramServer:
    """One SCRAM exchange with a client: `first`, then `final`. Raises AuthFailed.

    `end_point` is the channel's tls-server-end-point (RFC 5929); with it SCRAM-SHA-256-PLUS is offered too, and without TLS there is none.
    """

    def __init__(self, verifier: TokenVerifier, nonce: str = "", end_point: bytes = b"") -> None:
        self._verifier = verifier
        self._end_point = end_point
        self.mechanisms: Final = (_PLUS, MECHANISM) if end_point else (MECHANISM,)
        self._nonce = (nonce or base64.b64encode(secrets.token_bytes(18)).decode()).encode()
        self._binding = b""
        self._first = b""

    def first(self, message: bytes, mechanism: str = MECHANISM) -> bytes:
        """The server's first message for the client's first one."""
        if mechanism not in self.mechanisms:
            raise AuthFailed("the login must be by SCRAM-SHA-256")
        flag, _, rest = message.partition(b",")
        authzid, _, bare = rest.partition(b",")
        binds = mechanism == _PLUS
        if flag == b"y" and self._end_point:
            # the client could bind to the channel and was made to believe that we cannot (RFC 5802, section 6)
            raise AuthFailed("the offer of a channel binding did not reach the client")
        if flag not in ((_BINDS,) if binds else (b"n", b"y")) or authzid:
            raise AuthFailed("the login asks for a channel binding or an authorization identity that there is not")
        attributes = bare.split(b",")
        if len(attributes) != 2 or not attributes[0].startswith(b"n=") or not attributes[1].startswith(b"r="):
            raise AuthFailed("the login's first message is malformed")
        nonce = attributes[1][2:]
        if not 8 <= len(nonce) <= _MAX_NONCE or not _NONCE.issuperset(nonce):
            raise AuthFailed("the login's first message has an invalid nonce")
        self._nonce = nonce + self._nonce
        self._binding = base64.b64encode(flag + b",," + (self._end_point if binds else b""))
        verifier = self._verifier
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, base64.b64encode(verifier.salt), verifier.iterations)
        self._first = bare + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes:
        """The server's final message, for a client's final one that proves the token."""
        without, separator, proof = message.rpartition(b",p=")
        if not separator or without != b"c=%b,r=%b" % (self._binding, self._nonce):
            raise AuthFailed("the login's final message does not fit its first")
        try:
            signature = base64.b64decode(proof, validate=True)
        except (ValueError, binascii.Error):
            raise AuthFailed("the login's proof is malformed") from None
        transcript = self._first + b"," + without
        key = hmac.digest(self._verifier.stored_key, transcript, "sha256")
        if len(signature) != len(key):
            raise AuthFailed("the login's proof is malformed")
        client_key = bytes(a ^ b for a, b in zip(signature, key, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key):
            raise AuthFailed("the token is wrong")
        return b"v=" + base64.b64encode(hmac.digest(self._verifier.server_key, transcript, "sha256"))


# --- we, to the target


class TargetLogin:
    """Our login at a target. `answer` gives what to send for each Authentication message, and may take long: SCRAM is slow by design.

    With TLS, `certificate` is the target's (DER), and SCRAM is bound to it where the target offers that.
    """

    def __init__(self, username: str, password: str, *, encrypted: bool, certificate: bytes = b"") -> None:
        self._username = username
        self._password = password
        self._encrypted = encrypted
        self._certificate = certificate
        self._client: scramp.ScramClient | None = None
        self._proved = True  # no SCRAM exchange is open
        self.done = False

    def answer(self, asked: codec.Authentication) -> bytes:
        """A message for the target, b"" when there is nothing to say. Raises AuthFailed, RemoteProtocolError."""
        if asked.code == codec.AUTH_OK:
            if not self._proved:
                raise AuthFailed("the target has not proved that it knows the password")
            self.done = True
            return b""
        if self.done:
            raise RemoteProtocolError("the target asks for a login that is over")
        if not self._password:
            raise AuthFailed("the target wants a password, and the connection has none")
        if asked.code == codec.AUTH_CLEARTEXT:
            if not self._encrypted:
                raise AuthFailed("the target wants the password in clear without TLS")
            return codec.Password(self._password.encode()).build()
        if asked.code == codec.AUTH_MD5:
            return self._md5(asked.data)
        try:
            return self._scram(asked)
        except scramp.ScramException as error:
            # its text may quote what the target sent
            raise AuthFailed("the target's SCRAM login failed") from error

    def _md5(self, salt: bytes) -> bytes:
        """'md5' || md5(md5(password || user) || salt), section 54.2.1."""
        if len(salt) != 4:
            raise RemoteProtocolError("the target's salt has an invalid length")
        inner = hashlib.md5(self._password.encode() + self._username.encode(), usedforsecurity=False).hexdigest()
        outer = hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()
        return codec.Password(b"md5" + outer.encode()).build()

    def _scram(self, asked: codec.Authentication) -> bytes:
        if asked.code == codec.AUTH_SASL and self._client is None:
            return self._begin([each.decode("ascii", "replace") for each in asked.mechanisms])
        if self._client is not None and asked.code == codec.AUTH_SASL_CONTINUE:
            _check_iterations(asked.data)
            self._client.set_server_first(_ascii(asked.data))
            return codec.SASLResponse(self._client.get_client_final().encode()).build()
        if self._client is not None and asked.code == codec.AUTH_SASL_FINAL:
            self._client.set_server_final(_ascii(asked.data))
            self._proved = True
            return b""
        raise AuthFailed("the target wants a kind of login that this gateway does not speak")

    def _begin(self, offered: list[str]) -> bytes:
        binding = end_point(self._certificate) if self._certificate and _PLUS in offered else b""
        if not binding and MECHANISM not in offered:
            raise AuthFailed("the target offers no SCRAM-SHA-256 login")
        if binding:
            self._client = scramp.ScramClient([_PLUS], "*", self._password, channel_binding=("tls-server-end-point", binding))
        else:
            self._client = scramp.ScramClient([MECHANISM], "*", self._password)
        self._proved = False
        first = self._client.get_client_first().encode()
        return codec.SASLInitialResponse(self._client.mechanism_name.encode(), first).build()


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise RemoteProtocolError("the target's SASL message is not text") from None


def _check_iterations(first: bytes) -> None:
    count = first.rpartition(b",i=")[2].partition(b",")[0]
    if not count.isdigit() or len(count) > 8 or int(count) > _MAX_ITERATIONS:
        raise AuthFailed("the target asks for too many SCRAM iterations")


def end_point(certificate: bytes) -> bytes:
    """The tls-server-end-point binding of a certificate (RFC 5929 section 4.1); b"" where its signature names no hash, as in Ed25519."""
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return b""
    if algorithm is None:
        return b""
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name.replace("-", "")
    return hashlib.new(name, certificate).digest() if name in hashlib.algorithms_available else b""
