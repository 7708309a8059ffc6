"""TLS contexts: ours for clients, and those that targets are reached with."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hopgate.errors import Misconfigured, Unavailable
from relays.commands import TLS

if TYPE_CHECKING:
    from hopgate.config import ConnectionConfig
    from hopgate.config.model import TLSConfig


def server_context(config: TLSConfig, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """What clients are served with. Raises Misconfigured. The files are read again when they change: certificates are renewed."""
    try:
        stamp = (config.cert.stat().st_mtime_ns, config.key.stat().st_mtime_ns)
        return _server_context(config.cert, config.key, alpn, stamp)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise Misconfigured(f"tls: {config.cert} and {config.key} do not load: {type(error).__name__}") from None


class _ServerContext(ssl.SSLContext):
    """A context that remembers the certificate which it shows: a channel binds to it, and a connection does not tell."""

    certificate = b""  # DER


@functools.lru_cache(maxsize=8)
def _server_context(cert: Path, key: Path, alpn: tuple[str, ...], _stamp: tuple[int, int]) -> ssl.SSLContext:
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.certificate = x509.load_pem_x509_certificates(cert.read_bytes())[0].public_bytes(Encoding.DER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(connection: ConnectionConfig, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """What a target is reached with: `tls:` and `ca:` of its connection. Raises Unavailable when the `ca:` does not load."""
    if connection.tls == "disable":
        raise Unavailable(f"connection {connection.name}: tls is disabled, and the relay wants to speak it")
    try:
        stamp = 0 if connection.ca is None else connection.ca.stat().st_mtime_ns
        return _client_context(connection.tls, connection.ca, alpn, stamp)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(f"connection {connection.name}: its `ca` does not load: {type(error).__name__}") from None


@functools.lru_cache(maxsize=256)
def _client_context(policy: str, ca: Path | None, alpn: tuple[str, ...], _stamp: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if policy == "require":  # encrypted, to whoever answers: libpq's sslmode=require
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.check_hostname = policy == "verify-full"
        context.load_verify_locations(certifi.where() if ca is None else ca)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def described(spoken: ssl.SSLObject, *, server_side: bool) -> TLS:
    """What was agreed on."""
    certificate = getattr(spoken.context, "certificate", b"") if server_side else spoken.getpeercert(binary_form=True)
    return TLS(spoken.version() or "", spoken.selected_alpn_protocol() or "", certificate or b"")
