"""The end that goes to targets: a host key that is known beforehand, the stored credential, and nothing of the caller's."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import SSHCertificateType
from twisted.conch.ssh import _kex
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import SSHClientTransport

from hopgate.errors import Unavailable
from hopgate.ssh_certificates import read_certificate
from hopgate.ssh_host_keys import HostKey
from hopgate.ssh_identity import fingerprint
from relays.dial import dial
from relays.ssh import algorithms
from relays.ssh.negotiation import Agreed, KexInit
from relays.ssh.packets import KEX_INIT, KEX_REPLY, MAX_PACKET, SERVICE_ACCEPT, SERVICE_REQUEST
from relays.ssh.transport import Transport
from relays.ssh.upstream import UpstreamAuth
from relays.transport import LoopTransport
from relays.wire import RemoteProtocolError
from rules.masking import compile_plan

if TYPE_CHECKING:
    from hopgate.credentials import Lease
    from hopgate.sessions import Session
    from relays.outside import Outside

LOGIN_SECONDS: Final = 30.0  # for the target: from the dialling to its success
_MLKEM_PUBLIC, _MLKEM_CIPHERTEXT, _X25519 = 1184, 1088, 32  # bytes


class HostKeyRefused(Exception):
    """The target is not the one that the connection names. The text says how that shows."""


class ClientTransport(Transport, SSHClientTransport):  # type: ignore[misc]
    """One target. `ready` is done when it has let us in and `service` has begun, or fails with Unavailable."""

    side = "target"
    isClient = True

    def __init__(self, outside: Outside, session: Session, lease: Lease, service: SSHService) -> None:
        super().__init__(outside)
        self.session = session
        self.lease = lease
        self.connection_service = service
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self._shown = b""  # the host key of the first key exchange
        self._exchange_key: Any = None
        self._exchange_public = b""

    # --- life

    def lost(self) -> None:
        self.stopped()

    def stopped(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(self.unavailable(self.ended_because))

    def unavailable(self, reason: str) -> Unavailable:
        """For the client. What the target said in it cannot be the credential that it was shown."""
        shown = compile_plan((), secrets=self.lease.literals).text(reason.encode()).data.decode("utf-8", "replace")
        return Unavailable(f"connection {self.session.connection.name}: {shown}")

    # --- key exchange

    def offer(self) -> KexInit:
        kex = (*algorithms.KEX, algorithms.EXT_INFO_CLIENT, algorithms.STRICT_CLIENT)
        return KexInit.both(kex, host_key_algorithms(self.session.connection.host_keys), algorithms.CIPHERS)

    def agreement(self, agreed: Agreed) -> None:
        if agreed.kex == algorithms.HYBRID:
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

            quantum, classic = MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
            self._exchange_key = (quantum, classic)
            self._exchange_public = quantum.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw()
        else:
            self._exchange_key = self._generateECPrivateKey()
            self._exchange_public = self._encodeECPublicKey(self._exchange_key.public_key())
        self.send(KEX_INIT, NS(self._exchange_public))

    def exchange(self, number: int, payload: bytes) -> None:
        if number != KEX_REPLY:
            raise RemoteProtocolError("a message of another key exchange than the one agreed on")
        agreed = self.agreed
        assert agreed is not None
        blob, theirs, signature, _ = getNS(payload, 3)
        try:
            key = self._known(blob, agreed.host_key)
        except HostKeyRefused as error:
            self.end(str(error), _HOST_KEY_NOT_VERIFIABLE)
            return
        secret = self._shared_secret(agreed.kex, theirs)
        hashed = _kex.getHashProcessor(agreed.kex)()
        for part in (self.ourVersionString, self.otherVersionString, self.ourKexInitPayload, self.otherKexInitPayload, blob):
            hashed.update(NS(part))
        hashed.update(NS(self._exchange_public) + NS(theirs) + secret)
        digest = hashed.digest()
        if not algorithms.verify(key, agreed.host_key, signature, digest):
            raise RemoteProtocolError("the target has not proved its host key")
        self._keySetup(secret, digest)

    def _shared_secret(self, kex: bytes, theirs: bytes) -> bytes:
        if kex != algorithms.HYBRID:
            return bytes(self._generateECSharedSecret(self._exchange_key, theirs))
        if len(theirs) != _MLKEM_CIPHERTEXT + _X25519:
            raise RemoteProtocolError("a key exchange message of a wrong length")
        quantum, classic = self._exchange_key
        public = x25519.X25519PublicKey.from_public_bytes(theirs[_MLKEM_CIPHERTEXT:])
        both = quantum.decapsulate(theirs[:_MLKEM_CIPHERTEXT]) + classic.exchange(public)
        return NS(hashlib.sha256(both).digest())  # a string here, where others have an mpint

    def _known(self, blob: bytes, algorithm: bytes) -> Key:
        """The key in what the target shows. Raises HostKeyRefused."""
        if self._shown and blob != self._shown:
            raise HostKeyRefused("the target showed another host key in the middle of the connection")
        connection = self.session.connection
        key = check_host_key(blob, algorithm, connection.host_keys, connection.address.host, time.time())
        self._shown = blob
        return key

    def secured(self) -> None:
        self.send(SERVICE_REQUEST, NS(UpstreamAuth.name))

    # --- login

    def received(self, number: int, payload: bytes) -> None:
        if number != SERVICE_ACCEPT:
            super().received(number, payload)
            return
        if self.service is not None or self.ready.done():
            raise RemoteProtocolError("a service begins that was not asked for")
        self.setService(UpstreamAuth(self))

    def logged_in(self) -> None:
        """The target has let us in."""
        self.max_packet = MAX_PACKET
        self.setService(self.connection_service)
        if not self.ready.done():
            self.ready.set_result(None)

    def said_goodbye(self, code: int, message: str) -> None:
        if not self.ready.done():
            self.ended_because = f"the target ended the connection: {message}"[:300]


_HOST_KEY_NOT_VERIFIABLE: Final = 9  # RFC 4253 section 11.1


async def connect_upstream(outside: Outside, session: Session, service: SSHService) -> ClientTransport:
    """Dial the session's target, verify its host key, log in with the leased credential and start `service` (`ssh-connection`) on it.

    Raises Unavailable, and Misconfigured or Denied of the lease: one sentence each, and nothing stays open.
    """
    lease = await outside.services.credentials.lease(session.grant)
    session.literals = lease.literals
    transport = ClientTransport(outside, session, lease, service)
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            await dial(session, lambda: LoopTransport(transport, transport.loop))  # type: ignore[arg-type]
            await transport.ready
    except TimeoutError:
        raise transport.unavailable("the target did not finish the login in time") from None
    finally:
        if not transport.ready.done() or transport.ready.exception() is not None:
            _drop(transport)
    return transport


def _drop(transport: ClientTransport) -> None:
    if transport.transport is not None:
        transport.abort()
    transport.ready.cancel()


def host_key_algorithms(pins: tuple[HostKey, ...]) -> tuple[bytes, ...]:
    """Signature algorithms of the keys that the target may show, and no others: asked for another key, it would show a wrong one."""
    found: list[bytes] = []
    for name in algorithms.SIGNATURES:
        certified = name.endswith(algorithms.CERTIFIED)
        wanted = algorithms.key_format(name).decode()
        if any(pin.authority if certified else not pin.authority and pin.kind == wanted for pin in pins):
            found.append(name)
    return tuple(found)


def check_host_key(blob: bytes, algorithm: bytes, pins: tuple[HostKey, ...], host: str, now: float) -> Key:
    """The key with which the target must have signed. Raises HostKeyRefused: it is none of `pins`, nor certified by one of them."""
    if not algorithm.endswith(algorithms.CERTIFIED):
        if not any(not pin.authority and pin.blob == blob for pin in pins):
            raise HostKeyRefused(f"the target's host key is not the one that host_key names: it shows {fingerprint(blob)}")
        key = algorithms.load_public(blob)
    else:
        try:
            certificate, authority = read_certificate(blob)
        except ValueError as error:
            raise HostKeyRefused(f"the target's host key: {error}") from None
        if not any(pin.authority and pin.blob == authority for pin in pins):
            raise HostKeyRefused(f"the target's host certificate is signed by another authority: {fingerprint(authority)}")
        if certificate.type is not SSHCertificateType.HOST or certificate.critical_options:
            raise HostKeyRefused("the target's certificate is not for hosts")
        if not certificate.valid_after <= now < certificate.valid_before:
            raise HostKeyRefused("the target's host certificate is not valid now")
        if host.encode() not in certificate.valid_principals:
            raise HostKeyRefused(f"the target's host certificate is not for {host}")
        key = algorithms.load_cryptography(certificate.public_key())
    if key is None or key.sshType() != algorithms.key_format(algorithm.removesuffix(algorithms.CERTIFIED)):
        raise HostKeyRefused("the target's host key is not of the kind that was agreed on")
    return key
