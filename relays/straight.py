"""Writes that go into the socket at once where nothing waits before them, instead of in the loop's next turn.

For a statement of 100 bytes the loop's own way (a queue, a list of buffers, a callback at the end of the turn) costs as much as judging it.
Whatever the socket does not take, and every error, is left to the transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

try:
    from relays._straight import Straight
except ImportError:  # not compiled
    Straight = None


def writer(transport: asyncio.Transport) -> Callable[[bytes], None]:
    """What writes to `transport`, in order with what its own `write` does."""
    sock = transport.get_extra_info("socket")
    if Straight is None or sock is None or transport.get_extra_info("ssl_object") is not None:
        return transport.write
    write: Callable[[bytes], None] = Straight(transport, sock.fileno()).write
    return write
