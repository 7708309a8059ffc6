"""Who comes with an SSH key or certificate: the two proofs of identity that are no tokens.

A certificate is ours alone (`hopgate token ssh-cert`): its critical option `claims@hopgate` says for whom it speaks, so no other sshd that
should trust the same key lets anybody in with one. Its principals are connections, `*` all of them. A registered key is as good as the
configuration that names it. Whoever holds the private key is proved elsewhere (`relays.ssh.userauth`), by a signature over the session.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateBuilder, SSHCertificateType, load_ssh_public_key

from hopgate.addresses import contains
from hopgate.claims import check_peer, principal_of
from hopgate.config import LOCAL_ISSUER, Config, IssuerConfig
from hopgate.errors import Expired, Misconfigured, Unauthenticated
from hopgate.ssh_certificates import read_certificate
from hopgate.ssh_host_keys import parse_public_key
from hopgate.ssh_keys import public_blob, user_ca, user_ca_stamp
from hopgate.tokens import PEER_CLAIM, parse_peer
from rules.model import Principal

if TYPE_CHECKING:
    from hopgate.identity import Revocations

MAX_TTL: Final = 86400.0  # seconds that a certificate may live
EVERY_CONNECTION: Final = "*"
CLAIMS_OPTION: Final = b"claims@hopgate"
PERMITS: Final = {  # extensions of PROTOCOL.certkeys, by what `--permit` calls them
    "pty": b"permit-pty",
    "port-forwarding": b"permit-port-forwarding",
    "agent-forwarding": b"permit-agent-forwarding",
    "x11-forwarding": b"permit-X11-forwarding",
}
DEFAULT_PERMITS: Final = ("pty", "port-forwarding")
_OPTIONS: Final = frozenset({CLAIMS_OPTION, b"source-address", b"force-command"})
_RESERVED: Final = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "ssh_serial", PEER_CLAIM})


@dataclass(frozen=True, slots=True)
class Certified:
    """Whom a certificate speaks for, until when (seconds since the epoch), and what it permits at most."""

    principal: Principal
    expires_at: float
    permits: frozenset[str]  # of PERMITS
    force_command: bytes | None


class SshIdentity:
    """Keys and certificates to principals. Reads the authority's public half when its file changes."""

    def __init__(self, config: Config, revocations: Revocations, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._revocations = revocations
        self._clock = clock
        self._keys = {parse_public_key(each.key).blob: each for each in config.identity.ssh_keys}
        self._authority: tuple[Any, bytes] = (None, b"")

    @property
    def accepts(self) -> bool:
        """Whether any key or certificate could be accepted at all."""
        return bool(self._keys) or self._config.identity.local is not None

    def keyholder(self, blob: bytes, *, connection: str, peer: str) -> Principal:
        """Whose registered key this is. Raises Unauthenticated, Unavailable."""
        found = self._keys.get(blob)
        if found is None or (found.connections and connection not in found.connections):
            raise Unauthenticated("the key is not registered for this connection")
        name = fingerprint(blob)
        bound = None if found.peer is None else str(found.peer)
        principal = Principal(
            issuer=found.issuer or (self._config.identity.local or self._config.identity.issuers[0]).name,
            subject=found.subject,
            groups=frozenset(found.groups),
            claims={"sub": found.subject, "groups": list(found.groups), "jti": name},
            expires_at=math.inf,
            token_id=hashlib.sha256(blob).hexdigest(),
            peer=bound,
        )
        self._check(principal, peer, name)
        return principal

    def certified(self, blob: bytes, *, connection: str, peer: str) -> Certified:
        """Whom this certificate speaks for. Raises Unauthenticated, Expired, Unavailable: no text quotes it."""
        issuer = self._config.identity.local
        try:
            certificate, authority = read_certificate(blob)
        except ValueError as error:
            raise Unauthenticated(str(error)) from None
        if issuer is None or not authority or authority != self._our_authority():
            raise Unauthenticated("the certificate is signed by another authority than this gateway's")
        if certificate.type is not SSHCertificateType.USER:
            raise Unauthenticated("the certificate is for hosts, not for users")
        self._check_validity(certificate)
        if not {connection.encode(), EVERY_CONNECTION.encode()} & set(certificate.valid_principals):
            raise Unauthenticated("the certificate is for other connections")
        options = certificate.critical_options
        if unknown := options.keys() - _OPTIONS:
            shown = "".join(each if each.isprintable() else "?" for each in sorted(unknown)[0].decode("utf-8", "replace"))[:64]
            raise Unauthenticated(f"the certificate has a critical option that is not known here: {shown}")
        principal = self._principal(certificate, blob, issuer, _source(options, peer))
        self._check(principal, peer, str(principal.claims["jti"]), str(principal.claims["ssh_serial"]))
        permits = frozenset(name for name, extension in PERMITS.items() if extension in certificate.extensions)
        return Certified(principal, float(certificate.valid_before), permits, options.get(b"force-command"))

    # --- inside

    def _check(self, principal: Principal, peer: str, *names: str) -> None:
        if self._revocations.is_revoked(principal.token_id, *names):
            raise Unauthenticated("the key or certificate was revoked")
        check_peer(principal.peer, peer)

    def _check_validity(self, certificate: SSHCertificate) -> None:
        # to the second: unlike a token's, its times are of our own clock
        now = self._clock()
        if now < certificate.valid_after:
            raise Unauthenticated("the certificate is not valid yet")
        if now >= certificate.valid_before:
            raise Expired("the certificate has expired: get a new one")

    def _our_authority(self) -> bytes:
        stamp = user_ca_stamp(self._config.state)
        if stamp is None:
            return b""
        if self._authority[0] != stamp:
            self._authority = (stamp, public_blob(user_ca(self._config.state, create=False)))
        return self._authority[1]

    @staticmethod
    def _principal(certificate: SSHCertificate, blob: bytes, issuer: IssuerConfig, source: str | None) -> Principal:
        try:
            told = orjson.loads(certificate.critical_options.get(CLAIMS_OPTION, b""))
            key_id = certificate.key_id.decode()
        except ValueError:
            told, key_id = None, ""
        if not isinstance(told, dict) or not key_id:
            raise Unauthenticated("the certificate does not say for whom it speaks: have one made by `hopgate token ssh-cert`")
        claims = {
            **told,
            "iss": LOCAL_ISSUER,
            "exp": certificate.valid_before,
            "nbf": certificate.valid_after,
            "jti": key_id,
            "ssh_serial": f"ssh-serial:{certificate.serial}",
            PEER_CLAIM: source,
        }
        return principal_of(claims, issuer, token_id=hashlib.sha256(blob).hexdigest(), expires_at=float(certificate.valid_before))


def _source(options: Mapping[bytes, bytes], peer: str) -> str | None:
    """The network of `source-address` that the peer is in; None without the option. Raises Unauthenticated."""
    text = options.get(b"source-address")
    if text is None:
        return None
    try:
        networks = [ipaddress.ip_network(each) for each in text.decode("ascii").split(",")]
    except ValueError:
        raise Unauthenticated("the certificate's source-address cannot be read") from None
    for network in networks:
        if contains((network,), peer):
            return str(network)
    raise Unauthenticated("the certificate is not for the address that you come from")


def issue_certificate(
    config: Config,
    public_key: str,
    subject: str,
    groups: Iterable[str],
    ttl: float,
    *,
    connections: Iterable[str] = (),
    permits: Iterable[str] = DEFAULT_PERMITS,
    peer: str | None = None,
    force_command: str = "",
    claims: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> tuple[str, SSHCertificate]:
    """A certificate for the key of `subject`, as the line of a `-cert.pub` file; good for `ttl` seconds from now.

    Raises Misconfigured: no local issuer, a time to live that is not within a day, an unknown permit or connection, a key or peer that is
    none, a reserved claim.
    """
    issuer = config.identity.local
    if issuer is None:
        raise Misconfigured(f"{config.path}: identity.issuers: no issuer is local: add {{name: local, local: true}} to issue certificates")
    if not subject or not subject.isprintable() or len(subject) > 255:
        raise Misconfigured("the subject must be printable text of at most 255 characters")
    if not 0 < ttl <= MAX_TTL:
        raise Misconfigured("a certificate's time to live must be more than nothing and at most 1d")
    told = dict(claims or {})
    if reserved := sorted((_RESERVED | {issuer.groups_claim}) & told.keys()):
        raise Misconfigured(f"the claim {reserved[0]} is set by the gateway itself")
    told = {**told, "sub": subject, issuer.groups_claim: list(groups)}
    start = int(time.time() if now is None else now)
    builder = (
        SSHCertificateBuilder()
        .public_key(_loaded(public_key))
        .type(SSHCertificateType.USER)
        .serial(secrets.randbits(63))
        .key_id(secrets.token_urlsafe(16).encode())
        .valid_principals(_principals(config, tuple(connections)))
        .valid_after(start)
        .valid_before(start + max(1, int(ttl)))
        .add_critical_option(CLAIMS_OPTION, orjson.dumps(told))
    )
    if peer is not None:
        builder = builder.add_critical_option(b"source-address", parse_peer(peer).encode())
    if force_command:
        builder = builder.add_critical_option(b"force-command", force_command.encode())
    for permit in dict.fromkeys(permits):
        if permit not in PERMITS:
            raise Misconfigured(f"nothing is called {permit!r} that could be permitted: {', '.join(PERMITS)}")
        builder = builder.add_extension(PERMITS[permit], b"")
    certificate = builder.sign(user_ca(config.state))
    return certificate.public_bytes().decode(), certificate


def _loaded(public_key: str) -> Any:
    try:
        key = parse_public_key(public_key)
    except ValueError as error:
        raise Misconfigured(f"the public key {error}") from None
    try:
        return load_ssh_public_key(f"{key.kind} {base64.b64encode(key.blob).decode()}".encode())
    except ValueError:
        raise Misconfigured("the public key cannot be read") from None


def _principals(config: Config, connections: tuple[str, ...]) -> list[bytes]:
    for name in connections:
        found = config.connection(name)
        if found is None or found.kind != "ssh":
            raise Misconfigured(f"{config.path}: there is no connection {name!r} of kind ssh")
    return [name.encode() for name in connections or (EVERY_CONNECTION,)]


def fingerprint(blob: bytes) -> str:
    """`SHA256:…` as ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
