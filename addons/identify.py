"""Who is calling, and with which connection: the first gate of every request.

The token comes in Proxy-Authorization. On CONNECT it is kept for the client connection and verified again for each request inside; a
plain request carries its own, and one that does not is refused, whatever came before on the same connection.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from mitmproxy import connection, http
from mitmproxy.net.http import url

from addons import problems, token_endpoint
from addons.destinations import Destinations, Route, normalised
from addons.exchange import Exchange, begin, find, refuse
from addons.fail_closed import fail_closed
from addons.http1 import is_origin_form
from addons.listener import Listener
from addons.transports import close_client, kill
from hopgate.errors import HopgateError, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from addons.gate import Gate
    from rules.model import Principal

CHALLENGE: Final = {"Proxy-Authenticate": 'Basic realm="hopgate", charset="UTF-8"'}
_BEARER: Final = (b"Proxy-Authenticate", b'Bearer realm="hopgate"')
_UNANSWERED_BODY: Final = 1 << 20  # bytes of body that are read before a refusal is sent
_DROPPED: Final = frozenset({b"proxy-authorization", b"proxy-connection", b"proxy-authenticate"})
_CONNECTION: Final = frozenset({b"", b"close", b"keep-alive", b"upgrade", b"te", b"proxy-connection"})


@dataclass(slots=True)
class Tunnel:
    """What a CONNECT established for its client connection."""

    token: str
    route: Route
    sni_checked: bool = False


class Identify:
    """Token, authority and the shape of the request's head. Runs before any other gate of ours."""

    name = "hopgate_identify"

    def __init__(self, gate: Gate, destinations: Destinations, listener: Listener) -> None:
        self.gate = gate
        self.listener = listener
        self.destinations = destinations
        self._tunnels: dict[str, Tunnel] = {}
        self._hosts: dict[tuple[bytes, str, int], bool] = {}

    @fail_closed
    def client_disconnected(self, client: connection.Client) -> None:
        self._tunnels.pop(client.id, None)

    # --- requests

    @fail_closed
    def http_connect(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Identify the caller and the connection; the requests inside are judged one by one."""
        if (known := find(flow)) is not None and known.refused:
            return None
        exchange = begin(flow)
        if not self._ready(flow):
            return None
        tokens = [value for name, value in flow.request.headers.fields if name.lower() == b"proxy-authorization"]
        flow.request.headers.fields = tuple(field for field in flow.request.headers.fields if field[0].lower() not in _DROPPED)
        token = _only(tokens)
        if token is None:
            self._challenge(flow, "send a token in Proxy-Authorization")
            return None
        if flow.client_conn.id in self._tunnels:
            refuse(flow, problems.problem("bad-request", 400, "a tunnel inside a tunnel"), "nested tunnel")
            return None
        return self._open_tunnel(flow, exchange, token)

    async def _open_tunnel(self, flow: http.HTTPFlow, exchange: Exchange, token: str) -> None:
        await self._identify(flow, exchange, token)
        if exchange.refused:
            return
        if self._find_route(flow, exchange, flow.request.data.host, flow.request.data.port):
            assert exchange.route is not None
            self._tunnels[flow.client_conn.id] = Tunnel(token, exchange.route)
        else:
            self._note(flow, exchange)

    @fail_closed
    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        known = find(flow)
        if known is not None and known.refused:
            return None
        exchange = begin(flow)
        if not self._ready(flow):
            return None
        if flow.error is not None or flow.is_replay:
            # a malformed request, which mitmproxy answers itself; or one that no client sent
            refuse(flow, problems.failed(400), "malformed")
            return None
        tokens, hosts = self._read_head(flow, exchange)
        if exchange.refused:
            return None
        tunnel = self._tunnels.get(flow.client_conn.id)
        request = flow.request
        if tunnel is None:
            if is_origin_form(request):
                exchange.endpoint = token_endpoint.expects(flow)
                return None
            token = _only(tokens)
            if token is None:
                self._challenge(
                    flow, "send a token in Proxy-Authorization with every request" if not tokens else "one Proxy-Authorization, please"
                )
                return None
        else:
            token = tunnel.token
        try:
            principal = self.gate.services.identity.cached_principal(token, flow.client_conn.peername[0])
        except Unavailable:
            principal = None  # its view of revocations is out of date; the slow path asks again, and says so
        if principal is None or not self.listener.allows(flow.client_conn, principal):
            return self._identify_and_place(flow, exchange, token, tunnel, hosts)
        exchange.principal = principal
        if not self._place(flow, exchange, tunnel, hosts):
            self._note(flow, exchange)
        return None

    async def _identify_and_place(
        self, flow: http.HTTPFlow, exchange: Exchange, token: str, tunnel: Tunnel | None, hosts: list[bytes]
    ) -> None:
        await self._identify(flow, exchange, token)
        if not exchange.refused and not self._place(flow, exchange, tunnel, hosts):
            self._note(flow, exchange)

    def _note(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """A known caller who asked for what cannot be asked for has no session whose recording would tell of it."""
        principal, request = exchange.principal, flow.request
        assert principal is not None
        self.gate.services.ledger.append(
            "refused",
            issuer=principal.issuer,
            subject=principal.subject,
            peer=str(flow.client_conn.peername[0]),
            title=f"{request.method} {request.data.host}:{request.data.port}"[:512],
            message=exchange.refused,
        )

    def _place(self, flow: http.HTTPFlow, exchange: Exchange, tunnel: Tunnel | None, hosts: list[bytes]) -> bool:
        """Find the connection. Only for callers who are known: what is configured is nobody else's business."""
        if tunnel is None:
            if not self._find_route(flow, exchange, flow.request.data.host, flow.request.data.port):
                return False
        else:
            exchange.route, exchange.connection = tunnel.route, tunnel.route.connection
            if not self._inside(flow, tunnel):
                return False
        assert exchange.route is not None
        if not self._same_authority(flow, exchange.route, hosts):
            return False
        exchange.host, exchange.port = exchange.route.authority
        return True

    def _ready(self, flow: http.HTTPFlow) -> bool:
        # no exception here: what is logged as an error while starting makes mitmproxy exit
        if why := self.gate.shut:
            refuse(flow, problems.problem("unavailable", 503, why), "not ready")
        return not why

    def _read_head(self, flow: http.HTTPFlow, exchange: Exchange) -> tuple[list[bytes], list[bytes]]:
        """One walk over the header fields: what only the proxy may see is taken out, what two readers could read differently is refused."""
        request = flow.request
        tokens: list[bytes] = []
        hosts: list[bytes] = []
        upgrades: list[bytes] = []
        kept: list[tuple[bytes, bytes]] = []
        for entry in request.headers.fields:
            name, value = entry
            lower = name.lower()
            if b"\n" in value or b"\r" in value or b"\0" in value:
                _malformed(flow, "a header value continues on another line or holds a control character")
            if lower == b"proxy-authorization":
                tokens.append(value)
                continue
            if lower in _DROPPED:
                continue
            if lower == b"host":
                hosts.append(value)
            elif lower == b"upgrade":
                upgrades.append(value.strip().lower())
            elif lower == b"prefer":
                exchange.prefer.append(value)
            elif lower == b"connection" and not _CONNECTION.issuperset(token.strip() for token in value.lower().split(b",")):
                _malformed(flow, "Connection names a header that another proxy would remove")
            elif lower == b"te" and value.strip().lower() not in (b"", b"trailers"):
                _malformed(flow, "TE asks for a transfer coding that the gateway does not relay")
            elif lower == b"transfer-encoding" and value.strip().lower() != b"chunked":
                _malformed(flow, "only the transfer coding `chunked` is relayed")
            kept.append(entry)
        request.headers.fields = exchange.client_fields = tuple(kept)
        if upgrades:
            exchange.upgrade = upgrades[0] if len(upgrades) == 1 else b", ".join(upgrades)
            if exchange.upgrade != b"websocket":
                refuse(flow, problems.problem("denied", 403, "the only upgrade that can be judged is `websocket`"), "upgrade")
        return tokens, hosts

    def _find_route(self, flow: http.HTTPFlow, exchange: Exchange, host: str, port: int) -> bool:
        try:
            exchange.route = self.destinations.find(host, port)
        except ValueError as error:
            refuse(flow, problems.problem("bad-request", 400, f"the host of the request {error}"), "ambiguous host")
            return False
        if exchange.route is None:
            detail = f"no connection is configured for {host[:255]}:{port}"
            refuse(flow, problems.problem("unknown-destination", 403, detail), "unknown destination")
            return False
        exchange.connection = exchange.route.connection
        return True

    def _inside(self, flow: http.HTTPFlow, tunnel: Tunnel) -> bool:
        """Inside a tunnel the destination is the CONNECT authority, and the TLS name must be the same."""
        authority = flow.request.data.authority
        if authority and not flow.request.is_http2:
            # mitmproxy would relay an absolute-form target as it is, naming another host to the target
            _malformed(flow, "a request inside a tunnel names its path only")
            return False
        if not tunnel.sni_checked:
            sni = flow.client_conn.sni
            try:
                fits = sni is None or normalised(sni) == tunnel.route.authority[0]
            except ValueError:
                fits = False
            if not fits:
                _malformed(flow, "the TLS server name differs from the tunnel's host", 421)
                return False
            tunnel.sni_checked = True
        return True

    def _same_authority(self, flow: http.HTTPFlow, route: Route, hosts: list[bytes]) -> bool:
        """Exactly one Host (HTTP/2: `:authority`, and Host only if equal), naming the very destination."""
        named = list(hosts)
        if flow.request.is_http2:
            if flow.request.data.authority:
                named.append(flow.request.data.authority)
            fits = 1 <= len(named) <= 2
        else:
            fits = len(named) == 1
        if fits and all(self._names(name, route) for name in named):
            return True
        _malformed(flow, "there must be exactly one Host, and it must name the destination")
        return False

    def _names(self, host: bytes, route: Route) -> bool:
        key = (host, *route.authority)
        known = self._hosts.get(key)
        if known is None:
            if len(self._hosts) > 4096:
                self._hosts.clear()
            known = self._hosts[key] = _names(host, route)
        return known

    # --- the principal

    async def _identify(self, flow: http.HTTPFlow, exchange: Exchange, token: str) -> None:
        try:
            principal = await self._verify(token, str(flow.client_conn.peername[0]))
        except Unauthenticated as error:
            self._unauthenticated(flow, error.message)
            return
        except HopgateError as error:
            self._tunnels.pop(flow.client_conn.id, None)
            refuse(flow, problems.problem("unavailable", 503, error.message), "identity unavailable")
            return
        if self.listener.allows(flow.client_conn, principal):
            exchange.principal = principal
        else:
            self._unauthenticated(flow, "over clear text a token must live at most an hour and be bound to its peer")

    async def _verify(self, token: str, peer: str) -> Principal:
        services = self.gate.services
        try:
            return await services.identity.verify(token, peer=peer)
        except Unavailable:
            # its view of revocations may have aged while this process had no time to read the store
            await services.locks.refresh()
            return await services.identity.verify(token, peer=peer)

    def _unauthenticated(self, flow: http.HTTPFlow, detail: str) -> None:
        tunnel = self._tunnels.pop(flow.client_conn.id, None)
        if tunnel is not None and flow.request.method != "CONNECT":
            # nobody inside a tunnel can answer a challenge; the token was good once and is not any more
            refuse(flow, problems.problem("unauthenticated", 407, detail, close=True), "token no longer valid")
            kill(flow)
            close_client(flow.client_conn)
            return
        self._challenge(flow, detail)

    def _challenge(self, flow: http.HTTPFlow, detail: str) -> None:
        self.gate.services.metrics.unauthenticated()
        response = problems.problem("unauthenticated", 407, detail, headers=CHALLENGE)
        response.headers.fields = (*response.headers.fields, _BEARER)
        refuse(flow, response, "not authenticated")
        if _announced(flow) > _UNANSWERED_BODY:
            kill(flow)  # an unknown caller does not get to fill our memory


def _malformed(flow: http.HTTPFlow, detail: str, status: int = 400) -> None:
    refuse(flow, problems.problem("bad-request", status, detail), "malformed")


def _announced(flow: http.HTTPFlow) -> int:
    for name, value in flow.request.headers.fields:
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _only(values: list[bytes]) -> str | None:
    return parse_token(values[0]) if len(values) == 1 else None


@functools.lru_cache(1024)
def parse_token(value: bytes) -> str | None:
    """The token of a Proxy-Authorization value: `Bearer T`, or `Basic` with any user and T as the password. None for anything else."""
    scheme, _, rest = value.partition(b" ")
    rest = rest.strip()
    try:
        match scheme.lower():
            case b"bearer":
                token = rest.decode("ascii")
            case b"basic":
                user_pass = base64.b64decode(rest, validate=True).decode("utf-8")
                token = user_pass.partition(":")[2]
                if "%" in token:
                    token = unquote(token)  # some clients leave the escapes of HTTP_PROXY in place
            case _:
                return None
    except (ValueError, binascii.Error):
        return None
    return token if token and token.isascii() and token.isprintable() and " " not in token else None


def _names(host: bytes, route: Route) -> bool:
    try:
        text = host.decode("ascii")
        name, port = url.parse_authority(text, check=True)
        at = port if port is not None else (443 if route.authority[1] == 443 else 80)
        return (normalised(name), at) == route.authority
    except (ValueError, UnicodeDecodeError):
        return False
