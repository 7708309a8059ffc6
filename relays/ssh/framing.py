"""The bounds of packets, RFC 4253 section 6."""

from __future__ import annotations

from typing import Final

from relays.wire import RemoteProtocolError

MIN_PADDING: Final = 4


def check_length(length: int, block: int, limit: int) -> None:
    """`length` is what must be a multiple of `block`. Raises RemoteProtocolError."""
    if not 8 <= length <= limit + 4 or length % block:
        raise RemoteProtocolError("a packet of a length that none may have")


def check_padding(packet: bytes) -> bytes:
    """Raises RemoteProtocolError unless padding is as it must be and leaves at least a message number."""
    if not MIN_PADDING <= packet[0] <= len(packet) - 2:
        raise RemoteProtocolError("a packet with a padding that none may have")
    return packet


def padding_for(size: int, block: int) -> int:
    """How much padding `size` bytes need."""
    padding = block - size % block
    return padding if padding >= MIN_PADDING else padding + block
