"""Where a request goes: the authority names a connection, the connection names the target, and only an address that was checked is dialled.

A name is resolved here, once, and its address pinned as the request's host. mitmproxy dials what the request says, and a request that
says anything but a pinned address is refused in `server_connect`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mitmproxy.net import tls as net_tls
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from addons.fail_closed import fail_closed
from hopgate.addresses import parse_host, refused_target
from hopgate.config import Authorities
from hopgate.errors import Denied, Unavailable

if TYPE_CHECKING:
    from hopgate.config import ConnectionConfig

RESOLVED_FOR: Final = 30.0  # seconds that a resolved address is used for
_KNOWN: Final = 4096  # authorities remembered
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOSTFLAGS: Final = SSL._lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | getattr(SSL._lib, "X509_CHECK_FLAG_NEVER_CHECK_SUBJECT", 0)

type Resolve = Callable[[str, int], Awaitable[list[str]]]


class PinnedHost(str):
    """A checked IP address that stands in `request.host`, so that mitmproxy dials it and nothing else.

    Equal only to a pin of the same connection and TLS name: mitmproxy reuses an upstream connection when addresses are equal, and one
    connection's requests must never travel over another's, which may have been verified against another name or authority.
    """

    __slots__ = ("ca", "connection", "server_name")

    connection: str
    server_name: str
    ca: str | None

    def __new__(cls, address: str, *, connection: str, server_name: str, ca: str | None) -> PinnedHost:
        pin = super().__new__(cls, address)
        pin.connection, pin.server_name, pin.ca = connection, server_name, ca
        return pin

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PinnedHost)
            and str.__eq__(self, other)
            and (self.connection, self.server_name, self.ca) == (other.connection, other.server_name, other.ca)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.connection))


@dataclass(slots=True)
class Route:
    """How one authority reaches its target."""

    connection: ConnectionConfig
    authority: tuple[str, int]  # as the client must name it, normalised
    scheme: str
    host: str  # of the target: a name or an IP address
    port: int
    pins: list[PinnedHost] = field(default_factory=list)
    until: float = 0.0  # on the monotonic clock
    resolving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def host_header(self) -> bytes | None:
        """What to put in place of the client's Host; None leaves it."""
        wanted = self.connection.host_header
        literal = _ip(self.host) is not None
        if wanted == "client" or (wanted == "auto" and (literal or self.host == self.authority[0])):
            return None
        name = f"[{self.host}]" if ":" in self.host else self.host
        return (name if self.port == _DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}").encode()


class Destinations:
    """The table of authorities, and the guard on every dial."""

    name = "hopgate_destinations"

    def __init__(self, connections: Iterable[ConnectionConfig], resolve: Resolve | None = None) -> None:
        self._authorities = Authorities(connections)
        self._known: dict[tuple[str, int], Route | None] = {}
        self._resolve = resolve or _resolve

    def find(self, host: str, port: int) -> Route | None:
        """The route of an authority as a client wrote it, or None: no connection owns it. Raises ValueError for what is no host."""
        key = (host, port)
        if key in self._known:
            return self._known[key]
        route = self._route(normalised(host), port)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[key] = route
        return route

    def _route(self, host: str, port: int) -> Route | None:
        connection = self._authorities.find(host, port)
        if connection is None:
            return None
        return Route(connection, (host, port), connection.scheme, normalised(connection.address.host), connection.address.port)

    def pinned(self, route: Route) -> PinnedHost | None:
        """The address to dial, if it is already known."""
        return route.pins[0] if route.pins and time.monotonic() < route.until else None

    async def pin(self, route: Route) -> PinnedHost:
        """Resolve and check. Raises Denied for an address that may not be dialled, Unavailable when the name does not resolve."""
        async with route.resolving:
            if (known := self.pinned(route)) is not None:
                return known
            if reason := refused_target(route.host):
                raise Denied(f"the target of connection {route.connection.name} {reason}")
            literal = _ip(route.host)
            addresses = [str(literal)] if literal is not None else await self._look_up(route)
            checked = [check_address(address, route) for address in addresses]
            ca = str(route.connection.ca) if route.connection.ca is not None else None
            route.pins = [PinnedHost(address, connection=route.connection.name, server_name=route.host, ca=ca) for address in checked]
            route.until = time.monotonic() + RESOLVED_FOR
            return route.pins[0]

    async def _look_up(self, route: Route) -> list[str]:
        try:
            async with asyncio.timeout(10):
                addresses = await self._resolve(route.host, route.port)
        except (OSError, TimeoutError, UnicodeError):
            addresses = []
        if not addresses:
            raise Unavailable(f"the target of connection {route.connection.name} does not resolve")
        # an address family that the host lacks shows only when dialled; IPv4 is what internal targets have
        return sorted(addresses, key=lambda address: ":" in address)

    # --- hooks

    @fail_closed
    def server_connect(self, data: Any) -> None:
        server = data.server
        host = server.address[0] if server.address else None
        if not isinstance(host, PinnedHost) or server.via is not None or server.transport_protocol != "tcp":
            server.error = "refused: not an address that the gateway has checked"
            return
        server.sni = host.server_name

    @fail_closed
    def server_connect_error(self, data: Any) -> None:
        """Try the target's next address next time."""
        host = data.server.address[0] if data.server.address else None
        for route in self._known.values():
            if route is not None and host in route.pins and len(route.pins) > 1:
                route.pins.append(route.pins.pop(0))
                return

    @fail_closed
    def tls_start_server(self, data: TlsData) -> None:
        """Verify the target's certificate against its own name and its connection's authority, whatever mitmproxy's options say."""
        server: Any = data.conn
        host = server.address[0]
        if not isinstance(host, PinnedHost):
            data.ssl_conn = None
            return
        context = net_tls.create_proxy_server_context(
            method=net_tls.Method.TLS_CLIENT_METHOD,
            min_version=net_tls.Version.TLS1_2,
            max_version=net_tls.Version.UNBOUNDED,
            cipher_list=None,
            ecdh_curve=None,
            verify=net_tls.Verify.VERIFY_PEER,
            ca_path=None,
            ca_pemfile=host.ca,
            client_cert=None,
            legacy_server_connect=False,
        )
        data.ssl_conn = _verifying(context, host.server_name)
        if server.alpn_offers:
            data.ssl_conn.set_alpn_protos(list(server.alpn_offers))
        data.ssl_conn.set_connect_state()


def _verifying(context: SSL.Context, name: str) -> SSL.Connection:
    """A TLS client that accepts a certificate for `name` only. Names go into SNI, addresses may not (RFC 6066 section 3)."""
    ssl_conn = SSL.Connection(context)
    parameters = SSL._lib.SSL_get0_param(ssl_conn._ssl)  # type: ignore[attr-defined]
    SSL._lib.X509_VERIFY_PARAM_set_hostflags(parameters, _HOSTFLAGS)
    literal = _ip(name)
    if literal is not None:
        done = SSL._lib.X509_VERIFY_PARAM_set1_ip(parameters, literal.packed, len(literal.packed))
    else:
        host = name.encode("ascii")
        ssl_conn.set_tlsext_host_name(host)
        done = SSL._lib.X509_VERIFY_PARAM_set1_host(parameters, host, len(host))
    if done != 1:
        raise Unavailable("the target's name cannot be verified")
    return ssl_conn


def normalised(host: str) -> str:
    """A host as every part of the gateway compares it: lower case, no trailing dot, punycode, IPv4 dotted, IPv6 without brackets.

    Raises ValueError for what could mean another host to another reader: `2130706433`, `0x7f.1`, `127.1`, zone ids, escapes.
    """
    if "%" in host:
        raise ValueError("must not hold an escape or a zone")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")  # IDNA 2003 as resolvers in Python do; both forms meet the same table
        except UnicodeError:
            raise ValueError("is not a host name") from None
    found = parse_host(host)
    literal = _ip(found)
    if isinstance(literal, ipaddress.IPv6Address) and literal.ipv4_mapped is not None:
        return str(literal.ipv4_mapped)
    return found


def check_address(address: str, route: Route) -> str:
    """`address` if it may be dialled for `route`. Raises Denied."""
    name = route.connection.name
    literal = _ip(address.partition("%")[0])
    if literal is None or "%" in address:
        raise Denied(f"the target of connection {name} resolves to what is no address of one host")
    if reason := refused_target(address):
        raise Denied(f"the target of connection {name} {reason}")
    if isinstance(literal, ipaddress.IPv6Address):
        literal = literal.ipv4_mapped or literal.sixtofour or literal
    if literal.is_reserved or (isinstance(literal, ipaddress.IPv4Address) and literal in ipaddress.IPv4Network("0.0.0.0/8")):
        raise Denied(f"the target of connection {name} is in a reserved network")
    if literal.is_loopback and _ip(route.host) is None and route.host != "localhost" and not route.host.endswith(".localhost"):
        # whoever answers for the name would choose one of the gateway's own listeners
        raise Denied(f"the target of connection {name} resolves to this machine: write 127.0.0.1 as its target if that is meant")
    return str(literal)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
