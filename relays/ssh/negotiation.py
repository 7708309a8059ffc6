"""KEXINIT (RFC 4253 section 7.1): what each side proposes, and what both then use. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.conch.ssh.common import NS, getNS

from relays.ssh import algorithms
from relays.ssh.ciphers import GCM_KEYS, NO_MAC
from relays.wire import RemoteProtocolError

KEXINIT: Final = 20
MAX_NAMES: Final = 256  # in one list; OpenSSH's longest has about 25
_LISTS: Final = 10


type Names = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KexInit:
    """One side's proposal: lists of names, the best first."""

    kex: Names
    host_keys: Names
    ciphers_out: Names  # from client to server
    ciphers_in: Names
    macs_out: Names
    macs_in: Names
    compressions_out: Names = algorithms.COMPRESSIONS
    compressions_in: Names = algorithms.COMPRESSIONS
    guessed: bool = False  # a key exchange message that suits its own first choice follows at once

    @classmethod
    def both(cls, kex: Names, host_keys: Names, ciphers: Names) -> KexInit:
        """The same for both directions."""
        return cls(kex, host_keys, ciphers, ciphers, algorithms.MAC_NAMES, algorithms.MAC_NAMES)

    def build(self, cookie: bytes) -> bytes:
        """The message, its number first; `cookie` is 16 random bytes."""
        lists = (self.kex, self.host_keys, self.ciphers_out, self.ciphers_in, self.macs_out, self.macs_in)
        compressions = (self.compressions_out, self.compressions_in)
        names = b"".join(NS(b",".join(each)) for each in (*lists, *compressions, (), ()))
        return bytes((KEXINIT,)) + cookie + names + bytes((self.guessed, 0, 0, 0, 0))

    @classmethod
    def parse(cls, payload: bytes) -> KexInit:
        """Read the message behind its number. Raises RemoteProtocolError, struct.error."""
        *lists, rest = getNS(payload[16:], _LISTS)
        if len(rest) < 5:
            raise RemoteProtocolError("a key exchange that begins with half a message")
        names = [tuple(each.split(b",")) for each in lists]
        if any(len(each) > MAX_NAMES for each in names):
            raise RemoteProtocolError("a key exchange that proposes too many algorithms")
        return cls(*names[:8], guessed=bool(rest[0]))


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both use until the next key exchange; `out` is away from us."""

    kex: bytes
    host_key: bytes  # the algorithm of its signature
    cipher_out: bytes
    cipher_in: bytes
    mac_out: bytes
    mac_in: bytes
    wrong_guess: bool  # the other side's next key exchange message is to be ignored


def agree(ours: KexInit, theirs: KexInit, *, client: bool) -> Agreed:
    """The client's first choice that the server has too, list by list. Raises RemoteProtocolError, which names the list."""
    asks, answers = (ours, theirs) if client else (theirs, ours)
    kex = _first(asks.kex, answers.kex, "key exchange")
    host_key = _first(asks.host_keys, answers.host_keys, "host key")
    forth = _first(asks.ciphers_out, answers.ciphers_out, "cipher")
    back = _first(asks.ciphers_in, answers.ciphers_in, "cipher")
    mac_forth = NO_MAC if forth in GCM_KEYS else _first(asks.macs_out, answers.macs_out, "MAC")
    mac_back = NO_MAC if back in GCM_KEYS else _first(asks.macs_in, answers.macs_in, "MAC")
    _first(asks.compressions_out, answers.compressions_out, "compression")
    _first(asks.compressions_in, answers.compressions_in, "compression")
    # a guess is right when both sides like the same best: RFC 4253 section 7.1
    wrong = theirs.guessed and (theirs.kex[0], theirs.host_keys[0]) != (ours.kex[0], ours.host_keys[0])
    if client:
        return Agreed(kex, host_key, forth, back, mac_forth, mac_back, wrong)
    return Agreed(kex, host_key, back, forth, mac_back, mac_forth, wrong)


def _first(asked: Names, offered: Names, what: str) -> bytes:
    for name in asked:
        if name in offered and name not in _MARKS:
            return name
    raise RemoteProtocolError(f"no {what} algorithm in common: {_shown(offered)} on one side, {_shown(asked)} on the other")


def _shown(names: Names) -> str:
    """Some of the names; they may be anything."""
    known = [name.decode() for name in names if name.isascii() and name.decode().isprintable() and name not in _MARKS]
    return ",".join(known)[:300]


_MARKS: Final = frozenset((algorithms.STRICT_CLIENT, algorithms.STRICT_SERVER, algorithms.EXT_INFO_CLIENT, algorithms.EXT_INFO_SERVER, b""))
