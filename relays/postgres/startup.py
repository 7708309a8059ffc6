"""What a PostgreSQL client says before it is anybody: requests for encryption, cancel requests, the start-up message. No I/O.

These packets have no type byte (PostgreSQL documentation, section 54.7, "StartupMessage" and its neighbours).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from relays.postgres.codec import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    MAX_KEY,
    MAX_STARTUP,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    Body,
    text,
)
from relays.wire import RemoteProtocolError

MAX_PARAMETERS: Final = 100

# Settings that a client may bring. Each changes how values are shown or how long something may take, never what a statement means
# or whose it is; `rules.sql.settings` has the same list for SET.
SETTINGS: Final = frozenset(
    [
        "application_name",
        "datestyle",
        "intervalstyle",
        "timezone",
        "extra_float_digits",
        "bytea_output",
        "client_min_messages",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
        "lc_messages",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "xmlbinary",
        "xmloption",
        "escape_string_warning",
        "jit",
        "plan_cache_mode",
        "geqo",
        "cursor_tuple_fraction",
        "default_transaction_isolation",
        "default_transaction_deferrable",
    ]
)
# others that may be brought with the one value that they have here anyway
PINNED: Final[Mapping[str, frozenset[str]]] = {
    "client_encoding": frozenset({"utf8", "unicode"}),
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    "replication": frozenset({"false", "off", "no", "0", ""}),
}


class StartupRefused(RemoteProtocolError):
    """The client asks for something that it cannot have. `code` is the SQLSTATE, the message is for the client."""


@dataclass(frozen=True, slots=True)
class SSLRequest:
    """May we speak TLS? Answered by one byte."""

    def build(self) -> bytes:
        return _packet(SSL_REQUEST)


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    """May we encrypt by GSSAPI? Answered by one byte."""

    def build(self) -> bytes:
        return _packet(GSSENC_REQUEST)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Stop what the connection with this key is doing. Never answered."""

    pid: int
    secret: bytes = field(repr=False)

    def build(self) -> bytes:
        return _packet(CANCEL_REQUEST, self.pid.to_bytes(4, "big") + self.secret)


@dataclass(frozen=True, slots=True)
class Startup:
    """Who wants which database, in which minor version of protocol 3, with which settings."""

    version: int
    parameters: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes) -> bytes:
        return next((value for each, value in self.parameters if each == name), b"")

    def build(self) -> bytes:
        body = b"".join(text(name) + text(value) for name, value in self.parameters)
        return _packet(self.version, body + b"\0")


type StartupPacket = SSLRequest | GSSENCRequest | CancelRequest | Startup


def _packet(code: int, body: bytes = b"") -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + code.to_bytes(4, "big") + body


def packet_length(header: bytes) -> int:
    """How long the packet is that begins with these 4 bytes. Raises RemoteProtocolError."""
    length = int.from_bytes(header[:4], "big")
    if not 8 <= length <= MAX_STARTUP:
        raise RemoteProtocolError("invalid length of the start-up packet", "08P01")
    return length


def parse_packet(packet: bytes) -> StartupPacket:
    """One whole packet, its length included. Raises RemoteProtocolError, StartupRefused."""
    if len(packet) < 8 or packet_length(packet) != len(packet):
        raise RemoteProtocolError("invalid length of the start-up packet", "08P01")
    code, body = int.from_bytes(packet[4:8], "big"), packet[8:]
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        if body:
            raise RemoteProtocolError("a request for encryption has no content", "08P01")
        return SSLRequest() if code == SSL_REQUEST else GSSENCRequest()
    if code == CANCEL_REQUEST:
        if not 8 <= len(body) <= 4 + MAX_KEY:
            raise RemoteProtocolError("a cancel request has an invalid length", "08P01")
        return CancelRequest(int.from_bytes(body[:4], "big"), body[4:])
    if code >> 16 != 3:
        raise StartupRefused(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: this server speaks 3.0 to 3.2", "0A000")
    return Startup(code, _parameters(body))


def _parameters(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    cursor, found = Body(body), []
    while name := cursor.string():
        found.append((name, cursor.string()))
        if len(found) > MAX_PARAMETERS:
            raise RemoteProtocolError("too many parameters in the start-up packet", "08P01")
    cursor.end()
    # two values for one name: the server would take the last, a reader of the first would be deceived
    if len({name for name, _ in found}) != len(found):
        raise RemoteProtocolError("a parameter comes twice in the start-up packet", "08P01")
    return tuple(found)


def negotiated(startup: Startup) -> tuple[int, tuple[bytes, ...]]:
    """The version to speak with this client, and the `_pq_.` options that it must be told are not known here."""
    # 3.1 was never a version; a server that is asked for it answers 3.0 or 3.2, and clients that ask for it take either
    version = PROTOCOL_3_2 if startup.version >= PROTOCOL_3_2 else PROTOCOL_3_0
    return version, tuple(name for name, _ in startup.parameters if name.startswith(b"_pq_."))


def needs_negotiation(startup: Startup) -> bool:
    """Whether the client must be sent a NegotiateProtocolVersion."""
    version, options = negotiated(startup)
    return version != startup.version or bool(options)


def settings_of(startup: Startup) -> dict[str, str]:
    """The settings that the client brings, `options` taken apart, names in lower case. Raises StartupRefused for one that it may not."""
    found: dict[str, str] = {}
    for name, value in startup.parameters:
        if name in (b"user", b"database") or name.startswith(b"_pq_."):
            continue
        if name == b"options":
            for each, setting in parse_options(_decoded(value)):
                _accept(found, each, setting)
        else:
            _accept(found, _decoded(name), _decoded(value))
    return found


def _accept(found: dict[str, str], name: str, value: str) -> None:
    folded = name.lower()
    if folded == "replication" and value.lower() not in PINNED["replication"]:
        raise StartupRefused("replication does not go through this gateway", "0A000")
    allowed = PINNED.get(folded)
    if allowed is not None:
        if value.lower().strip("'\"").replace("-", "") not in allowed:
            raise StartupRefused(f'the parameter "{folded}" cannot have that value here', "22023")
    elif folded in SETTINGS:
        found[folded] = value
    else:
        raise StartupRefused(f'the parameter "{_shown(name)}" cannot be set at start-up here', "42501")


def parse_options(options: str) -> list[tuple[str, str]]:
    """`-c a=b --c-d=e` as [("a", "b"), ("c_d", "e")]: what a server makes of PGOPTIONS. Raises StartupRefused for any other switch.

    Words are split at white space that no backslash precedes (pg_split_opts of postinit.c).
    """
    words = iter(_words(options))
    found = []
    for word in words:
        if word == "-c":
            setting = next(words, "")
        elif word.startswith(("-c", "--")):
            setting = word[2:]
        else:
            raise StartupRefused("options may hold only -c name=value and --name=value", "42501")
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise StartupRefused("options may hold only -c name=value and --name=value", "42501")
        found.append((name.replace("-", "_"), value))
    return found


def _words(options: str) -> Iterable[str]:
    word, started, escaped = [], False, False
    for character in options:
        if escaped or character == "\\":
            started = True
            if escaped:
                word.append(character)
            escaped = not escaped
        elif character in " \t\n\r\v\f":
            if started:
                yield "".join(word)
            word, started = [], False
        else:
            started = True
            word.append(character)
    if started:
        yield "".join(word)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise StartupRefused("a parameter of the start-up packet is not UTF-8", "08P01") from None


def _shown(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:64])
