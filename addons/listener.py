"""The listener's own security: who may connect in clear text, TLS to the proxy itself, and which tokens may cross a network in the open."""

from __future__ import annotations

import functools
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import connection
from mitmproxy.net import tls as net_tls
from mitmproxy.proxy import layer, layers
from mitmproxy.proxy.layers import modes
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from addons.fail_closed import Closed, fail_closed
from hopgate.addresses import contains

if TYPE_CHECKING:
    from addons.gate import Gate
    from rules.model import Principal

_CLEARTEXT_LIFETIME: Final = 3600.0  # seconds that a token may live which crosses a network in clear text
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Listener:
    """A peer off this machine needs TLS, or one of the networks that `cleartext` names and a token that is short and bound to it."""

    name = "hopgate_listener"

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._listener = gate.config.listen.http
        self._encrypted: set[str] = set()  # client connections that speak TLS to the proxy itself

    @fail_closed
    def client_connected(self, client: connection.Client) -> None:
        if not self._may_be_clear(client) and self.gate.config.tls is None:
            client.error = "refused: clear text is not allowed from this network"

    @fail_closed
    def client_disconnected(self, client: connection.Client) -> None:
        self._encrypted.discard(client.id)

    @fail_closed
    def next_layer(self, data: layer.NextLayer) -> None:
        """The proxy's own protocol from another machine must be inside TLS."""
        stack = data.context.layers
        outermost = len(stack) > 1 and isinstance(stack[0], modes.HttpProxy) and stack[1] is data.layer
        if outermost and isinstance(data.layer, layers.HttpLayer) and not self._may_be_clear(data.context.client):
            data.layer = Closed(data.context)

    @fail_closed
    def tls_start_client(self, data: TlsData) -> None:
        """TLS to the proxy itself shows the configured certificate; TLS inside a tunnel shows one of our own authority."""
        if _in_tunnel(data.context.layers):
            return
        self._encrypted.add(data.conn.id)
        if self.gate.config.tls is not None:
            data.ssl_conn = SSL.Connection(_context(str(self.gate.config.tls.cert), str(self.gate.config.tls.key)))
            data.ssl_conn.set_accept_state()

    def allows(self, client: connection.Client, principal: Principal) -> bool:
        """Whether this token may have come this way. The TLS inside a tunnel does not count: the CONNECT with the token went before it."""
        if is_loopback(client.peername[0]) or client.id in self._encrypted:
            return True
        issued = principal.claims.get("iat")
        born = float(issued) if isinstance(issued, int | float) else self.gate.services.sessions.clock()
        return principal.peer is not None and principal.expires_at - born <= _CLEARTEXT_LIFETIME

    def _may_be_clear(self, client: connection.Client) -> bool:
        peer = client.peername[0]
        return is_loopback(peer) or (self._listener is not None and self._listener.is_cleartext(peer))


def _in_tunnel(stack: list[layer.Layer]) -> bool:
    """Whether the innermost TLS is below the HTTP layer that took a CONNECT. That of the proxy itself stands above it."""
    starting = max((place for place, found in enumerate(stack) if isinstance(found, layers.ClientTLSLayer)), default=len(stack))
    return any(isinstance(found, layers.HttpLayer) for found in stack[:starting])


@functools.lru_cache(1024)
def is_loopback(peer: str) -> bool:
    return contains(_LOOPBACK, peer)


@functools.lru_cache(4)
def _context(cert: str, key: str) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(net_tls.DEFAULT_OPTIONS)
    context.use_certificate_chain_file(cert)
    context.use_privatekey_file(key)
    # CONNECT over HTTP/2 is not spoken
    context.set_alpn_select_callback(_only_http1)
    return context


def _only_http1(_: Any, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
