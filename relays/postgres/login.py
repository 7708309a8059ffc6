"""From the first byte to the first ReadyForQuery: the client proves who it is, the gateway logs in at the target."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hopgate.credentials import Lease
from hopgate.errors import Unauthenticated, Unavailable
from relays.commands import (
    CLIENT,
    SERVER,
    Authenticate,
    Close,
    Connect,
    Conversation,
    FindVerifier,
    LeaseCredential,
    Read,
    Send,
    Side,
    Signal,
    StartTLS,
    Work,
)
from relays.postgres import codec, state
from relays.postgres.auth import AuthFailed, ScramServer, TargetLogin, TokenVerifier, end_point
from relays.postgres.codec import HEADER, check_header, unpack_header
from relays.postgres.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    Startup,
    StartupPacket,
    needs_negotiation,
    negotiated,
    packet_length,
    parse_packet,
    settings_of,
)
from relays.wire import RemoteProtocolError
from rules.model import Principal

if TYPE_CHECKING:
    from relays.relay import Relay

ALPN: Final = "postgresql"
_USER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,62})(?:\+([0-9a-f]{64}))?")
_MOCK_KEY: Final = secrets.token_bytes(32)  # salts of tokens that there are not
_MAX_PARAMETERS: Final = 256  # ParameterStatus messages of a target's start-up


@dataclass(slots=True)
class Wire:
    """Bytes of one side that have come, and not yet been read."""

    relay: Relay
    side: Side
    waiting: bytearray = field(default_factory=bytearray)

    def take(self, count: int) -> Conversation[bytes]:
        """The next `count` bytes. Raises Unavailable when the side ends before."""
        while len(self.waiting) < count:
            more = yield Read(self.side)
            if not more:
                raise _Ended
            self.waiting += more
        taken = bytes(self.waiting[:count])
        del self.waiting[:count]
        return taken

    def message(self, limits: Mapping[int, int]) -> Conversation[tuple[int, bytes]]:
        """The next message: its kind and body."""
        header = yield from self.take(HEADER)
        kind, length = unpack_header(header)
        check_header(kind, length, limits)
        return kind, (yield from self.take(length - 4))


class _Ended(Unavailable):
    def __init__(self) -> None:
        super().__init__("the connection ended during the login")


@dataclass(slots=True)
class Client:
    """A client that has proved who it is."""

    principal: Principal
    connection: str
    version: int
    database: str
    settings: dict[str, str]


# --- the client


def first_packet(wire: Wire) -> Conversation[StartupPacket | None]:
    """The first packet that is more than a request for encryption; None when the client is gone, or was only looking.

    Bytes behind an SSLRequest end the conversation: they came in clear and would be taken for encrypted ones (CVE-2021-23214).
    """
    relay = wire.relay
    if (direct := relay.tls[CLIENT]) is not None and direct.alpn != ALPN:
        # a client that means another protocol may have been led here (ALPACA); the server demands the same (section 54.2.11)
        raise RemoteProtocolError("TLS from the first byte must name the protocol postgresql (ALPN)", "08P01")
    asked: set[type] = set()
    while True:
        try:
            header = yield from wire.take(4)
        except _Ended:
            return None
        packet = parse_packet(header + (yield from wire.take(packet_length(header) - 4)))
        if not isinstance(packet, SSLRequest | GSSENCRequest):
            return packet
        if type(packet) in asked or relay.tls[CLIENT] is not None:
            raise RemoteProtocolError("encryption is asked for more than once", "08P01")
        asked.add(type(packet))
        if wire.waiting:
            raise RemoteProtocolError("received unencrypted data after a request for encryption", "08P01")
        if isinstance(packet, GSSENCRequest) or not relay.offers_tls:
            yield Send(CLIENT, b"N")
        else:
            yield Send(CLIENT, b"S")
            yield StartTLS(CLIENT, (ALPN,))


def identify(wire: Wire, startup: Startup) -> Conversation[Client]:
    """Find out who the client is, by the token that is its password. Raises HopgateError, RemoteProtocolError."""
    version, unknown = negotiated(startup)
    settings = settings_of(startup)
    user = _USER.fullmatch(startup.get(b"user").decode("utf-8", "replace"))
    if needs_negotiation(startup):
        yield Send(CLIENT, codec.NegotiateProtocolVersion(version, unknown).build())
    if user is None:
        raise Unauthenticated("the user name must be the name of a connection")
    if user[2]:
        principal = yield from _by_proof(wire, user[2])
    else:
        principal = yield from _by_password(wire)
    # from here on notices may be sent, which a session that waits for a reviewer needs
    yield Send(CLIENT, codec.Authentication(codec.AUTH_OK).build())
    database = startup.get(b"database").decode("utf-8", "replace")
    return Client(principal, user[1], version, database, settings)


def _by_password(wire: Wire) -> Conversation[Principal]:
    relay = wire.relay
    if relay.tls[CLIENT] is None and not relay.loopback:
        raise Unauthenticated("the token must not cross the network in clear: use TLS (sslmode=require or stricter)")
    yield Send(CLIENT, codec.Authentication(codec.AUTH_CLEARTEXT).build())
    kind, body = yield from wire.message({ord("p"): codec.MAX_PASSWORD})
    assert kind == ord("p")
    try:
        token = codec.Password.parse(body).password.decode("ascii")
    except UnicodeDecodeError:
        raise Unauthenticated("the password is no token") from None
    found: Principal = yield Authenticate(token)
    return found


def _by_proof(wire: Wire, token_id: str) -> Conversation[Principal]:
    """SCRAM: the token itself is not sent, so it can be used where there is no TLS. The user name says which token it is."""
    known = yield FindVerifier(token_id)
    verifier = TokenVerifier.parse(known.text) if known is not None else TokenVerifier.mock(token_id, _MOCK_KEY)
    tls = wire.relay.tls[CLIENT]
    exchange = ScramServer(verifier, end_point=end_point(tls.certificate) if tls is not None and tls.certificate else b"")
    mechanisms = b"".join(codec.text(mechanism.encode()) for mechanism in exchange.mechanisms)
    yield Send(CLIENT, codec.Authentication(codec.AUTH_SASL, mechanisms + b"\0").build())
    limits = {ord("p"): codec.MAX_PASSWORD}
    try:
        initial = codec.SASLInitialResponse.parse((yield from wire.message(limits))[1])
        first = exchange.first(initial.data or b"", initial.mechanism.decode("ascii", "replace"))
        yield Send(CLIENT, codec.Authentication(codec.AUTH_SASL_CONTINUE, first).build())
        final = exchange.final(codec.SASLResponse.parse((yield from wire.message(limits))[1]).data)
    except AuthFailed as error:
        raise Unauthenticated(str(error)) from None
    if known is None:
        raise Unauthenticated("the token is wrong")
    yield Send(CLIENT, codec.Authentication(codec.AUTH_SASL_FINAL, final).build())
    principal: Principal = known.principal
    return principal


# --- the target


@dataclass(slots=True)
class Target:
    """A connection to the target that is ready for queries."""

    wire: Wire
    version: int
    parameters: dict[bytes, bytes]
    key: codec.BackendKeyData | None


def connect(relay: Relay) -> Conversation[Wire]:
    """A connection to the target, encrypted as its configuration says. Raises Unavailable."""
    assert relay.session is not None
    yield Connect()
    wire = Wire(relay, SERVER)
    if relay.session.connection.tls != "disable":
        yield Send(SERVER, SSLRequest().build())
        answer = yield from wire.take(1)
        if answer != b"S" or wire.waiting:
            raise Unavailable("the target does not speak TLS, and the connection's `tls` demands it")
        yield StartTLS(SERVER)
    return wire


def log_in(relay: Relay, database: str, settings: Mapping[str, str], version: int = codec.PROTOCOL_3_0) -> Conversation[Target]:
    """Connect and log in with the stored credential. Raises HopgateError; what the target says of its own goes no further than its code."""
    lease: Lease = yield LeaseCredential()
    wire = yield from connect(relay)
    parameters = {"user": lease.username, "database": database or lease.username, "client_encoding": "UTF8", **settings}
    # 3.2 only for a client that speaks it: cancel keys are as long as the client can take them
    yield Send(SERVER, Startup(version, tuple((name.encode(), value.encode()) for name, value in parameters.items())).build())
    encrypted = relay.tls[SERVER]
    login = TargetLogin(
        lease.username,
        lease.password,
        encrypted=encrypted is not None,
        certificate=encrypted.certificate if encrypted is not None else b"",
    )
    target = Target(wire, version, {}, None)
    while True:
        kind, body = yield from wire.message(codec.BACKEND_LIMITS)
        if kind == ord("R"):
            asked = codec.Authentication.parse(body)
            try:
                # PBKDF2 takes milliseconds: not on the loop
                answer = yield Work(lambda asked=asked: login.answer(asked))  # type: ignore[misc]
            except AuthFailed as error:
                raise Unavailable(f"the gateway could not log in: {error}") from None
            if answer:
                yield Send(SERVER, answer)
        elif _started(target, kind, body, login.done):
            return target


def _started(target: Target, kind: int, body: bytes, logged_in: bool) -> bool:
    """Take one message of a target's start-up; true for the last."""
    if kind == ord("E"):
        code = codec.Report.parse(body).get(b"C").decode("ascii", "replace")
        raise Unavailable(f"the target refuses the gateway's login (SQLSTATE {code[:5]})")
    if kind == ord("v") and not logged_in:
        target.version = min(target.version, codec.NegotiateProtocolVersion.parse(body).version)
    elif kind == ord("N"):
        codec.Report.parse(body)
    elif not logged_in:
        raise RemoteProtocolError("the target speaks out of turn during the login", "08P01")
    elif kind == ord("S") and len(target.parameters) < _MAX_PARAMETERS:
        status = codec.ParameterStatus.parse(body)
        target.parameters[status.name] = status.value
    elif kind == ord("K"):
        target.key = codec.BackendKeyData.parse(body)
    elif kind == ord("Z"):
        codec.ReadyForQuery.parse(body)
        return True
    else:
        raise RemoteProtocolError("the target speaks out of turn during the login", "08P01")
    return False


def ask_state(wire: Wire) -> Conversation[bytes]:
    """The one row that answers `state.QUERY`, on a connection that is ready."""
    return (yield from one_row(wire, state.SQL))


def one_row(wire: Wire, sql: bytes) -> Conversation[bytes]:
    """The body of the last row that a simple query gives. Raises Unavailable when the target refuses it."""
    yield Send(SERVER, codec.Query(sql).build())
    row = b""
    failed = ""
    while True:
        kind, body = yield from wire.message(codec.BACKEND_LIMITS)
        if kind == ord("D"):
            row = body
        elif kind == ord("E"):
            failed = codec.Report.parse(body).get(b"C").decode("ascii", "replace")[:5]
        elif kind == ord("Z"):
            if failed:
                raise Unavailable(f"the target does not answer what the gateway must know of it (SQLSTATE {failed})")
            return row


# --- cancelling


def cancel_key(pid: int, secret: bytes) -> bytes:
    """What names one of our connections to a cancel request."""
    return b"postgres" + pid.to_bytes(4, "big") + secret


def new_key(version: int) -> codec.BackendKeyData:
    """A key of our own for a client: 4 random bytes besides the process id in protocol 3.0, 32 in 3.2."""
    secret = secrets.token_bytes(32 if version >= codec.PROTOCOL_3_2 else 4)
    return codec.BackendKeyData(secrets.randbits(31), secret)


def cancel(packet: CancelRequest) -> Conversation[None]:
    """Pass a cancel request to whoever has that key. The client is told nothing, whatever it is."""
    yield Signal(cancel_key(packet.pid, packet.secret))
    yield Close()
