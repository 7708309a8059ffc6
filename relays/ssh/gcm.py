"""AES-GCM, as `aes*-gcm@openssh.com`: RFC 5647, with the cipher's own MAC for the whole packet.

The length goes in the clear as additional data, the nonce is a fixed part and a counter. This is the twin in Python of `_gcm.pyx`, which
is used where it could be built: packets are most of what a relay of files does.
"""

from __future__ import annotations

import secrets
import types
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relays.ssh.framing import MIN_PADDING, check_length, check_padding, padding_for
from relays.wire import RemoteProtocolError

try:
    from relays.ssh import _gcm as _compiled
except ImportError:  # not compiled
    _compiled = None

_BLOCK: Final = 16
_TAG: Final = 16
_COUNTER: Final = 0xFFFFFFFFFFFFFFFF
_SEQUENCE: Final = 0xFFFFFFFF


class GcmSeal:
    """Payloads to packets. `key` of 16 or 32 bytes, `iv` of 12."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self.sequence = 0
        self._aead = AESGCM(key)
        self._fixed, self._counter = iv[:4], int.from_bytes(iv[4:12], "big")
        # of no use to AEAD; RFC 4253 asks for random bytes, not for new ones each time
        self._padding = tuple(secrets.token_bytes(size) for size in range(_BLOCK + MIN_PADDING))

    def seal(self, number: int, pieces: tuple[bytes | memoryview, ...]) -> bytearray:
        size = 2 + sum(map(len, pieces))
        padding = padding_for(size, _BLOCK)
        length = size + padding
        plain = b"".join((bytes((padding, number)), *pieces, self._padding[padding]))
        packet = bytearray(4 + length + _TAG)
        packet[:4] = prefix = length.to_bytes(4, "big")
        counter = self._counter
        with memoryview(packet) as view:
            self._aead.encrypt_into(self._fixed + counter.to_bytes(8, "big"), plain, prefix, view[4:])
        self._counter = counter + 1 & _COUNTER
        self.sequence = self.sequence + 1 & _SEQUENCE
        return packet


class GcmOpen:
    """The other end of `GcmSeal`."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self.sequence = 0
        self._aead = AESGCM(key)
        self._fixed, self._counter = iv[:4], int.from_bytes(iv[4:12], "big")

    def missing(self, data: bytearray) -> int:
        if len(data) < 4:
            return 4 - len(data)
        return max(1, 4 + int.from_bytes(data[:4], "big") + _TAG - len(data))

    def open(self, data: bytes | bytearray, at: int, limit: int) -> tuple[bytes, int] | None:
        start = at + 4
        if len(data) < start:
            return None
        length = int.from_bytes(data[at:start], "big")
        check_length(length, _BLOCK, limit)
        end = start + length + _TAG
        if len(data) < end:
            return None
        counter = self._counter
        with memoryview(data) as view:
            try:
                packet = self._aead.decrypt(self._fixed + counter.to_bytes(8, "big"), view[start:end], view[at:start])
            except InvalidTag:
                raise RemoteProtocolError("a packet that was altered on its way") from None
        self._counter = counter + 1 & _COUNTER
        self.sequence = self.sequence + 1 & _SEQUENCE
        return check_padding(packet), end


gcm: Any = _compiled or types.SimpleNamespace(GcmSeal=GcmSeal, GcmOpen=GcmOpen)
