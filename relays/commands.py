"""What a relay wants done. `driver.py` does it; a relay itself never touches a socket, a clock or a task.

A command that derives from `Blocking` is a question: the strand of the conversation that yields it stands still until the answer is sent
into it, or the failure thrown: `decision = yield Ask(operation)`. All others are done in order, at once, and answer nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from rules.model import Decision, Operation, Principal

if TYPE_CHECKING:
    from relays.relay import Relay
    from rules.sql.session import SessionState

type Side = Literal["client", "server"]

CLIENT: Final = "client"
SERVER: Final = "server"
OTHER: Final[dict[Side, Side]] = {"client": "server", "server": "client"}


class Command:
    """Base of all."""

    __slots__ = ()


class Blocking(Command):
    """A command whose answer the conversation waits for."""

    __slots__ = ()


class Outlets(Protocol):
    """Where bytes for the sides go. Either may be another function from one call to the next: nobody keeps them."""

    to_client: Callable[[bytes], None]
    to_server: Callable[[bytes], None]


type Commands = Generator[Command, Any, None]
type Conversation[T] = Generator[Command, Any, T]


class Withdrawn(Exception):
    """Thrown into a conversation at its blocking command when the relay itself took the question back (`Relay.withdraw`)."""


# --- bytes


@dataclass(slots=True)
class Send(Command):
    """Write `data` to a side. What is full is told to the reader of the other side: nobody waits here."""

    side: Side
    data: bytes


@dataclass(slots=True)
class Read(Blocking):
    """Wait for bytes from a side; the answer is what has come since, b"" once it has ended. For phases that speak in turns, like start-up.

    The relay answers this one itself; the driver never sees it.
    """

    side: Side


@dataclass(slots=True)
class Turn(Blocking):
    """Wait until the conversation calls `Relay.wake` with this very command: the other side has to say something first. The answer is None.

    The relay answers this one itself; the driver never sees it.
    """


@dataclass(slots=True)
class Close(Command):
    """Close one side, or both, after everything written to it is flushed. A side that does not take it is aborted after the linger time."""

    side: Side | None = None
    reason: str = ""  # for the ledger, when this ends the session


@dataclass(slots=True)
class CloseWrite(Command):
    """Tell a side that nothing more comes; it may still send."""

    side: Side


@dataclass(slots=True)
class Abort(Command):
    """Drop both sides now, unsent bytes included."""

    reason: str = ""


# --- transports


@dataclass(frozen=True, slots=True)
class TLS:
    """The answer to `StartTLS`, and what `Relay.tls` says of a side: None there means cleartext."""

    version: str = ""  # "TLSv1.3"
    alpn: str = ""  # what was agreed on; empty = nothing
    certificate: bytes = b""  # what the server of this side showed, in DER: a channel binds to it (tls-server-end-point)


@dataclass(slots=True)
class StartTLS(Blocking):
    """Begin TLS on a side in the middle of its connection, from a quiet point: nothing of the peer's may be waiting unread in the relay.

    Client: with the certificate of `tls:` in the configuration. Server: as `tls` and `ca` of the connection say. Answer: `TLS`.
    Fails with Unavailable; the side is gone then.
    """

    side: Side
    alpn: tuple[str, ...] = ()


@dataclass(slots=True)
class Connect(Blocking):
    """Dial the target of the session that is open. Answer: None. Fails with Unavailable. `Relay.server_address` is set afterwards."""


@dataclass(slots=True)
class Start(Command):
    """Run another conversation beside this one, in the same session: no client, a connection to the target of its own (a cancel request,
    say). It ends when its `conversation` returns or fails, at the latest after the start-up time; a failure is logged."""

    relay: Relay


@dataclass(slots=True)
class Run(Blocking):
    """Like `Start`, and wait for it. Answer: what its `conversation` returns. Fails with what that raises, Unavailable if it is cut off."""

    relay: Relay


# --- who, where, whether


@dataclass(slots=True)
class Authenticate(Blocking):
    """Who sent this token. Answer: Principal. Fails with Unauthenticated, Expired, Denied or Unavailable."""

    token: str = field(repr=False)


@dataclass(slots=True)
class FindVerifier(Blocking):
    """The SCRAM verifier of an issued short token, by the id that the client names. Answer: a `Verifier`, or None.

    A principal that comes with it is proved only once the client's proof has been checked against the verifier.
    """

    token_id: str


@dataclass(frozen=True, slots=True)
class Verifier:
    """The answer to `FindVerifier`: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` and whom it would prove."""

    text: str = field(repr=False)
    principal: Principal


@dataclass(slots=True)
class OpenSession(Blocking):
    """Start a session on a named connection of the relay's kind, waiting where a session rule holds it.

    Answer: hopgate.sessions.Session, which is also `Relay.session` from then on. Fails with Denied (also for a connection that there is
    not: the two look the same) or Unavailable.
    """

    principal: Principal
    connection: str


@dataclass(slots=True)
class LeaseCredential(Blocking):
    """The credential for the target. Answer: hopgate.credentials.Lease. Fails with HopgateError. Nothing of it may reach the client."""


@dataclass(slots=True)
class Ask(Blocking):
    """May this operation be? Answer: Decision; only `decision.allowed` permits anything. Never fails, but may be Withdrawn.

    Where a rule holds it, `Relay.held(side, decision)` is called as soon as the approval exists, and its commands are run meanwhile.
    """

    operation: Operation


@dataclass(slots=True)
class Work(Blocking):
    """Run a pure function off the event loop, in a thread with a big stack (the parsing of long statements). Answer: what it returns;
    fails with what it raises. A strand waits for it like for a decision; a cancelled one runs on and is forgotten."""

    call: Callable[[], Any]


@dataclass(slots=True)
class ReadSql(Blocking):
    """Read a long SQL text in a process of its own, which it may crash or keep busy. Answer: the Operation, incomplete where that
    happened. Never fails."""

    text: bytes
    state: SessionState


@dataclass(slots=True)
class Withdraw(Command):
    """The answer to `command` is no longer wanted: what is asked is taken back (a held operation: the approval is withdrawn)."""

    command: Blocking


@dataclass(slots=True)
class Ready(Command):
    """Start-up is over on both sides: its time limits end here."""


# --- remembering, and being found


@dataclass(frozen=True, slots=True)
class Message:
    """One readable message of a recording: a statement from the client, a masked head of a result from the server."""

    side: Side
    text: bytes


@dataclass(slots=True)
class Record(Command):
    """Put messages into the session's recording. They are written in groups; `flush` writes them before the next command is run.

    Fails the session when the recording cannot be written.
    """

    messages: tuple[Message, ...]
    flush: bool = False


@dataclass(slots=True)
class Register(Command):
    """Make this relay reachable by `Signal(key)` from other connections, of every process of this gateway, until it ends."""

    key: bytes


@dataclass(slots=True)
class Signal(Command):
    """Call `Relay.signalled()` of the relay that has registered `key` (a cancel request). Nobody there: nothing happens or is told."""

    key: bytes


__all__ = [
    "CLIENT",
    "OTHER",
    "SERVER",
    "TLS",
    "Abort",
    "Ask",
    "Authenticate",
    "Blocking",
    "Close",
    "CloseWrite",
    "Command",
    "Commands",
    "Connect",
    "Conversation",
    "Decision",
    "FindVerifier",
    "LeaseCredential",
    "Message",
    "OpenSession",
    "Operation",
    "Read",
    "ReadSql",
    "Ready",
    "Record",
    "Register",
    "Run",
    "Send",
    "Side",
    "Signal",
    "Start",
    "StartTLS",
    "Turn",
    "Verifier",
    "Withdraw",
    "Withdrawn",
    "Work",
]
