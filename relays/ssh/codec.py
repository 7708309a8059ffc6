"""Messages of the SSH connection protocol (RFC 4254), without the message number, which stands before them in a packet."""

from __future__ import annotations

from struct import Struct, error
from typing import Final, NamedTuple

from relays.wire import UINT32, RemoteProtocolError

GLOBAL_REQUEST: Final = 80
REQUEST_SUCCESS: Final = 81
REQUEST_FAILURE: Final = 82
CHANNEL_OPEN: Final = 90
CHANNEL_OPEN_CONFIRMATION: Final = 91
CHANNEL_OPEN_FAILURE: Final = 92
CHANNEL_WINDOW_ADJUST: Final = 93
CHANNEL_DATA: Final = 94
CHANNEL_EXTENDED_DATA: Final = 95
CHANNEL_EOF: Final = 96
CHANNEL_CLOSE: Final = 97
CHANNEL_REQUEST: Final = 98
CHANNEL_SUCCESS: Final = 99
CHANNEL_FAILURE: Final = 100

# reasons of CHANNEL_OPEN_FAILURE, RFC 4254 section 5.1
PROHIBITED: Final = 1
CONNECT_FAILED: Final = 2
UNKNOWN_TYPE: Final = 3
SHORTAGE: Final = 4

STDERR: Final = 1  # the one type of extended data, RFC 4254 section 5.2

MAX_NAME: Final = 64  # bytes of a name, RFC 4250 section 4.6.1

TWO: Final = Struct("!II")
THREE: Final = Struct("!III")
FOUR: Final = Struct("!IIII")


class Refused(RemoteProtocolError):
    """A message that is cut short or holds what it may not."""


class Fields:
    """Reads the fields of one message in turn. Everything raises Refused where the message ends too early."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def uint32(self) -> int:
        try:
            (value,) = UINT32.unpack_from(self._data, self._at)
        except error:
            raise Refused("an SSH message is cut short") from None
        self._at += 4
        return int(value)

    def boolean(self) -> bool:
        if self._at >= len(self._data):
            raise Refused("an SSH message is cut short")
        self._at += 1
        return self._data[self._at - 1] != 0

    def string(self) -> bytes:
        length = self.uint32()
        end = self._at + length
        if end > len(self._data):
            raise Refused("an SSH message is cut short")
        value = self._data[self._at : end]
        self._at = end
        return value

    def name(self) -> bytes:
        """A name of RFC 4250 section 4.6.1. Longer ones name nothing that is known."""
        value = self.string()
        if len(value) > MAX_NAME:
            raise Refused("a name in an SSH message is too long")
        return value

    def rest(self) -> bytes:
        """All that follows."""
        value = self._data[self._at :]
        self._at = len(self._data)
        return value

    def end(self) -> None:
        if self._at != len(self._data):
            raise Refused("an SSH message goes on after its end")


def string(value: bytes) -> bytes:
    """`string` of RFC 4251 section 5."""
    return UINT32.pack(len(value)) + value


class Open(NamedTuple):
    """CHANNEL_OPEN. `window` and `max_packet` are what its sender takes; `rest` is of the type's own."""

    type: bytes
    sender: int
    window: int
    max_packet: int
    rest: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Open:
        fields = Fields(packet)
        return cls(fields.name(), fields.uint32(), fields.uint32(), fields.uint32(), fields.rest())

    def build(self) -> bytes:
        return string(self.type) + THREE.pack(self.sender, self.window, self.max_packet) + self.rest


class Confirmation(NamedTuple):
    """CHANNEL_OPEN_CONFIRMATION."""

    recipient: int
    sender: int
    window: int
    max_packet: int
    rest: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Confirmation:
        fields = Fields(packet)
        return cls(fields.uint32(), fields.uint32(), fields.uint32(), fields.uint32(), fields.rest())

    def build(self) -> bytes:
        return FOUR.pack(self.recipient, self.sender, self.window, self.max_packet) + self.rest


class Failure(NamedTuple):
    """CHANNEL_OPEN_FAILURE."""

    recipient: int
    reason: int
    text: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Failure:
        fields = Fields(packet)
        return cls(fields.uint32(), fields.uint32(), fields.string())

    def build(self) -> bytes:
        return TWO.pack(self.recipient, self.reason) + string(self.text) + string(b"")


class Request(NamedTuple):
    """CHANNEL_REQUEST, without its recipient; `rest` is of the request's own."""

    name: bytes
    want_reply: bool
    rest: bytes

    @classmethod
    def parse(cls, packet: bytes, at: int = 4) -> Request:
        fields = Fields(packet, at)
        return cls(fields.name(), fields.boolean(), fields.rest())

    def build(self) -> bytes:
        return string(self.name) + (b"\1" if self.want_reply else b"\0") + self.rest


def global_request(packet: bytes) -> Request:
    """GLOBAL_REQUEST has the fields of a channel's, without a channel."""
    return Request.parse(packet, 0)


# --- what requests and opens of the known types hold


class Terminal(NamedTuple):
    """`pty-req`, RFC 4254 section 6.2; `modes` as encoded (section 8)."""

    term: bytes
    columns: int
    rows: int
    width: int
    height: int
    modes: bytes

    @classmethod
    def parse(cls, rest: bytes) -> Terminal:
        fields = Fields(rest)
        found = cls(fields.string(), fields.uint32(), fields.uint32(), fields.uint32(), fields.uint32(), fields.string())
        fields.end()
        return found

    def build(self) -> bytes:
        return string(self.term) + FOUR.pack(self.columns, self.rows, self.width, self.height) + string(self.modes)


class Size(NamedTuple):
    """`window-change`, RFC 4254 section 6.7."""

    columns: int
    rows: int
    width: int
    height: int

    @classmethod
    def parse(cls, rest: bytes) -> Size:
        fields = Fields(rest)
        found = cls(fields.uint32(), fields.uint32(), fields.uint32(), fields.uint32())
        fields.end()
        return found

    def build(self) -> bytes:
        return FOUR.pack(*self)


class Variable(NamedTuple):
    """`env`, RFC 4254 section 6.4."""

    name: bytes
    value: bytes

    @classmethod
    def parse(cls, rest: bytes) -> Variable:
        fields = Fields(rest)
        found = cls(fields.string(), fields.string())
        fields.end()
        return found

    def build(self) -> bytes:
        return string(self.name) + string(self.value)


def one_string(rest: bytes) -> bytes:
    """The command of `exec`, the name of a `subsystem`, the name of a `signal`."""
    fields = Fields(rest)
    found = fields.string()
    fields.end()
    return found


class Forward(NamedTuple):
    """`tcpip-forward` and `cancel-tcpip-forward`, RFC 4254 section 7.1."""

    host: bytes
    port: int

    @classmethod
    def parse(cls, rest: bytes) -> Forward:
        fields = Fields(rest)
        found = cls(fields.string(), fields.uint32())
        fields.end()
        return found

    def build(self) -> bytes:
        return string(self.host) + UINT32.pack(self.port)


class Tunnel(NamedTuple):
    """What opens `direct-tcpip` and `forwarded-tcpip`, RFC 4254 section 7.2."""

    host: bytes
    port: int
    origin: bytes
    origin_port: int

    @classmethod
    def parse(cls, rest: bytes) -> Tunnel:
        fields = Fields(rest)
        found = cls(fields.string(), fields.uint32(), fields.string(), fields.uint32())
        fields.end()
        return found

    def build(self) -> bytes:
        return string(self.host) + UINT32.pack(self.port) + string(self.origin) + UINT32.pack(self.origin_port)


def exit_status(status: int) -> bytes:
    return UINT32.pack(status)


def exit_status_of(rest: bytes) -> int:
    return Fields(rest).uint32()
