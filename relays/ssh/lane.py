"""The short way for data that goes from a channel of one leg to a channel of the other as it came.

Most bytes of a file transfer go this way. Whatever is not plainly so (something waits, a window is too small, an end has been said)
takes the way of all data, through the owner of the channel.
"""

from __future__ import annotations

from collections.abc import Callable

from relays.ssh.channel import Channel


class Lane:
    """From `source` to `target`. `passes` sees all data first. True: it goes on as it is. False: it has been dealt with otherwise."""

    __slots__ = ("_passes", "_source", "_target")

    def __init__(self, source: Channel, target: Channel, passes: Callable[[bytes | memoryview], bool]) -> None:
        self._source = source
        self._target = target
        self._passes = passes

    def take(self, data: bytes | memoryview) -> bool:
        """Pass the data on. False: nothing was done, it cannot go this way now."""
        target = self._target
        if not target.takes_now(len(data)):
            return False
        if self._passes(data):
            target.send_data(data)
            self._source.grant()
        return True
