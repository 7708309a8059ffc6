"""What both ends of SSH have in common below the key exchange: packets, limits, timers and the end.

Conch sends and receives by slicing and concatenating, and has no AES-GCM. Here a packet costs one copy and one AEAD call. It goes into
the socket at once: while the next is worked on, whoever is at the other end can be at work on this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from twisted.conch.ssh import transport as conch
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.python.failure import Failure

from hopgate.errors import HopgateError
from relays import straight
from relays.ssh.ciphers import Open, PlainOpen, PlainSeal, Seal
from relays.ssh.quiet import QUIET
from relays.transport import LoopTransport
from relays.wire import ProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from relays.outside import Outside

VERSION: Final = b"SSH-2.0-hopgate"
MAX_VERSION: Final = 255  # bytes of the identification line, RFC 4253 section 4.2
MAX_GREETING: Final = 8192  # bytes that a server may say before it
MAX_EARLY_PACKET: Final = 35000  # before the login; RFC 4253 section 6.1 wants no more anywhere
MAX_PACKET: Final = 256 << 10  # after it, as OpenSSH
MAX_UNSENT: Final = (
    64 << 20
)  # bytes for a peer that sends and does not read: more than flow control lets channels have, or it is no channel's
MAX_BLOCKED: Final = 1 << 16  # messages that wait for new keys
LINGER_SECONDS: Final = 3.0  # for the last words of a connection

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 1, 2, 3, 4, 5, 6, 7
SERVICES: Final = 50  # and above: messages of the service
CHANNEL_DATA: Final = 94
KEXINIT, NEWKEYS, KEX_INIT, KEX_REPLY = 20, 21, 30, 31  # 30 and 31 are ECDH's and the hybrid's alike
PROTOCOL_ERROR, BY_APPLICATION = 2, 11  # RFC 4253 section 11.1

IDLE, OFFERED, AGREED, KEYED = range(4)  # no key exchange; our KEXINIT is out; both are; our NEWKEYS is out and theirs is due
_UINT32: Final = Struct("!L")

_log = logging.getLogger("hopgate.relays")


@runtime_checkable
class Data(Protocol):
    """A service to which data comes by itself."""

    def data_received(self, packet: bytes, begin: int, end: int) -> None:
        """CHANNEL_DATA in [begin:end] of a packet, without its number."""

    def flush(self) -> None:
        """Something else comes now, or nothing."""


class PacketTransport(conch.SSHTransportBase):
    """Bytes to messages and back, until `end`. `Transport` decides which may come when."""

    ourVersionString = VERSION
    side = ""  # "client" or "target": what is at the other end
    _log = QUIET
    transport: LoopTransport

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.loop = asyncio.get_running_loop()
        self.service: SSHService | None = None
        self.data: Data | None = None  # the service, if it has a way of its own for data
        self.other: PacketTransport | None = None  # the leg on the other side of the gateway: they end together
        self.ended_because = ""
        self.max_packet = MAX_EARLY_PACKET
        self.peer_signatures: tuple[bytes, ...] | None = None  # the other's server-sig-algs, if it said
        self.over = False  # nothing more is read or sent
        self.is_lost = False
        self.sealing: Seal = PlainSeal()
        self.opening: Open = PlainOpen()
        self.state = IDLE
        self.left = 1 << 30  # bytes until new keys are due
        self.blocked: list[tuple[int, tuple[bytes | memoryview, ...]]] | None = None  # what waits for new keys
        self._buffer = bytearray()
        self._write: Callable[[Any], None]
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # --- life

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self._write = straight.writer(self.transport.raw)
        self.transport.write(self.ourVersionString + b"\r\n")

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.over = self.is_lost = True
        for name in tuple(self._timers):
            self.cancel(name)
        self.blocked = None
        self._buffer.clear()
        service, self.service = self.service, None
        self.data = None
        if service is not None:
            try:
                service.serviceStopped()
            except Exception as error:
                self._defect(error)
        self.ended_because = self.ended_because or f"the {self.side} closed the connection"
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.end(self.ended_because)
        self.lost()

    def lost(self) -> None:
        """The connection is gone."""

    def stopped(self) -> None:
        """It has been decided here that the connection ends; what was begun for it may end too."""

    def pair(self, other: PacketTransport) -> None:
        """From here on the end of either is the end of both."""
        self.other, other.other = other, self

    def end(self, message: str, code: int = BY_APPLICATION) -> None:
        """Say one line to the peer, and end; the other leg is cut off at once. Nothing more is read from either."""
        if self.over:
            return
        self.ended_because = self.ended_because or message
        try:
            packet = self.sealing.seal(DISCONNECT, (_UINT32.pack(code), NS(one_line(message).encode()), NS(b"")))
            self.transport.write(packet)
        except Exception as error:
            self._defect(error)
        self._stop()
        self.transport.finish()
        self.after("linger", LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """End without a word: what was written and not sent is dropped."""
        self.ended_because = self.ended_because or "the connection was cut off"
        self._stop()
        if not self.is_lost:
            self.transport.abortConnection()

    def _stop(self) -> None:
        if not self.over:
            self.over = True
            self.stopped()
        for name in tuple(self._timers):
            self.cancel(name)
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.ended_because = other.ended_because or self.ended_because
            other.abort()

    def failed(self, error: BaseException) -> None:
        """Fail closed. An error that is not the peer's or a refusal is a defect: only its type is logged, its text may quote a secret."""
        if isinstance(error, RemoteProtocolError):
            self.end(error.message, PROTOCOL_ERROR)
        elif isinstance(error, HopgateError | ProtocolError):
            self.end(error.message)
        else:
            self._defect(error)
            self.outside.services.metrics.failed_closed("relay")
            self.end("the gateway failed to relay this")

    def _defect(self, error: BaseException) -> None:
        _log.error("ssh %s failed: %s", self.side, type(error).__name__, exc_info=error if _log.isEnabledFor(logging.DEBUG) else None)

    def after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call back later, unless the connection is lost or `name` cancelled before."""
        self.cancel(name)
        if not self.is_lost:
            self._timers[name] = self.loop.call_later(seconds, call)

    def cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # --- what Conch calls to end

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        self.end(desc.decode("utf-8", "replace") if isinstance(desc, bytes) else str(desc), reason)

    def loseConnection(self) -> None:
        self.end("the connection was closed")

    # --- sending

    def send(self, number: int, *pieces: bytes | memoryview) -> None:
        """Send the message `number`, whose payload is all pieces; during a key exchange it waits for the new keys."""
        if self.over:
            return
        if self.blocked is not None and not (number <= DEBUG or KEXINIT <= number < 50):
            if len(self.blocked) >= MAX_BLOCKED:
                self.end(f"the {self.side} asks for too much during a key exchange", PROTOCOL_ERROR)
            else:
                self.blocked.append((number, pieces))
            return
        packet = self.sealing.seal(number, pieces)
        if not self.transport.disconnecting:
            self._write(packet)
        self.left -= len(packet)
        if self.left < 0:
            self.rekey()

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        self.send(messageType, payload)

    # --- receiving

    def dataReceived(self, data: bytes) -> None:
        if self.over:
            return
        try:
            if self._buffer:
                at = self._complete(data)
            else:
                at = 0 if self.gotVersion else self._take_version(data)
            if self.gotVersion:
                at = self._take_packets(data, at)
            if at < len(data):
                self._buffer += memoryview(data)[at:]
            if self.transport.unsent > MAX_UNSENT:
                raise RemoteProtocolError(f"the {self.side} does not read what it asks for")
        except (StructError, ValueError, IndexError) as error:
            _log.info("ssh: the %s sent what cannot be read: %s", self.side, type(error).__name__)
            self.failed(RemoteProtocolError("a message that cannot be read"))
        except Exception as error:
            self.failed(error)

    def _complete(self, data: bytes) -> int:
        """Give what has come before as much of `data` as makes it whole, and take that; the rest is taken from where it is, uncopied."""
        buffer = self._buffer
        if not self.gotVersion:
            buffer += data
            at = self._take_version(buffer)
            if self.gotVersion:
                at = self._take_packets(buffer, at)
            del buffer[:at]
            return len(data)
        begin = 0
        while buffer and begin < len(data) and not self.over:
            end = begin + self.opening.missing(buffer)
            buffer += memoryview(data)[begin:end]
            begin = min(end, len(data))
            del buffer[: self._take_packets(buffer, 0)]
        return begin

    def _take_packets(self, source: bytes | bytearray, at: int) -> int:
        while not self.over:
            found = self.opening.open(source, at, self.max_packet)
            if found is None:
                break
            packet, following = found
            self.left -= following - at
            at = following
            number, end = packet[1], len(packet) - packet[0]
            data = self.data
            if number == CHANNEL_DATA and data is not None and self.state <= OFFERED:
                data.data_received(packet, 2, end)
            else:
                if data is not None:
                    data.flush()
                self._take_message(number, packet[2:end])
            if self.left < 0:
                self.rekey()
        if self.data is not None:
            self.data.flush()
        return at

    def _take_message(self, number: int, payload: bytes) -> None:
        service = self.service
        if number >= SERVICES and service is not None and self.state <= OFFERED:
            service.packetReceived(number, payload)  # type: ignore[no-untyped-call]
        else:
            self.dispatchMessage(number, payload)

    def _take_version(self, source: bytes | bytearray) -> int:
        """Read lines up to the identification line, and tell where the next packet begins. Raises RemoteProtocolError."""
        at = 0
        while True:
            end = source.find(b"\n", at)
            line = bytes(source[at : len(source) if end < 0 else end])
            ours = line.startswith(b"SSH-")
            if not ours and not self.isClient and not b"SSH-".startswith(line):
                raise RemoteProtocolError("this port speaks SSH, and the first line is not SSH")
            if len(line) > MAX_VERSION + 1 if ours else len(source) > MAX_GREETING:
                raise RemoteProtocolError("an identification line that is too long")
            if end < 0:
                return at
            at = end + 1
            if ours:
                break
        line = line.removesuffix(b"\r")
        if not line.startswith((b"SSH-2.0-", b"SSH-1.99-")) or not line.isascii() or not line.decode().isprintable():
            raise RemoteProtocolError("only SSH version 2.0 is spoken here")
        self.otherVersionString, self.gotVersion = line, True
        self.version_received()
        return at

    # --- what `Transport` does

    def version_received(self) -> None:
        """The other end has said which version it speaks."""
        raise NotImplementedError

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """One message that is not simply a service's. Raises RemoteProtocolError where it may not come now."""
        raise NotImplementedError

    def rekey(self) -> None:
        """New keys are due."""
        raise NotImplementedError

    # --- messages that belong to no service

    def received(self, number: int, payload: bytes) -> None:
        """A message outside of key exchanges. Unknown ones are answered so (RFC 4253 section 11.4)."""
        if number >= 50 and self.service is not None:
            self.service.packetReceived(number, payload)  # type: ignore[no-untyped-call]
        else:
            self.sendUnimplemented()

    def sendUnimplemented(self) -> None:
        self.send(UNIMPLEMENTED, _UINT32.pack(self.opening.sequence - 1 & 0xFFFFFFFF))

    def ssh_EXT_INFO(self, packet: bytes) -> None:
        """RFC 8308: of its extensions we use server-sig-algs."""
        (count,) = _UINT32.unpack_from(packet)
        rest = packet[4:]
        for _ in range(min(count, 64)):
            name, value, rest = getNS(rest, 2)
            if name == b"server-sig-algs":
                self.peer_signatures = tuple(value.split(b","))

    def _disconnected(self, payload: bytes) -> None:
        self.ended_because = self.ended_because or f"the {self.side} ended the connection"
        with contextlib.suppress(Exception):
            said = getNS(payload[4:])[0].decode("utf-8", "replace")
            self.said_goodbye(_UINT32.unpack_from(payload)[0], one_line(said))
        self.abort()

    def said_goodbye(self, code: int, message: str) -> None:
        """The peer has ended the connection, with these words."""

    def setService(self, service: SSHService) -> None:
        if self.service is not None:
            self.service.serviceStopped()
        self.service = service
        self.data = service if isinstance(service, Data) else None
        service.transport = self
        service.serviceStarted()


def one_line(text: str) -> str:
    """Text for the peer: printing characters of one line, not too many."""
    return "".join(each if each.isprintable() else " " for each in text)[:1000]
