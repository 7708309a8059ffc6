"""The credential that the caller never had, put on a request that was allowed, and only on its way to the target it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_plus

from mitmproxy import http

from addons.exchange import Exchange, Fields
from hopgate.errors import Denied

if TYPE_CHECKING:
    from addons.destinations import PinnedHost

_CALLERS: Final = frozenset({b"authorization", b"cookie"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_CONDITIONAL: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range", b"if-match", b"if-unmodified-since"})
_WITHHELD: Final = frozenset(
    {
        b"expect",  # mitmproxy has answered it; a target that answers it once more would seem to send two responses
        b"http2-settings",
        b"proxy",  # CGI makes HTTP_PROXY of it, and the target's own requests would go where the caller says
        b"sec-websocket-extensions",  # a compressed message has no bound before it is unpacked
    }
)


def inject(flow: http.HTTPFlow, exchange: Exchange, pin: PinnedHost) -> None:
    """Point `flow` at the pinned address and give it the lease's headers. Nothing may fail after this that would let it pass half done.

    Raises Denied when lease and destination are not of the same connection, or the query can be read as naming the lease's parameter.
    """
    route, lease, session = exchange.route, exchange.lease, exchange.session
    assert route is not None
    assert session is not None
    assert exchange.connection is not None
    name = exchange.connection.name
    if pin.connection != name or session.connection.name != name or route.connection.name != name:
        raise Denied("the credential of one connection is not for another")
    request = flow.request
    masked = exchange.plan is None or not exchange.plan.empty
    fields = _rewritten(exchange, masked)
    if lease is not None:
        fields = (*fields, *((header.encode(), value.encode()) for header, value in lease.headers.items()))
        if lease.query:
            request.data.path = _with_query(request.data.path, lease.query)
    if request.data.content and not any(name.lower() in _FRAMING for name, _ in fields):
        # HTTP/2 needs none; without one an HTTP/1 target takes the body for its next request, which nobody judged
        fields = (*fields, (b"Content-Length", b"%d" % len(request.data.content)))
    request.headers.fields = fields
    request.data.scheme = route.scheme.encode()
    request.data.host = pin
    request.data.port = route.port
    if request.is_http2:
        header = route.host_header
        request.data.authority = header if header is not None else (request.data.authority or _host(exchange.client_fields))
    else:
        request.data.authority = b""


def _rewritten(exchange: Exchange, masked: bool) -> Fields:
    """The client's fields with what a masked response needs; without its own credentials where the connection has one to give."""
    lease, route = exchange.lease, exchange.route
    assert route is not None
    ours = _CALLERS | {_variable(name.encode()) for name in lease.headers} if lease is not None else frozenset()
    host = route.host_header
    kept: list[tuple[bytes, bytes]] = []
    encodings: list[bytes] = []
    for entry in exchange.client_fields:
        name = entry[0].lower()
        if name in _WITHHELD or (ours and _variable(name) in ours):
            continue
        if name == b"host":
            kept.append(entry if host is None else (entry[0], host))
        elif name == b"accept-encoding":
            encodings.append(entry[1])
        elif not (masked and name in _CONDITIONAL):
            kept.append(entry)
    kept.append((b"Accept-Encoding", _accepted(encodings) if masked else b", ".join(encodings) or b"identity"))
    return tuple(kept)


def _variable(name: bytes) -> bytes:
    """CGI and WSGI make one variable of `X_Api_Key` and `X-Api-Key`: the caller's must not stand beside ours under either."""
    return name.lower().replace(b"_", b"-")


def _accepted(encodings: list[bytes]) -> bytes:
    """gzip where the client takes it: what is masked must be decoded, and what is not changed goes on as it came."""
    for entry in b",".join(encodings).lower().split(b","):
        coding, _, weight = entry.partition(b";")
        if coding.strip() in (b"gzip", b"*") and weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"):
            return b"gzip, identity"
    return b"identity"


def _with_query(path: bytes, query: Mapping[str, str]) -> bytes:
    """`path` with the injected parameters, the caller's own of the same name removed."""
    base, _, rest = path.partition(b"?")
    kept = [part for part in rest.split(b"&") if part and _parameter(part) not in query]
    if any(_parameter(piece) in query for part in kept for piece in part.split(b";")[1:]):
        raise Denied("a parameter behind `;` has the name of the one that the gateway sends")
    added = [f"{quote(name, safe='')}={quote(value, safe='')}".encode() for name, value in query.items()]
    return base + b"?" + b"&".join([*kept, *added])


def _parameter(part: bytes) -> str:
    """The name in `name=value` as a target reads it, however it is escaped."""
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"))


def _host(fields: Fields) -> bytes:
    return next((value for name, value in fields if name.lower() == b"host"), b"")
