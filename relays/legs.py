"""The two ends of a relayed connection as Twisted protocols. Every read of either begins here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer  # type: ignore[import-untyped]

from relays.commands import CLIENT, SERVER, Side
from relays.straight import writer
from relays.transport import LoopTransport

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from relays.driver import Driver

# why reading from a side is paused, as bits
CLIENT_FULL: Final = 1  # what was written to the client has not gone
SERVER_FULL: Final = 2
BEHIND: Final = 4  # the relay has not looked at what was read

BEHIND_BYTES: Final = 64 << 10  # what may wait behind a question before reading is paused


@implementer(IHalfCloseableProtocol)
class Leg(Protocol):
    """One end."""

    side: Side
    transport: LoopTransport  # type: ignore[assignment]

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.relay = driver.relay
        self.pair = driver.pair
        self.paused = 0

    @property
    def open(self) -> bool:
        return self.transport is not None and self.transport.connected

    def connectionMade(self) -> None:
        self.transport.registerProducer(Valve(self.pair, self.side), True)
        self.transport.setTcpKeepAlive(True)
        self.driver.connected(self)

    def receive_by(self, receive: Callable[[bytes], None]) -> None:
        """Let the transport give what it reads to this, which hands on to us what it does not take."""
        self.dataReceived = receive  # type: ignore[method-assign]
        self.transport.redirect()

    def connectionLost(self, reason: Failure | None = None) -> None:
        orderly = reason is None or reason.check(ConnectionDone)
        self.driver.lost(self.side, "" if orderly else "was cut off")

    def readConnectionLost(self) -> None:
        """IHalfCloseableProtocol: the peer has ended its direction."""
        self.driver.half_closed(self.side)

    def writeConnectionLost(self) -> None:
        """IHalfCloseableProtocol: we have ended ours."""

    def pause(self, why: int) -> None:
        """Read nothing until every `why` is resumed: the peer's kernel then slows it down."""
        if not self.paused and self.open:
            self.transport.pauseProducing()
        self.paused |= why

    def resume(self, why: int) -> None:
        before, self.paused = self.paused, self.paused & ~why
        if before and not self.paused and self.open:
            self.transport.resumeProducing()


class ClientLeg(Leg):
    """The caller's end."""

    side = CLIENT

    def dataReceived(self, data: bytes) -> None:
        relay = self.relay
        try:
            if not relay.client_busy and (out := relay.pass_client(data)) is not None:
                if out:
                    self.pair.to_server(out)
            else:
                self.driver.received(CLIENT, data)
        except Exception as error:
            self.driver.broken(error)


class ServerLeg(Leg):
    """The target's end."""

    side = SERVER

    def dataReceived(self, data: bytes) -> None:
        relay = self.relay
        try:
            if not relay.server_busy and (out := relay.pass_server(data)) is not None:
                if out:
                    self.pair.to_client(out)
            else:
                self.driver.received(SERVER, data)
        except Exception as error:
            self.driver.broken(error)


class Pair:
    """Both legs, as long as they are connected, and the shortest way to write to each."""

    def __init__(self) -> None:
        self.legs: dict[Side, Leg | None] = {CLIENT: None, SERVER: None}
        self.to_client: Callable[[bytes], Any] = nowhere
        self.to_server: Callable[[bytes], Any] = nowhere

    @property
    def gone(self) -> bool:
        """Whether nobody is connected."""
        return self.legs[CLIENT] is None and self.legs[SERVER] is None

    @property
    def unsent(self) -> int:
        """Bytes written to either and not yet in the kernel."""
        return sum(leg.transport.unsent for leg in self)

    def __iter__(self) -> Iterator[Leg]:
        return (leg for leg in self.legs.values() if leg is not None)

    def attach(self, leg: Leg) -> None:
        """A leg has a transport, or another one than before."""
        self.legs[leg.side] = leg
        if leg.side == CLIENT:
            self.to_client = writer(leg.transport.raw)
        else:
            self.to_server = writer(leg.transport.raw)

    def detach(self, side: Side) -> None:
        """A leg is gone."""
        self.legs[side] = None
        if side == CLIENT:
            self.to_client = nowhere
        else:
            self.to_server = nowhere

    def cut_server(self) -> None:
        """From now on nothing reaches the target, not even what is written already and not yet sent."""
        self.to_server = nowhere
        leg = self.legs[SERVER]
        if leg is not None and leg.open:
            leg.transport.abortConnection()

    def finish(self) -> None:
        """Close both after what is written has gone."""
        client, server = self.legs[CLIENT], self.legs[SERVER]
        if client is not None:
            client.transport.finish()
        if server is not None:
            server.transport.unregisterProducer()
            server.transport.loseConnection()

    def abort(self) -> None:
        """Drop both."""
        for leg in self:
            if leg.open:
                leg.transport.abortConnection()

    def balance(self, unread: Callable[[Side], int]) -> None:
        """Do not read from a side whose bytes the relay does not get to."""
        for leg in self:
            if unread(leg.side) > BEHIND_BYTES:
                leg.pause(BEHIND)
            elif leg.paused & BEHIND:
                leg.resume(BEHIND)


def nowhere(data: bytes) -> None:
    """Where bytes go while, or after, there is nobody."""


@implementer(IPushProducer)
class Valve:
    """What fills a side: the producer that its transport pauses when too much is unsent.

    A full client stops both directions, as a server that cannot write does not read either: what the relay itself answers to a client
    that sends without reading would otherwise grow without bound. A full server stops the client only.
    """

    def __init__(self, pair: Pair, side: Side) -> None:
        self._pair = pair
        self._why = CLIENT_FULL if side == CLIENT else SERVER_FULL

    def pauseProducing(self) -> None:
        for leg in self._filling():
            leg.pause(self._why)

    def resumeProducing(self) -> None:
        for leg in self._filling():
            leg.resume(self._why)

    def stopProducing(self) -> None:
        """Twisted calls this when the consumer is gone; `Leg.connectionLost` says it too."""

    def _filling(self) -> list[Leg]:
        return [leg for leg in self._pair if self._why == CLIENT_FULL or leg.side == CLIENT]
