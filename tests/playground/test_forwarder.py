"""The yardstick of the benchmark passes everything on, both ways, on Twisted's own reactor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest_twisted
from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from playground.bench import forwarder

DATA = bytes(range(256)) * 1024


class Echo(protocol.Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


class Asking(protocol.Protocol):
    """Sends DATA; `answered` fires with as many bytes as came back when there are enough of them, or no more."""

    def __init__(self) -> None:
        self.answered: Deferred[bytes] = Deferred()
        self._answer = b""

    def connectionMade(self) -> None:
        self.transport.write(DATA)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self._answer += data
        if len(self._answer) == len(DATA):
            self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: object = None) -> None:
        self.answered.callback(self._answer)


@pytest_twisted.inlineCallbacks  # type: ignore[untyped-decorator]
def test_bytes_pass_both_ways() -> Iterator[Any]:
    server = forwarder.reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), interface="127.0.0.1")
    between = forwarder.listen(0, server.getHost().port)
    try:
        asking = yield connectProtocol(TCP4ClientEndpoint(forwarder.reactor, "127.0.0.1", between.getHost().port), Asking())
        answer = yield asking.answered
        assert answer == DATA
    finally:
        yield between.stopListening()
        yield server.stopListening()
