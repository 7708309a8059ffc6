"""The adapter between the loop's transports and Twisted protocols, on both loops' own sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relays.transport import LoopTransport


class Kept(Protocol):
    """Keeps what happens."""

    transport: LoopTransport

    def __init__(self) -> None:
        self.data = b""
        self.made, self.lost = asyncio.Event(), asyncio.Event()
        self.reason: Failure | None = None

    def connectionMade(self) -> None:
        self.made.set()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.reason = reason
        self.lost.set()


@implementer(IHalfCloseableProtocol)
class HalfClosing(Kept):
    """Goes on writing when its peer has ended."""

    half = False

    def readConnectionLost(self) -> None:
        self.half = True
        self.transport.write(b"and more")
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


@asynccontextmanager
async def connected(protocol: Kept) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: LoopTransport(protocol, loop), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await protocol.made.wait()
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


async def test_it_is_a_tcp_transport_to_twisted() -> None:
    protocol = Kept()
    async with connected(protocol) as (reader, writer):
        transport = protocol.transport
        verifyObject(ITCPTransport, transport)
        assert transport.getPeer().port == writer.get_extra_info("sockname")[1]
        assert transport.getHost().port == writer.get_extra_info("peername")[1]
        transport.setTcpKeepAlive(True)
        assert transport.getTcpKeepAlive()
        assert transport.getTcpNoDelay()
        assert transport.established
        transport.writeSequence([b"ab", b"cd"])
        assert await reader.readexactly(4) == b"abcd"


async def test_close_flushes_and_abort_does_not_wait() -> None:
    for end, reason in (("loseConnection", ConnectionDone), ("abortConnection", ConnectionAborted)):
        protocol = Kept()
        async with connected(protocol) as (reader, _):
            protocol.transport.write(b"x" * 1_000_000)
            getattr(protocol.transport, end)()
            if end == "loseConnection":
                assert len(await reader.read()) == 1_000_000
            await protocol.lost.wait()
            assert protocol.reason is not None
            assert protocol.reason.check(reason)
            protocol.transport.write(b"nobody is there")
            protocol.transport.pauseProducing()
            protocol.transport.resumeProducing()
            assert not protocol.transport.established


async def test_half_close_both_ways() -> None:
    protocol = HalfClosing()
    async with connected(protocol) as (reader, writer):
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b"and more"
        assert (protocol.data, protocol.half) == (b"last", True)
    protocol = Kept()
    async with connected(protocol) as (reader, writer):
        protocol.transport.loseWriteConnection()
        assert await reader.read() == b""
        writer.write(b"still")
        while protocol.data != b"still":  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_last_words_arrive_though_the_peer_goes_on_sending() -> None:
    protocol = Kept()
    async with connected(protocol) as (reader, writer):
        writer.write(b"x" * 500_000)
        protocol.transport.pauseProducing()
        protocol.transport.write(b"last words")
        protocol.transport.finish()
        protocol.transport.finish()
        assert await reader.read() == b"last words"
        writer.close()
        await protocol.lost.wait()


async def test_a_paused_producer_is_told_when_it_may_go_on() -> None:
    told: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            told.append("pause")

        def resumeProducing(self) -> None:
            told.append("resume")

        def stopProducing(self) -> None: ...

    protocol = Kept()
    async with connected(protocol) as (reader, _):
        protocol.transport.registerProducer(Producer(), True)
        protocol.transport.write(b"x" * 8_000_000)
        await asyncio.sleep(0)
        assert told == ["pause"]
        protocol.transport.loseConnection()  # waits for the producer to unregister
        assert len(await reader.readexactly(8_000_000)) == 8_000_000
        assert told == ["pause", "resume"]
        protocol.transport.unregisterProducer()
        assert await reader.read() == b""
