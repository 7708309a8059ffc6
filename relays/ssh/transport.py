"""Key exchanges (RFC 4253 section 7), of both ends: who proposes what and when, in which order messages may come, when keys are due.

Conch keeps the mathematics and the derivation of keys. It takes any message at any time, starts no key exchange by itself, and lets the
other side start as many as it likes; so all of that is here, with strict key exchange.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relays.ssh import algorithms
from relays.ssh.ciphers import open_with, seal_with
from relays.ssh.negotiation import Agreed, KexInit, agree
from relays.ssh.packets import (
    AGREED,
    DEBUG,
    DISCONNECT,
    EXT_INFO,
    IDLE,
    IGNORE,
    KEX_INIT,
    KEXINIT,
    KEYED,
    NEWKEYS,
    OFFERED,
    PacketTransport,
)
from relays.wire import RemoteProtocolError

if TYPE_CHECKING:
    from relays.outside import Outside

KEX_FAILED: Final = 3  # SSH_DISCONNECT_KEY_EXCHANGE_FAILED
EXCHANGE_SECONDS: Final = 30.0  # for a key exchange
EXCHANGES: Final = 32  # key exchanges that a peer may start at once, and one more for each of:
EXCHANGE_BYTES: Final = (
    16 << 10
)  # traffic (OpenSSH 9.2 with RekeyLimit=512K starts one with each full packet: it adds bytes to blocks), and
EXCHANGE_PAUSE: Final = 1.0  # and seconds
_LETTERS: Final = (b"A", b"B", b"C", b"D", b"E", b"F")  # RFC 4253 section 7.2


@dataclass(frozen=True, slots=True)
class RekeyAfter:
    """New keys are due after this much. RFC 4253 section 9 recommends these; packets are far from where AES-GCM or MACs wear out."""

    bytes: int = 1 << 30  # both directions together
    seconds: float = 3600.0


class Transport(PacketTransport):
    """One end of a connection. `ServerTransport` and `ClientTransport` say what differs."""

    rekey_after = RekeyAfter()

    def __init__(self, outside: Outside) -> None:
        super().__init__(outside)
        self.agreed: Agreed | None = None
        self.strict = False
        self.keyed_once = False  # the first key exchange is complete
        self.their_offer: KexInit | None = None  # what the other side proposed before we did
        self._skip_guess = False  # the next key exchange message answers a wrong guess
        self.left = self.rekey_after.bytes
        self._allowed, self._allowed_at, self._allowed_left = float(EXCHANGES), time.monotonic(), 0

    def version_received(self) -> None:
        self.sendKexInit()

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """One message that is not simply a service's. Raises RemoteProtocolError where it may not come now."""
        number = messageNum
        first = self.sessionID is None or (self.state == KEYED and not self.keyed_once)
        if number == DISCONNECT:
            self._disconnected(payload)
        elif number == KEXINIT:
            self._kexinit(payload)
        elif self.state == AGREED and KEX_INIT <= number < 50:
            if self._skip_guess:
                self._skip_guess = False
            else:
                self.exchange(number, payload)
        elif self.state == KEYED and number == NEWKEYS:
            self._newkeys(payload)
        elif IGNORE <= number <= DEBUG:
            # strict key exchange: what could shift sequence numbers in the first exchange ends it
            if first and self.strict:
                raise RemoteProtocolError("a message that does not belong into a key exchange")
        elif first or self.state >= AGREED or KEXINIT <= number < 50:
            raise RemoteProtocolError("a message that may not come during a key exchange, or only then")
        elif number == EXT_INFO:
            self.ssh_EXT_INFO(payload)
        else:
            self.received(number, payload)

    # --- key exchange

    def offer(self) -> KexInit:
        """What we propose now."""
        raise NotImplementedError

    def exchange(self, number: int, payload: bytes) -> None:
        """A message of the key exchange's own, between both KEXINIT and NEWKEYS."""
        raise NotImplementedError

    def agreement(self, agreed: Agreed) -> None:
        """Both have proposed; the client goes on."""

    def secured(self) -> None:
        """The first key exchange is complete."""

    def sendKexInit(self) -> None:
        """Begin a key exchange, or answer the other side's beginning."""
        self.ourKexInitPayload = self.offer().build(secrets.token_bytes(16))
        self.blocked = []
        self.state = OFFERED
        self.after("exchange", EXCHANGE_SECONDS, self._exchange_late)
        self.send(KEXINIT, self.ourKexInitPayload[1:])

    def rekey(self) -> None:
        self.left = self.rekey_after.bytes
        if self.state == IDLE and self.keyed_once and not self.over:
            self.sendKexInit()

    def _exchange_late(self) -> None:
        self.end("the key exchange took too long", KEX_FAILED)

    def _kexinit(self, payload: bytes) -> None:
        if self.state >= AGREED:
            raise RemoteProtocolError("a key exchange begins in the middle of another")
        self.otherKexInitPayload = bytes((KEXINIT,)) + payload
        theirs = KexInit.parse(payload)
        if self.state == IDLE:
            self._spend_exchange()
            self.their_offer = theirs
            self.sendKexInit()
        first = not self.keyed_once
        ours = KexInit.parse(self.ourKexInitPayload[1:])
        agreed = agree(ours, theirs, client=bool(self.isClient))
        if first:
            marks = {algorithms.STRICT_SERVER, algorithms.STRICT_CLIENT}
            self.strict = not marks.isdisjoint(ours.kex) and not marks.isdisjoint(theirs.kex)
            if self.strict and self.opening.sequence != 1:
                raise RemoteProtocolError("the first message is not the beginning of a key exchange")
            self._peerSupportsExtensions = (algorithms.EXT_INFO_SERVER if self.isClient else algorithms.EXT_INFO_CLIENT) in theirs.kex
        self.agreed, self.kexAlg, self.keyAlg = agreed, agreed.kex, agreed.host_key
        self._skip_guess = agreed.wrong_guess
        self.state = AGREED
        self.agreement(agreed)

    def _spend_exchange(self) -> None:
        """A key exchange costs us more than it costs the peer: it may start many only as traffic or time goes by."""
        now = time.monotonic()
        moved = max(0, self._allowed_left - self.left) / EXCHANGE_BYTES
        self._allowed = min(float(EXCHANGES), self._allowed + moved + (now - self._allowed_at) / EXCHANGE_PAUSE) - 1
        self._allowed_at = now
        if self._allowed < 0:
            raise RemoteProtocolError("more key exchanges than its traffic needs")

    def _keySetup(self, sharedSecret: bytes, exchangeHash: bytes) -> None:
        """Derive the keys (RFC 4253 section 7.2), say NEWKEYS, and send with the new ones from here on."""
        if self.sessionID is None:
            self.sessionID = exchangeHash
        iv_c, iv_s, key_c, key_s, mac_c, mac_s = (self._getKey(letter, sharedSecret, exchangeHash) for letter in _LETTERS)
        agreed = self.agreed
        assert agreed is not None
        outward, inward = (iv_c, key_c, mac_c), (iv_s, key_s, mac_s)
        if not self.isClient:
            outward, inward = inward, outward
        self.send(NEWKEYS)
        sequence = 0 if self.strict else self.sealing.sequence
        self.sealing = seal_with(agreed.cipher_out, agreed.mac_out, outward[1], outward[0], outward[2])
        self.sealing.sequence = sequence
        self._next_open = open_with(agreed.cipher_in, agreed.mac_in, inward[1], inward[0], inward[2])
        self.state = KEYED
        self.keyed()
        waiting, self.blocked = self.blocked or [], None
        for number, pieces in waiting:
            self.send(number, *pieces)

    def keyed(self) -> None:
        """Our NEWKEYS has gone: the next message is the first with the new keys."""

    def _newkeys(self, payload: bytes) -> None:
        if payload:
            raise RemoteProtocolError("NEWKEYS takes no data")
        self._next_open.sequence = 0 if self.strict else self.opening.sequence
        self.opening = self._next_open
        self.state = IDLE
        self.cancel("exchange")
        self.left = self._allowed_left = self.rekey_after.bytes
        self.after("rekey", self.rekey_after.seconds, self.rekey)
        if not self.keyed_once:
            self.keyed_once = True
            self.secured()
