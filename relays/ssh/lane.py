"""The short way for data that goes from a channel of one leg to a channel of the other as it came: out of one packet and into the next.

Most bytes of a file transfer go this way. Whatever is not plainly so (something waits, a window is too small, an end has been said)
takes the way of all data, through `Channel.got_data` and its owner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relays.ssh import codec
from relays.ssh.channel import MAX_PACKET, Channel
from relays.ssh.codec import TWO

_LEAST_GRANT: Final = 2  # one part in that many of a window, as `Channel.grant`


class Lane:
    """From `source` to `target`. `passes` sees all data first. True: it goes on as it is. False: it has been dealt with otherwise."""

    __slots__ = ("_passes", "_source", "_target")

    def __init__(self, source: Channel, target: Channel, passes: Callable[[memoryview], bool]) -> None:
        self._source = source
        self._target = target
        self._passes = passes

    def take(self, packet: bytes, begin: int, size: int) -> bool:
        """Pass on `size` bytes of data at `begin`. False: nothing was done, they cannot go this way now."""
        source, target = self._source, self._target
        connection = target.connection
        if (
            not 0 < size <= MAX_PACKET
            or size > source.window_in
            or source.gone
            or source.eof_received
            or source.close_received
            or size > target.window_out
            or size > target.packet_out
            or target.ended
            or target.queue
            or not target.ready
            or connection.full
        ):
            return False
        source.window_in -= size
        view = memoryview(packet)[begin : begin + size]
        try:
            if self._passes(view):
                target.window_out -= size
                connection.send(codec.CHANNEL_DATA, TWO.pack(target.recipient, size), view)
                if source.window_in * _LEAST_GRANT <= source.window:
                    source.grant()
        except Exception as error:
            source.broken(error)
        return True
