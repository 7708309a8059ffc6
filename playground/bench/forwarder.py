"""The yardstick that inspects nothing: Twisted's own port forwarder on its default reactor.

python -m playground.bench.forwarder LISTEN TARGET
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.protocols.portforward import ProxyFactory

reactor: Any = _reactor


def listen(port: int, target: int) -> Any:
    """Forward a port (0: one that is free) of loopback to another; Twisted's IListeningPort."""
    return reactor.listenTCP(port, ProxyFactory("127.0.0.1", target), interface="127.0.0.1")


if __name__ == "__main__":
    listen(int(sys.argv[1]), int(sys.argv[2]))
    reactor.run()
