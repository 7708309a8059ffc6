"""The yardstick that inspects nothing: Twisted's own port forwarder on its default reactor.

python -m playground.bench.forwarder LISTEN TARGET
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.protocols.portforward import ProxyFactory


def main(listen: int, target: int) -> None:
    reactor: Any = _reactor
    reactor.listenTCP(listen, ProxyFactory("127.0.0.1", target), interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
