"""WebSockets through a live gateway: the client's messages are judged, the server's masked, control frames carry nothing across."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import wsproto
import wsproto.events
from mitmproxy.io import FlowReader

from tests.addons.conftest import RULES
from tests.addons.live import PASSWORD, SECRET, Client, Gateway
from tests.addons.origin import Connection, Origin

KEY = base64.b64encode(b"0123456789abcdef")
HANDSHAKE = (
    b"GET http://api.test/socket HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
)


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """One frame (RFC 6455 section 5.2)."""
    head = bytes([(0x80 if final else 0) | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class Server:
    """The target's side: echoes text through `say`, keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, object]] = []
        self.say: list[bytes] = []
        self.extensions = b""

    def __call__(self, connection: Connection) -> None:
        accept = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: hunter2-secret\r\n"
        head += b"Sec-WebSocket-Extensions: " + self.extensions + b"\r\n" if self.extensions else b""
        connection.sock.sendall(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + b"".join(self.say))
        protocol = wsproto.Connection(wsproto.ConnectionType.SERVER)
        while data := connection.read():
            protocol.receive_data(data)
            for event in protocol.events():
                if isinstance(event, wsproto.events.TextMessage | wsproto.events.BytesMessage):
                    self.got.append(("message", event.data))
                elif isinstance(event, wsproto.events.Ping):
                    self.got.append(("ping", bytes(event.payload)))
                elif isinstance(event, wsproto.events.CloseConnection):
                    self.got.append(("close", event.reason))


class Socket:
    """The client's side."""

    def __init__(self, gateway: Gateway) -> None:
        self.client: Client = gateway.connect(2)
        self.client.send(HANDSHAKE + gateway.credential + b"\r\n")
        self.protocol = wsproto.Connection(wsproto.ConnectionType.CLIENT)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.client.sock.recv(65536)
        self.head, _, rest = data.partition(b"\r\n\r\n")
        self.protocol.receive_data(rest)

    def send(self, opcode: int, payload: bytes, **more: bool) -> None:
        self.client.send(frame(opcode, payload, **more))

    def events(self, count: int = 1) -> list[object]:
        found: list[object] = []
        try:
            while len(found) < count:
                found += self.protocol.events()
                if len(found) < count:
                    data = self.client.sock.recv(65536)
                    if not data:
                        break
                    self.protocol.receive_data(data)
        except (TimeoutError, OSError):
            pass
        return found


@pytest.fixture
def server(gateway: Gateway, origin: Origin) -> Server:
    found = Server()
    origin.answers["/socket"] = found
    return found


@pytest.fixture
def socket(gateway: Gateway, server: Server) -> Iterator[Socket]:
    found = Socket(gateway)
    yield found
    found.client.sock.close()


def wait_for(server: Server, count: int) -> None:
    Gateway.eventually(lambda: len(server.got) >= count)


def test_the_handshake_is_judged_masked_and_uncompressed(socket: Socket, origin: Origin) -> None:
    assert socket.head.startswith(b"HTTP/1.1 101 ")
    assert PASSWORD not in socket.head
    assert b"permessage-deflate" not in origin.seen
    assert SECRET.encode() in origin.seen


def test_a_text_message_passes(socket: Socket, server: Server) -> None:
    socket.send(1, b'{"action":"list"}')
    wait_for(server, 1)
    assert server.got == [("message", '{"action":"list"}')]


def test_a_denied_message_is_dropped_and_the_socket_closed(socket: Socket, server: Server, origin: Origin) -> None:
    socket.send(1, b'{"action":"drop"}')
    (closed, *_) = socket.events()
    assert isinstance(closed, wsproto.events.CloseConnection)
    assert closed.code == 1008
    assert not any(kind == "message" for kind, _ in server.got)


def test_fragments_are_judged_as_one(socket: Socket, server: Server) -> None:
    socket.send(1, b'{"action":', final=False)
    socket.send(0, b'"drop"}')
    (closed, *_) = socket.events()
    assert isinstance(closed, wsproto.events.CloseConnection)
    assert not any(kind == "message" for kind, _ in server.got)


def test_after_a_denial_nothing_more_passes(socket: Socket, server: Server) -> None:
    socket.client.send(frame(1, b'{"action":"drop"}') + frame(1, b'{"action":"list"}'))
    socket.events()
    time.sleep(0.1)
    assert not any(kind == "message" for kind, _ in server.got)


def test_binary_where_masks_apply_is_refused(socket: Socket, server: Server) -> None:
    socket.send(2, b"\x00\x01")
    (closed, *_) = socket.events()
    assert isinstance(closed, wsproto.events.CloseConnection)
    assert not any(kind == "message" for kind, _ in server.got)


def test_a_message_over_the_bound_is_refused(socket: Socket, server: Server) -> None:
    try:
        for _ in range(5):
            socket.send(1, b"x" * 300_000, final=False)
    except OSError:
        pass
    events = socket.events()
    assert not events or isinstance(events[0], wsproto.events.CloseConnection)
    assert not any(kind == "message" for kind, _ in server.got)


def test_control_frames_carry_nothing_across(socket: Socket, server: Server) -> None:
    socket.send(9, b"smuggled")
    (pong, *_) = socket.events()
    assert isinstance(pong, wsproto.events.Pong)
    assert bytes(pong.payload) == b"smuggled"
    socket.send(8, struct.pack(">H", 1000) + b"smuggled")
    wait_for(server, 1)
    assert server.got[-1][0] == "close"
    assert not any("smuggled" in str(what) for _, what in server.got)


def test_what_the_server_says_is_masked(gateway: Gateway, server: Server) -> None:
    say = b'{"password":"hunter2-secret","key":"injected-credential-0123456789"}'
    server.say = [
        frame(9, b"hunter2-secret", masked=False),
        frame(1, say, masked=False),
        frame(8, struct.pack(">H", 1000) + PASSWORD, masked=False),
    ]
    socket = Socket(gateway)
    events = socket.events(2)
    assert isinstance(events[0], wsproto.events.TextMessage)
    assert events[0].data == '{"password":"[redacted]","key":"[redacted]"}'
    assert isinstance(events[1], wsproto.events.CloseConnection)
    assert not events[1].reason


def test_a_compression_that_was_not_asked_for_is_not_entered(gateway: Gateway, server: Server) -> None:
    """The first bit of a compressed frame is then a protocol error on either side: nothing is inflated."""
    compressor = zlib.compressobj(wbits=-15)
    packed = compressor.compress(b"a" * 100_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    compressed = frame(1, packed, masked=False)
    server.extensions, server.say = b"permessage-deflate", [bytes([compressed[0] | 0x40]) + compressed[1:]]
    opened = Socket(gateway)
    assert b"extensions" not in opened.head.lower()
    assert not any(isinstance(event, wsproto.events.TextMessage) for event in opened.events())


def test_binary_from_the_server_is_refused_where_masks_apply(gateway: Gateway, server: Server) -> None:
    server.say = [frame(2, PASSWORD, masked=False)]
    (closed, *_) = Socket(gateway).events()
    assert isinstance(closed, wsproto.events.CloseConnection)


def test_messages_are_recorded_masked(gateway: Gateway, server: Server) -> None:
    server.say = [frame(1, b'{"password":"hunter2-secret"}', masked=False)]
    socket = Socket(gateway)
    socket.events()
    socket.send(1, b'{"action":"list","password":"hunter2-secret"}')
    wait_for(server, 1)
    socket.send(8, struct.pack(">H", 1000))
    socket.events()

    def recorded() -> bool:
        flows = [flow for path in gateway.recordings() for flow in read(path) if flow.websocket]
        shown = [[message.content for message in flow.websocket.messages] for flow in flows]
        return [b'{"password":"[redacted]"}', b'{"action":"list","password":"[redacted]"}'] in shown

    assert gateway.eventually(recorded)
    assert PASSWORD not in gateway.everything_written()


def test_a_handshake_that_the_target_declines_is_recorded(gateway: Gateway, origin: Origin) -> None:
    from tests.addons.origin import response

    origin.answers["/socket"] = response(b"no", status="400 Bad Request")
    with gateway.connect() as client:
        client.send(HANDSHAKE + gateway.credential + b"\r\n")
        assert client.read().status == 400
    recorded = [flow for path in gateway.recordings() for flow in read(path)]
    assert any(flow.request.path == "/socket" and flow.response.status_code == 400 for flow in recorded)


def read(path: Path) -> list[object]:
    with path.open("rb") as file:
        return list(FlowReader(file).stream())  # type: ignore[arg-type]


def test_the_rules_of_this_module_deny_drops() -> None:
    assert "socket-words" in RULES
