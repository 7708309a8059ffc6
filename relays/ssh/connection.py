"""The service ssh-connection (RFC 4254) of one end, as a Conch service: channels and global requests in, in order; bounds on both.

Conch's own SSHConnection grants windows before anything has gone on, lets replies overtake each other and sends packets of no bytes
without end; so the messages are read here, and only its transports are used.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from twisted.conch.ssh.service import SSHService
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from relays.ssh import codec
from relays.ssh.channel import LEAST_PACKET, MAX_PACKET, SMALL_WINDOW, WINDOW, Channel, Owner
from relays.ssh.codec import TWO, Confirmation, Failure, Open, Refused, Request
from relays.wire import UINT32, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relays.ssh.packets import PacketTransport

MAX_CHANNELS: Final = 128  # of one connection
WINDOW_BUDGET: Final = 16 << 20  # bytes of the windows of one connection's channels; beyond, they are small
MAX_UNSENT: Final = 8 << 20  # bytes of answers to a peer that sends and does not read; data waits long before that

MAX_RUN: Final = 128 << 10  # bytes of data that are told in one piece; other connections wait while they are masked

_log = logging.getLogger("hopgate.relays")


class Peer(Protocol):
    """What a connection tells, besides the owners of its channels."""

    def wanted(self, connection: Connection, opening: Open) -> None:
        """The peer opens a channel: `accept` or `refuse` it, now or later."""

    def asked(self, connection: Connection, request: Request) -> None:
        """A global request. One that wants a reply is answered by `reply_global`, in the order in which they came."""

    def idle(self, connection: Connection) -> None:
        """The last of its channels has been closed."""

    def lost(self, connection: Connection) -> None:
        """The connection is gone, and all its channels were told."""

    def failed(self, error: Exception) -> None:
        """Something of ours failed, and what it was about has been closed."""

    def violated(self, connection: Connection, error: RemoteProtocolError) -> None:
        """The peer broke the protocol: the connection ends."""


@implementer(IPushProducer)
class Connection(SSHService):
    """One end. `transport` is set when the service starts."""

    name = b"ssh-connection"
    transport: PacketTransport

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.channels: dict[int, Channel] = {}
        self.full = False  # what was sent has not gone: channels keep their data
        self.over = False
        self._next = 0
        self._windows = 0  # bytes of all channels' windows
        self._opening: dict[int, Channel] = {}
        self._wanted = 0  # channels that the peer has asked for and nobody has answered
        self._run_of: Channel | None = None  # whose data has come and is not told yet
        self._run: list[memoryview] = []
        self._run_size = 0
        self._globals: deque[Callable[[bool, bytes], None]] = deque()
        self._receivers: Mapping[int, Callable[[bytes], None]] = {
            codec.GLOBAL_REQUEST: self._global_request,
            codec.REQUEST_SUCCESS: lambda packet: self._global_reply(True, packet),
            codec.REQUEST_FAILURE: lambda packet: self._global_reply(False, b""),
            codec.CHANNEL_OPEN: self._open,
            codec.CHANNEL_OPEN_CONFIRMATION: self._confirmation,
            codec.CHANNEL_OPEN_FAILURE: self._failure,
            codec.CHANNEL_WINDOW_ADJUST: self._window_adjust,
            codec.CHANNEL_DATA: self._data,
            codec.CHANNEL_EXTENDED_DATA: self._extended_data,
            codec.CHANNEL_EOF: lambda packet: self._channel(packet).got_eof(),
            codec.CHANNEL_CLOSE: lambda packet: self._channel(packet).got_close(),
            codec.CHANNEL_REQUEST: lambda packet: self._channel(packet).got_request(Request.parse(packet)),
            codec.CHANNEL_SUCCESS: lambda packet: self._channel(packet).got_reply(True),
            codec.CHANNEL_FAILURE: lambda packet: self._channel(packet).got_reply(False),
        }

    # --- what Conch calls

    def serviceStarted(self) -> None:
        self.transport.transport.registerProducer(self, True)

    def serviceStopped(self) -> None:
        if self.over:
            return
        self.over = True
        self._run_of, self._run = None, []
        for channel in (*self.channels.values(), *self._opening.values()):
            channel.lost()
        self.channels.clear()
        self._opening.clear()
        waiting, self._globals = list(self._globals), deque()
        for replied in waiting:
            replied(False, b"")
        self.peer.lost(self)

    def packetReceived(self, number: int, packet: bytes) -> None:
        if self.over:
            return
        try:
            self.flush()
            receive = self._receivers.get(number)
            if receive is None:
                self.transport.sendUnimplemented()
            else:
                receive(packet)
        except Exception as error:
            self._failed(error)

    def data_received(self, packet: bytes, begin: int, end: int) -> None:
        """A CHANNEL_DATA, which is [begin:end] of a packet without its number. It is what most packets are, and comes in runs: what follows
        each other on one channel is told its owner in one piece, by `flush`."""
        if self.over:
            return
        try:
            if end - begin < 8:
                raise Refused("an SSH message is cut short")
            number, length = TWO.unpack_from(packet, begin)
            channel = self.channels.get(number)
            if channel is None:
                raise RemoteProtocolError("a message names a channel that there is not")
            if length != end - begin - 8:
                raise Refused("an SSH message has another length than it says")
            if channel is not self._run_of:
                self.flush()
            if channel.takes(length):
                self._run_of = channel
                self._run.append(memoryview(packet)[begin + 8 : end])
                self._run_size += length
                if self._run_size >= MAX_RUN:
                    self.flush()
        except Exception as error:
            self._failed(error)

    def flush(self) -> None:
        """All that has come is told."""
        channel, run = self._run_of, self._run
        if channel is not None and not self.over:
            self._run_of, self._run, self._run_size = None, [], 0
            channel.got_data(run[0] if len(run) == 1 else b"".join(run))

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, RemoteProtocolError):
            self.peer.failed(error)
            error = RemoteProtocolError("the gateway failed to relay this")
        self.peer.violated(self, error)

    # --- the transport's producer: all that fills it waits in channels

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False
        for channel in list(self.channels.values()):
            if self.full:
                return
            channel.flush()

    def stopProducing(self) -> None:
        """Twisted calls this when the transport is gone; `serviceStopped` says it too."""

    # --- sending

    def send(self, number: int, *pieces: bytes | memoryview) -> None:
        """One message, in pieces. A peer that lets answers pile up unread is dropped."""
        if self.over:
            return
        self.transport.send(number, *pieces)
        if self.full and self.transport.transport.unsent > MAX_UNSENT:
            self.peer.violated(self, RemoteProtocolError("the peer sends and does not read"))

    def open_channel(self, type: bytes, owner: Owner, rest: bytes = b"") -> Channel | None:
        """Ask the peer for a channel; the owner hears what it says. None, and nothing is asked, when there are too many."""
        if self.over or self._count >= MAX_CHANNELS:
            return None
        channel = self._made(owner)
        self._opening[channel.number] = channel
        self.send(codec.CHANNEL_OPEN, Open(type, channel.number, channel.window, MAX_PACKET, rest).build())
        return channel

    def accept(self, opening: Open, owner: Owner, rest: bytes = b"") -> Channel:
        """Accept a channel that the peer wants. `wanted` has checked what it offers."""
        self._wanted -= 1
        channel = self._made(owner)
        channel.confirm(opening.sender, opening.window, opening.max_packet)
        self.channels[channel.number] = channel
        self.send(codec.CHANNEL_OPEN_CONFIRMATION, Confirmation(opening.sender, channel.number, channel.window, MAX_PACKET, rest).build())
        return channel

    def refuse(self, opening: Open, reason: int, text: str) -> None:
        """Do not; `text` is shown to whoever asked."""
        self._wanted -= 1
        self.send(codec.CHANNEL_OPEN_FAILURE, Failure(opening.sender, reason, text.encode()).build())

    def ask(self, request: Request, replied: Callable[[bool, bytes], None]) -> None:
        """Send a global request that wants a reply; `replied` gets it, or False when the connection ends first."""
        if self.over:
            replied(False, b"")
            return
        self._globals.append(replied)
        self.send(codec.GLOBAL_REQUEST, request.build())

    def reply_global(self, success: bool, rest: bytes = b"") -> None:
        self.send(codec.REQUEST_SUCCESS if success else codec.REQUEST_FAILURE, rest if success else b"")

    def forget(self, channel: Channel) -> None:
        """Both ends have closed it: its number is free."""
        if self.channels.pop(channel.number, None) is not None:
            self._windows -= channel.window
            if not self.channels:
                self.peer.idle(self)

    @property
    def _count(self) -> int:
        return len(self.channels) + len(self._opening) + self._wanted

    def _made(self, owner: Owner) -> Channel:
        window = WINDOW if self._windows + WINDOW <= WINDOW_BUDGET else SMALL_WINDOW
        self._windows += window
        number, self._next = self._next, (self._next + 1) & 0xFFFFFFFF
        return Channel(self, number, window, owner)

    # --- receiving

    def _channel(self, packet: bytes) -> Channel:
        try:
            (number,) = UINT32.unpack_from(packet)
            return self.channels[number]
        except KeyError:
            raise RemoteProtocolError("a message names a channel that there is not") from None
        except Exception:
            raise Refused("an SSH message is cut short") from None

    def _data(self, packet: bytes) -> None:
        self.data_received(packet, 0, len(packet))
        self.flush()

    def _extended_data(self, packet: bytes) -> None:
        fields = codec.Fields(packet, 4)
        channel = self._channel(packet)
        code, data = fields.uint32(), fields.string()
        fields.end()
        if code == codec.STDERR:
            if channel.takes(len(data)):
                channel.got_data(data, extended=True)
        else:
            channel.break_off("extended data of an unknown type came")

    def _window_adjust(self, packet: bytes) -> None:
        self._channel(packet).got_window(codec.Fields(packet, 4).uint32())

    def _open(self, packet: bytes) -> None:
        opening = Open.parse(packet)
        self._wanted += 1
        if opening.max_packet < LEAST_PACKET:
            self.refuse(opening, codec.PROHIBITED, f"a channel must take packets of {LEAST_PACKET} bytes")
        elif self._count > MAX_CHANNELS:
            self.refuse(opening, codec.SHORTAGE, f"more than {MAX_CHANNELS} channels of one connection")
        else:
            self.peer.wanted(self, opening)

    def _confirmation(self, packet: bytes) -> None:
        found = Confirmation.parse(packet)
        channel = self._opening.pop(found.recipient, None)
        if channel is None:
            raise RemoteProtocolError("a channel was confirmed that nobody opened")
        self.channels[channel.number] = channel
        if found.max_packet < LEAST_PACKET:
            channel.confirm(found.sender, 0, LEAST_PACKET)
            channel.break_off("the peer takes packets that are too small")
            return
        channel.confirm(found.sender, found.window, found.max_packet)
        if channel.gone:
            return
        try:
            channel.owner.opened(found.rest)
            channel.flush()
        except Exception as error:
            channel.broken(error)

    def _failure(self, packet: bytes) -> None:
        found = Failure.parse(packet)
        channel = self._opening.pop(found.recipient, None)
        if channel is None:
            raise RemoteProtocolError("a channel was refused that nobody opened")
        self._windows -= channel.window
        channel.ended = channel.gone = True
        try:
            channel.owner.refused(found.reason, found.text)
        except Exception as error:
            self.peer.failed(error)

    def _global_request(self, packet: bytes) -> None:
        self.peer.asked(self, codec.global_request(packet))

    def _global_reply(self, success: bool, rest: bytes) -> None:
        if not self._globals:
            raise RemoteProtocolError("an answer came to a request that was not made")
        self._globals.popleft()(success, rest)


__all__ = ["MAX_CHANNELS", "MAX_UNSENT", "WINDOW_BUDGET", "Connection", "Peer"]
