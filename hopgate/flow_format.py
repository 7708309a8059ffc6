"""Flows as bytes, in the flow file format of mitmproxy 12: what its FlowWriter writes, byte for byte, at a fraction of the cost.

A flow file is a row of tnetstrings, `<length>:<bytes><type>`, one dictionary for each flow. FlowWriter puts the items of a
dictionary last first; so does this module. mitmproxy itself is not imported: flows and connections are taken as the objects that
they are there.

Where FlowWriter would raise on a lone surrogate, or write what FlowReader cannot read, the character is written as an escape: one
odd host name must not make the rest of a recording unreadable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

VERSION: Final = 21  # FLOW_FORMAT_VERSION
CACHED_CONNECTIONS: Final = 2048
CACHED_FIELDS: Final = 4096

type Fields = Sequence[tuple[bytes, bytes]]
type Address = tuple[str, int]


class ShownRequest(NamedTuple):
    """What of a request may be seen in a recording, after masking. The rest (method, host, times) comes from the flow."""

    path: bytes  # with the query
    headers: Fields
    content: bytes | None
    trailers: Fields | None = None


class ShownResponse(NamedTuple):
    """What of a response may be seen in a recording, after masking."""

    headers: Fields
    content: bytes | None
    trailers: Fields | None = None


class ShownMessage(NamedTuple):
    """One WebSocket message as it may be seen, in the order of mitmproxy's WebSocketMessage state."""

    type: int  # opcode: 1 text, 2 binary
    from_client: bool
    content: bytes
    timestamp: float
    dropped: bool = False
    injected: bool = False


@dataclass(frozen=True, slots=True)
class TcpConnection:
    """The two ends of a relayed connection, for flows that mitmproxy has not seen itself. Times in seconds since the epoch."""

    client_id: str
    client: Address
    listener: Address
    server_id: str
    target: Address  # as configured, by name
    server: Address | None  # as dialled
    started: float
    connected: float | None = None
    ended: float | None = None


_NULL: Final = b"0:~"
_LISTS: Final = (list, tuple)
_connections: dict[str, tuple[dict[str, Any], bytes]] = {}
_fields: dict[tuple[bytes, bytes], bytes] = {}


def tnetstring(value: Any) -> bytes:
    """One value: None, bool, int, float, str, bytes, lists or tuples, and dictionaries of these. Raises ValueError for anything else."""
    if value is None:
        return _NULL
    if value is True:
        return b"4:true!"
    if value is False:
        return b"5:false!"
    if isinstance(value, str):
        raw = value.encode("utf-8", "backslashreplace")
        return b"%d:%b;" % (len(raw), raw)
    if isinstance(value, bytes):
        return b"%d:%b," % (len(value), value)
    if isinstance(value, int):
        return b"%d:%b#" % (len(raw := str(int(value)).encode()), raw)
    if isinstance(value, float):
        return b"%d:%b^" % (len(raw := repr(float(value)).encode()), raw)
    if isinstance(value, _LISTS):
        raw = b"".join(map(tnetstring, value))
        return b"%d:%b]" % (len(raw), raw)
    if isinstance(value, dict):
        raw = _items(value)
        return b"%d:%b}" % (len(raw), raw)
    raise ValueError(f"a flow file cannot hold a {type(value).__name__}")


def encode_http_flow(
    flow: Any,
    *,
    request: ShownRequest,
    response: ShownResponse | None,
    metadata: Mapping[str, Any],
    comment: str = "",
    marked: str = "",
    messages: Iterable[ShownMessage] = (),
) -> bytes:
    """One record for `flow`, a mitmproxy.http.HTTPFlow, which is read and never changed.

    Whatever may hold a secret comes from `request`, `response` and `messages`; without `response` the record has none. `metadata`
    holds values that tnetstring takes. The flow's own metadata, comment, mark and backup are not written.
    """
    error, websocket = flow.error, flow.websocket
    parts: list[bytes] = [b"", b"9:websocket;", _websocket(websocket, messages) if websocket else _NULL, b"8:response;"]
    if response is None or flow.response is None:
        parts.append(_NULL)
    else:
        _response(parts, flow.response.data, response)
    parts.append(b"7:request;")
    _request(parts, flow.request.data, request)
    parts += (
        b"6:backup;0:~17:timestamp_created;",
        tnetstring(flow.timestamp_created),
        b"7:comment;",
        tnetstring(comment),
        b"8:metadata;",
        tnetstring(dict(metadata)),
        b"6:marked;",
        tnetstring(marked),
        b"9:is_replay;",
        tnetstring(flow.is_replay),
        b"11:intercepted;5:false!11:server_conn;",
        _connection(flow.server_conn),
        b"11:client_conn;",
        _connection(flow.client_conn),
        b"5:error;",
        tnetstring({"msg": error.msg, "timestamp": float(error.timestamp)}) if error else _NULL,
        b"2:id;",
        tnetstring(flow.id),
        b"4:type;4:http;7:version;2:21#}",
    )
    parts[0] = b"%d:" % (sum(map(len, parts)) - 1)
    return b"".join(parts)


def encode_tcp_message(from_client: bool, content: bytes, at: float) -> bytes:
    """One message of a TCP flow: readable content after masking, and when, in seconds since the epoch."""
    return tnetstring([from_client, content, at])


def decode_tcp_messages(messages: bytes) -> Iterator[tuple[bool, bytes, float]]:
    """What `encode_tcp_message` was given for these messages, one after another."""
    at = 0
    while at < len(messages):
        colon = messages.index(b":", at)
        body = colon + 1
        at = body + int(messages[at:colon]) + 1
        from_client = messages.startswith(b"4:true!", body)
        body += len(b"4:true!" if from_client else b"5:false!")
        colon = messages.index(b":", body)
        end = colon + 1 + int(messages[body:colon])
        yield from_client, messages[colon + 1 : end], float(messages[messages.index(b":", end) + 1 : at - 2])


def encode_tcp_flow(
    connection: TcpConnection,
    messages: Iterable[bytes],
    *,
    flow_id: str,
    created: float,
    metadata: Mapping[str, Any],
    comment: str = "",
    marked: str = "",
    error: tuple[str, float] | None = None,
) -> bytes:
    """One record for a stretch of a relayed connection. `messages` are what `encode_tcp_message` gave."""
    said = b"".join(messages)
    behind = {
        "intercepted": False,
        "is_replay": None,
        "marked": marked,
        "metadata": dict(metadata),
        "comment": comment,
        "timestamp_created": created,
        "backup": None,
    }
    before = {"version": VERSION, "type": "tcp", "id": flow_id, "error": {"msg": error[0], "timestamp": error[1]} if error else None}
    # the last item of a dictionary is written first
    items = b"8:messages;%d:%b]%b%b%b" % (len(said), said, _items(behind), _tcp_ends(connection), _items(before))
    return b"%d:%b}" % (len(items), items)


@lru_cache(maxsize=1024)  # they are the same in every record of a session, and most of the work
def _tcp_ends(connection: TcpConnection) -> bytes:
    return _items({"client_conn": _tcp_client(connection), "server_conn": _tcp_server(connection)})


def _items(value: dict[str, Any]) -> bytes:
    return b"".join([tnetstring(part) for item in reversed(value.items()) for part in item])


def record_end(fd: int, offset: int, size: int) -> int | None:
    """Where the record that begins at `offset` of a file of `size` bytes ends, by its length prefix. None: no whole record begins there."""
    prefix, colon, _ = os.pread(fd, 13, offset).partition(b":")
    # no zeros in front: one record has one spelling
    if not colon or not prefix.isdigit() or (prefix[:1] == b"0" and prefix != b"0"):
        return None
    end = offset + len(prefix) + 1 + int(prefix) + 1
    if end > size or os.pread(fd, 1, end - 1) != b"}":
        return None
    return end


def _request(parts: list[bytes], data: Any, shown: ShownRequest) -> None:
    start = len(parts)
    parts += (
        b"",
        b"4:path;%d:%b,9:authority;%d:%b,6:scheme;%d:%b,6:method;%d:%b,4:port;"
        % (len(shown.path), shown.path, len(data.authority), data.authority, len(data.scheme), data.scheme, len(data.method), data.method),
        tnetstring(data.port),
        b"4:host;",
        tnetstring(data.host),
    )
    _message(parts, start, data, shown)


def _response(parts: list[bytes], data: Any, shown: ShownResponse) -> None:
    start = len(parts)
    parts += (b"", b"6:reason;%d:%b,11:status_code;" % (len(data.reason), data.reason), tnetstring(data.status_code))
    _message(parts, start, data, shown)


def _message(parts: list[bytes], start: int, data: Any, shown: ShownRequest | ShownResponse) -> None:
    """The half that requests and responses share. The body stays a part of its own, so that a big one is copied once."""
    content, trailers = shown.content, shown.trailers
    parts += (
        b"13:timestamp_end;",
        tnetstring(data.timestamp_end),
        b"15:timestamp_start;",
        tnetstring(data.timestamp_start),
        b"8:trailers;",
        _NULL if trailers is None else _header_fields(trailers),
    )
    if content is None:
        parts.append(b"7:content;0:~7:headers;")
    else:
        parts += (b"7:content;%d:" % len(content), content, b",7:headers;")
    parts += (_header_fields(shown.headers), b"12:http_version;", tnetstring(data.http_version), b"}")
    parts[start] = b"%d:" % (sum(map(len, parts[start:])) - 1)


def _header_fields(fields: Fields) -> bytes:
    known = _fields.get
    raw = b"".join([known(field) or _header_field(field) for field in fields])
    return b"%d:%b]" % (len(raw), raw)


def _header_field(field: tuple[bytes, bytes]) -> bytes:
    name, value = field
    raw = b"%d:%b,%d:%b," % (len(name), name, len(value), value)
    encoded = b"%d:%b]" % (len(raw), raw)
    if len(raw) < 256:
        if len(_fields) >= CACHED_FIELDS:
            _fields.clear()
        _fields[field] = encoded
    return encoded


def _websocket(websocket: Any, messages: Iterable[ShownMessage]) -> bytes:
    return tnetstring(
        {
            "messages": list(messages),
            "closed_by_client": websocket.closed_by_client,
            "close_code": websocket.close_code,
            "close_reason": websocket.close_reason,
            "timestamp_end": _float(websocket.timestamp_end),
        },
    )


def _connection(connection: Any) -> bytes:
    """A connection changes a few times in its life and is written with every flow: keep its bytes for as long as nothing has changed."""
    state = connection.__dict__
    known = _connections.get(connection.id)
    if known is not None and known[0] == state:
        return known[1]
    encoded = tnetstring(_client_state(connection) if "proxy_mode" in state else _server_state(connection))
    if known is None and len(_connections) >= CACHED_CONNECTIONS:
        del _connections[next(iter(_connections))]
    _connections[connection.id] = ({key: list(value) if isinstance(value, list) else value for key, value in state.items()}, encoded)
    return encoded


def _client_state(connection: Any) -> dict[str, Any]:
    state = _common_state(connection)
    state["mitmcert"] = connection.mitmcert.to_pem() if connection.mitmcert else None
    state["proxy_mode"] = connection.proxy_mode.full_spec
    return state


def _server_state(connection: Any) -> dict[str, Any]:
    state = _common_state(connection)
    state["address"] = _host_and_port(connection.address)
    state["timestamp_tcp_setup"] = _float(connection.timestamp_tcp_setup)
    via = connection.via
    state["via"] = (via[0], _host_and_port(via[1])) if via else None
    return state


def _common_state(connection: Any) -> dict[str, Any]:
    return {
        "peername": _host_and_port(connection.peername),
        "sockname": _host_and_port(connection.sockname),
        "id": connection.id,
        "transport_protocol": connection.transport_protocol,
        "error": connection.error,
        "tls": connection.tls,
        "certificate_list": [certificate.to_pem() for certificate in connection.certificate_list],
        "alpn": connection.alpn,
        "alpn_offers": list(connection.alpn_offers),
        "cipher": connection.cipher,
        "cipher_list": list(connection.cipher_list),
        "tls_version": connection.tls_version,
        "sni": connection.sni,
        "timestamp_start": _float(connection.timestamp_start),
        "timestamp_end": _float(connection.timestamp_end),
        "timestamp_tls_setup": _float(connection.timestamp_tls_setup),
    }


def _tcp_client(connection: TcpConnection) -> dict[str, Any]:
    ends = _tcp_common(connection.client, connection.listener, connection.client_id, connection)
    return {**ends, "mitmcert": None, "proxy_mode": "regular"}


def _tcp_server(connection: TcpConnection) -> dict[str, Any]:
    ends = _tcp_common(connection.server, None, connection.server_id, connection)
    return {**ends, "address": connection.target, "timestamp_tcp_setup": connection.connected, "via": None}


def _tcp_common(peername: Address | None, sockname: Address | None, identity: str, connection: TcpConnection) -> dict[str, Any]:
    return {
        "peername": peername,
        "sockname": sockname,
        "id": identity,
        "transport_protocol": "tcp",
        "error": None,
        "tls": False,
        "certificate_list": [],
        "alpn": None,
        "alpn_offers": [],
        "cipher": None,
        "cipher_list": [],
        "tls_version": None,
        "sni": None,
        "timestamp_start": connection.started,
        "timestamp_end": connection.ended,
        "timestamp_tls_setup": None,
    }


def _host_and_port(address: Sequence[Any] | None) -> tuple[Any, ...] | None:
    # an IPv6 peer has flow info and scope as well
    return None if address is None else (str(address[0]), *map(int, address[1:4]))


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
