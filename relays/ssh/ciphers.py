"""One direction of an SSH connection: payloads to packets (RFC 4253 section 6) and back. Sans-IO.

AES-GCM (`relays.ssh.gcm`) authenticates and encrypts a whole packet in one call, a fourth of the cost of CTR with an HMAC in Python. CTR
with HMAC is for clients that lack GCM. There is no CBC, no chacha20 and no encrypt-then-MAC.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from relays.ssh.framing import check_length, check_padding, padding_for
from relays.ssh.gcm import gcm
from relays.wire import RemoteProtocolError

GCM_KEYS: Final = {b"aes256-gcm@openssh.com": 32, b"aes128-gcm@openssh.com": 16}  # name -> bytes of the key
CTR_KEYS: Final = {b"aes256-ctr": 32, b"aes192-ctr": 24, b"aes128-ctr": 16}
MACS: Final = {b"hmac-sha2-512": ("sha512", 64), b"hmac-sha2-256": ("sha256", 32)}  # name -> hash, bytes of key and MAC
NO_MAC: Final = b""  # with GCM, whose MAC is its own
MORE: Final = 1 << 30
_BLOCK: Final = 16
_SEQUENCE: Final = 0xFFFFFFFF


class Seal(Protocol):
    """Payloads of one direction to packets."""

    sequence: int  # of the next packet

    def seal(self, number: int, pieces: tuple[bytes | memoryview, ...]) -> bytes | bytearray:
        """The packet whose payload is the message number and then all pieces."""
        ...


class Open(Protocol):
    """Packets of one direction to payloads."""

    sequence: int  # of the next packet

    def open(self, data: bytes | bytearray, at: int, limit: int) -> tuple[bytes, int] | None:
        """The packet that begins at `at`, and where the next one begins; None: it has not come whole.

        The packet without its length: padding length, payload, padding (so the payload is [1:-[0]], not empty). Raises RemoteProtocolError:
        longer than `limit`, or altered.
        """
        ...

    def missing(self, data: bytearray) -> int:
        """How many bytes more make `data` one whole packet, if that is known; else any number above 0."""
        ...


# --- before the first keys


class PlainSeal:
    """Packets in the clear, until the first keys."""

    def __init__(self) -> None:
        self.sequence = 0

    def seal(self, number: int, pieces: tuple[bytes | memoryview, ...]) -> bytes:
        payload = bytes((number,)) + b"".join(pieces)
        padding = padding_for(5 + len(payload), 8)
        self.sequence = self.sequence + 1 & _SEQUENCE
        return (1 + len(payload) + padding).to_bytes(4, "big") + bytes((padding,)) + payload + bytes(padding)


class PlainOpen:
    """Packets in the clear, until the first keys."""

    def __init__(self) -> None:
        self.sequence = 0

    def missing(self, data: bytearray) -> int:
        return MORE

    def open(self, data: bytes | bytearray, at: int, limit: int) -> tuple[bytes, int] | None:
        if len(data) - at < 4:
            return None
        length = int.from_bytes(data[at : at + 4], "big")
        check_length(length + 4, 8, limit)
        end = at + 4 + length
        if len(data) < end:
            return None
        self.sequence = self.sequence + 1 & _SEQUENCE
        return check_padding(bytes(data[at + 4 : end])), end


# --- AES-CTR with an HMAC over sequence number and plain packet (RFC 4344, RFC 4253 section 6.4)


def _keyed(mac: bytes, key: bytes) -> tuple[Callable[[int, bytes], bytes], int]:
    name, size = MACS[mac]
    keyed = hmac.new(key[:size], digestmod=name)

    def digest(sequence: int, packet: bytes) -> bytes:
        one = keyed.copy()
        one.update(sequence.to_bytes(4, "big"))
        one.update(packet)
        return one.digest()

    return digest, size


class CtrSeal:
    """Encrypts, and MACs what was not encrypted yet."""

    def __init__(self, name: bytes, key: bytes, iv: bytes, mac: bytes, mac_key: bytes) -> None:
        self.sequence = 0
        self._update = Cipher(algorithms.AES(key[: CTR_KEYS[name]]), modes.CTR(iv[:_BLOCK])).encryptor().update
        self._digest, _ = _keyed(mac, mac_key)

    def seal(self, number: int, pieces: tuple[bytes | memoryview, ...]) -> bytes:
        size = 2 + sum(map(len, pieces))
        padding = padding_for(4 + size, _BLOCK)
        packet = b"".join(((size + padding).to_bytes(4, "big"), bytes((padding, number)), *pieces, secrets.token_bytes(padding)))
        sealed = self._update(packet) + self._digest(self.sequence, packet)
        self.sequence = self.sequence + 1 & _SEQUENCE
        return sealed


class CtrOpen:
    """The other end of `CtrSeal`. The first block is decrypted before the packet is whole: it holds the length."""

    def __init__(self, name: bytes, key: bytes, iv: bytes, mac: bytes, mac_key: bytes) -> None:
        self.sequence = 0
        self._update = Cipher(algorithms.AES(key[: CTR_KEYS[name]]), modes.CTR(iv[:_BLOCK])).decryptor().update
        self._digest, self._mac = _keyed(mac, mac_key)
        self._first = b""

    def missing(self, data: bytearray) -> int:
        return MORE

    def open(self, data: bytes | bytearray, at: int, limit: int) -> tuple[bytes, int] | None:
        if not self._first:
            if len(data) - at < _BLOCK:
                return None
            self._first = self._update(bytes(data[at : at + _BLOCK]))
        length = int.from_bytes(self._first[:4], "big")
        check_length(length + 4, _BLOCK, limit)
        end = at + 4 + length
        if len(data) < end + self._mac:
            return None
        packet = self._first + self._update(bytes(data[at + _BLOCK : end]))
        if not hmac.compare_digest(self._digest(self.sequence, packet), data[end : end + self._mac]):
            raise RemoteProtocolError("a packet that was altered on its way")
        self._first = b""
        self.sequence = self.sequence + 1 & _SEQUENCE
        return check_padding(packet[4:]), end + self._mac


def seal_with(cipher: bytes, mac: bytes, key: bytes, iv: bytes, mac_key: bytes) -> Seal:
    """For the direction away from us."""
    return gcm.GcmSeal(key[: GCM_KEYS[cipher]], iv[:12]) if cipher in GCM_KEYS else CtrSeal(cipher, key, iv, mac, mac_key)


def open_with(cipher: bytes, mac: bytes, key: bytes, iv: bytes, mac_key: bytes) -> Open:
    """For the direction towards us."""
    return gcm.GcmOpen(key[: GCM_KEYS[cipher]], iv[:12]) if cipher in GCM_KEYS else CtrOpen(cipher, key, iv, mac, mac_key)
