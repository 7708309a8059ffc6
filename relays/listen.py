"""Listening sockets: from an accepted connection to a relay at work.

We accept for ourselves, because a client may begin with a TLS hello: its first byte is looked at while it is still in the kernel
(MSG_PEEK), and only then the loop's transport is made, with TLS or without.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

from hopgate.addresses import Address
from hopgate.errors import HopgateError, Unavailable
from hopgate.tasks import spawn
from relays.driver import STARTUP_SECONDS, client_driver
from relays.outside import Outside
from relays.relay import Relay
from relays.tls import server_context
from relays.transport import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS, LoopTransport

BACKLOG: Final = 512
ACCEPTS: Final = 32  # connections taken in one turn of the loop
MAX_STARTING: Final = 1024  # connections that have not said yet who they are; more are closed at once
TLS_HANDSHAKE: Final = 0x16  # content type of a TLS record, RFC 8446 section 5.1
_EXHAUSTED_PAUSE: Final = 0.1  # seconds without accepting when there are no descriptors left

_log = logging.getLogger("hopgate.relays")


class SocketListener:
    """One address. What becomes of an accepted connection, `_accepted` says."""

    def __init__(self, outside: Outside, address: Address, *, shared: bool = False) -> None:
        self._outside = outside
        self._wanted = address
        self._shared = shared
        self._sockets: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()

    @property
    def address(self) -> Address:
        """Where it listens really: port 0 has become another."""
        host, port = self._sockets[0].getsockname()[:2]
        return Address(host, port)

    def open(self) -> None:
        """Bind and listen. Raises Unavailable."""
        try:
            found = socket.getaddrinfo(self._wanted.host, self._wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                self._sockets.append(self._bound(socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol), address))
        except OSError as error:
            self.close()
            raise Unavailable(f"cannot listen on {self._wanted}: {(error.strerror or type(error).__name__).lower()}") from None
        for sock in self._sockets:
            self._loop.add_reader(sock, self._acceptable, sock)

    def _bound(self, sock: socket.socket, address: object) -> socket.socket:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)  # type: ignore[arg-type]
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Accept nothing more. Connections that are relayed go on."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _acceptable(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # no descriptors left: the connection stays in the backlog, and would wake us at once again
                _log.error("cannot accept: %s", error.strerror)
                self._loop.remove_reader(listening)
                self._loop.call_later(_EXHAUSTED_PAUSE, self._accept_again, listening)
                return
            sock.setblocking(False)
            if len(self._outside.starting) + self._unstarted >= MAX_STARTING:
                sock.close()
            else:
                self._accepted(sock)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._acceptable, listening)

    @property
    def _unstarted(self) -> int:
        """Connections that nobody counts yet."""
        return 0

    def _accepted(self, sock: socket.socket) -> None:
        """Begin with a new connection, and own its socket."""
        raise NotImplementedError


class Listener(SocketListener):
    """One address, whose clients each get a relay from `make`."""

    def __init__(self, outside: Outside, address: Address, make: Callable[[], Relay], *, shared: bool = False) -> None:
        super().__init__(outside, address, shared=shared)
        self._make = make
        self._peeking: dict[socket.socket, asyncio.TimerHandle] = {}

    def close(self) -> None:
        super().close()
        for sock in list(self._peeking):
            self._unpeek(sock)
            sock.close()

    @property
    def _unstarted(self) -> int:
        return len(self._peeking)

    def _accepted(self, sock: socket.socket) -> None:
        relay = self._make()
        if relay.direct_tls is None:
            spawn(self._begin(sock, relay, tls=False), name="a client")
            return
        self._peeking[sock] = self._loop.call_later(STARTUP_SECONDS, self._silent, sock)
        self._loop.add_reader(sock, self._peekable, sock, relay)

    def _peekable(self, sock: socket.socket, relay: Relay) -> None:
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        self._unpeek(sock)
        if not first:
            sock.close()
        else:
            spawn(self._begin(sock, relay, tls=first[0] == TLS_HANDSHAKE), name="a client")

    def _silent(self, sock: socket.socket) -> None:
        self._unpeek(sock)
        sock.close()

    def _unpeek(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        self._peeking.pop(sock).cancel()

    async def _begin(self, sock: socket.socket, relay: Relay, *, tls: bool) -> None:
        """Make the loop's transport, which begins the conversation. The socket is the transport's from then on."""
        try:
            if not tls:
                await self._loop.connect_accepted_socket(lambda: self._transport(relay), sock)
                return
            config = self._outside.services.config.tls
            if config is None or relay.direct_tls is None:
                sock.close()
                return
            await self._loop.connect_accepted_socket(
                lambda: self._transport(relay),
                sock,
                ssl=server_context(config, relay.direct_tls),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (OSError, HopgateError) as error:
            _log.info("a client could not begin: %s", type(error).__name__)
            with contextlib.suppress(OSError):
                sock.close()

    def _transport(self, relay: Relay) -> LoopTransport:
        return LoopTransport(client_driver(self._outside, relay), self._loop)
