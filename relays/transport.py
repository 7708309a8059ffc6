"""Twisted protocols on the event loop's own transports (uvloop's, or asyncio's), TLS in the middle of a connection included.

Twisted's reactor transports pay two epoll_ctl calls and a turn of the loop for each write; those of the loop try to send at once. The
protocol's `dataReceived` is handed to the loop itself: between the socket and it there is no Python frame of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, Final

from twisted.internet import error, interfaces
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

HIGH_WATER: Final = 256 << 10  # bytes written and not yet sent, beyond which the producer is paused
LOW_WATER: Final = 64 << 10
HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 2.0  # for the peer's close_notify
_ESTABLISHED: Final = 1  # TCP_ESTABLISHED of linux/tcp_states.h, first byte of TCP_INFO


@implementer(interfaces.ITCPTransport, interfaces.IConsumer, interfaces.IPushProducer)
class LoopTransport(asyncio.Protocol):
    """Stands between one asyncio transport and one Twisted protocol: the asyncio.Protocol of the one, the ITransport of the other.

    Only streaming producers. A protocol that provides IHalfCloseableProtocol keeps its side open when the peer has ended its own.
    """

    def __init__(self, protocol: Protocol, loop: asyncio.AbstractEventLoop) -> None:
        self.protocol = protocol
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.connected = False
        self.disconnecting = False
        self.producer: Any = None
        self._aborted = False
        self._discarding = False
        self._peer_ended = False
        self._early = bytearray()  # what TLS decrypted before start_tls returned
        self._starting_tls = False
        # instance attributes on purpose: loops look `data_received` up once, and then call the protocol directly
        self.data_received = protocol.dataReceived  # type: ignore[method-assign]

    @property
    def raw(self) -> asyncio.Transport:
        """The loop's transport below. It is another one after `start_tls`."""
        assert self.transport is not None, "not connected"
        return self.transport

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.connected = True
        self.raw.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.protocol.makeConnection(self)  # type: ignore[no-untyped-call]

    def eof_received(self) -> bool:
        """True keeps the transport open for writing; TLS has no half-closed state, and closes whatever is returned."""
        self._peer_ended = True
        if self._discarding:
            return False
        half = interfaces.IHalfCloseableProtocol(self.protocol, None)
        if half is None:
            return False
        half.readConnectionLost()  # type: ignore[misc]
        return self.connected and self.raw.can_write_eof()  # loops complain of True where there is TLS

    def connection_lost(self, exc: Exception | None) -> None:
        self.connected = False
        if self._aborted:
            reason: Exception = error.ConnectionAborted()
        elif exc is not None:
            reason = error.ConnectionLost(type(exc).__name__)
        else:
            reason = error.ConnectionDone()
        self.producer = None
        self.protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]

    def pause_writing(self) -> None:
        if self.producer is not None:
            self.producer.pauseProducing()

    def resume_writing(self) -> None:
        if self.producer is not None:
            self.producer.resumeProducing()

    # --- what the protocol calls

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            self.raw.write(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        if self.connected and not self.disconnecting:
            self.raw.writelines(pieces)

    def loseConnection(self) -> None:
        """Close after what is written has gone, and the producer has unregistered."""
        self.disconnecting = True
        if self.producer is None and self.connected:
            self.raw.close()

    def loseWriteConnection(self) -> None:
        """Tell the peer that nothing more comes. TLS cannot say only that: there it does nothing."""
        if self.connected and not self.disconnecting and self.raw.can_write_eof():
            self.raw.write_eof()

    def abortConnection(self) -> None:
        self._aborted = self.disconnecting = True
        if self.connected:
            self.raw.abort()

    def finish(self) -> None:
        """Close, in the way that loses no last words: a close with bytes of the peer's unread resets the connection, and the peer's kernel
        then drops what it had received. So only our direction ends, what comes is dropped, and the peer's end closes the rest."""
        if not self.connected or self.disconnecting:
            return
        self.producer = None
        if self._peer_ended or not self.raw.can_write_eof():
            self.loseConnection()
            return
        self.disconnecting = self._discarding = True
        self._redirect(self._drop)
        with contextlib.suppress(OSError):  # the peer has closed, and the loop has not told us yet
            self.raw.write_eof()
        self._resume()

    @property
    def unsent(self) -> int:
        """Bytes that were written and are not yet in the kernel."""
        return self.raw.get_write_buffer_size() if self.connected else 0

    @property
    def established(self) -> bool:
        """Whether neither end has closed, told by the kernel: while reading is paused nobody else would know."""
        if not self.connected or self.raw.is_closing():
            return False
        sock = self.raw.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return True
        with contextlib.suppress(OSError):
            return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED)
        return False

    def getPeer(self) -> IPv4Address | IPv6Address:
        return _address(self.raw.get_extra_info("peername"))

    def getHost(self) -> IPv4Address | IPv6Address:
        return _address(self.raw.get_extra_info("sockname"))

    def pauseProducing(self) -> None:
        if self.connected and not self._starting_tls and not self.raw.is_closing():
            self.raw.pause_reading()

    def resumeProducing(self) -> None:
        if self._early and not self._starting_tls:
            early, self._early = bytes(self._early), bytearray()
            self.protocol.dataReceived(early)
        if not self._starting_tls:
            self._resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming, "pull producers are not carried"
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        if self.disconnecting and self.connected:
            self.raw.close()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._set(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpNoDelay(self) -> bool:
        return bool(self.raw.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._set(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self.raw.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    async def start_tls(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> ssl.SSLObject:
        """Speak TLS from here on. Reading is paused afterwards, until `resumeProducing`; what was decrypted meanwhile comes then.

        Only from a quiet point: whoever calls has nothing of the peer's unread (CVE-2021-23214). Raises OSError (ssl.SSLError is one) or
        TimeoutError; the connection is lost then, which the protocol has been told before.
        """
        self._starting_tls = True
        self._redirect(self._hold)
        try:
            upgraded = await self.loop.start_tls(
                self.raw,
                self,
                context,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (ConnectionError, OSError, RuntimeError) as failure:
            self.abortConnection()
            if isinstance(failure, RuntimeError):  # uvloop, for a transport that closed under it
                raise ConnectionResetError("the connection closed during the TLS handshake") from None
            raise
        if upgraded is None or not self.connected:
            raise ConnectionResetError("the connection closed during the TLS handshake")
        self.transport = upgraded
        self.raw.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.raw.pause_reading()
        self._redirect(self.protocol.dataReceived)
        self._starting_tls = False
        found: ssl.SSLObject = self.raw.get_extra_info("ssl_object")
        return found

    def redirect(self) -> None:
        """The protocol's `dataReceived` is another one now."""
        if not self._discarding and not self._starting_tls:
            self._redirect(self.protocol.dataReceived)

    # --- inside

    def _redirect(self, receive: Any) -> None:
        self.data_received = receive  # type: ignore[method-assign]
        if self.connected:
            self.raw.set_protocol(self)  # the loop looks it up again

    def _hold(self, data: bytes) -> None:
        self._early += data

    def _drop(self, data: bytes) -> None:
        pass

    def _resume(self) -> None:
        if self.connected and not self.raw.is_closing():
            self.raw.resume_reading()

    def _set(self, level: int, option: int, enabled: bool) -> None:
        sock = self.raw.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):  # a socket that is gone, or is none
            sock.setsockopt(level, option, int(enabled))


def _address(name: Any) -> IPv4Address | IPv6Address:
    host, port = name[0], name[1]
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
