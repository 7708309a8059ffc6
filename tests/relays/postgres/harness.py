"""A PostgresRelay without a network: a session that decides by a table, commands done at once, and what each side was sent."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mitmproxy.io import tnetstring

from hopgate.credentials import Lease
from hopgate.errors import HopgateError
from relays.commands import (
    CLIENT,
    SERVER,
    Abort,
    Ask,
    Authenticate,
    Blocking,
    Close,
    Command,
    Connect,
    LeaseCredential,
    Message,
    OpenSession,
    Send,
    Side,
    Work,
)
from relays.postgres import codec
from relays.postgres.relay import PostgresRelay
from relays.postgres.startup import Startup
from relays.wire import ProtocolError
from rules.model import Decision, Operation, Principal

ALLOW = Decision("allow", rules=("yes",), version="1")
DENY = Decision("deny", rules=("no",), message="not that", version="1", operation="s1.1")
STATE = codec.DataRow((b'["orders", "app", "app", ["public"], "on", "UTF8", "off", "on", "safe_encoding", "on", "origin"]',)).build()
READY = {status: codec.ReadyForQuery(status).build() for status in (b"I", b"T", b"E")}
STATE_ANSWER = codec.RowDescription((codec.Column(b"x"),)).build() + STATE + codec.CommandComplete(b"SELECT 1").build()


class Permit:
    """Leave for as long as `until` says; `settle` counts what has passed, as decided."""

    def __init__(self, session: Session, report: Callable[[], Iterable[Any]]) -> None:
        self.session = session
        self.until = 0.0
        self.report = report

    def renew(self) -> float:
        return self.until

    def settle(self) -> None:
        for operation, _, count in self.report():
            self.session.decided += [("passed", operation)] * count


class Session:
    """Decides by verbs: `drop` is denied, `delete` is asked for, what writes must be asked for, everything else is allowed."""

    def __init__(self, tmp: Path) -> None:
        self.rules_version = "1"
        self.literals: tuple[bytes, ...] = ()
        self.used_at = 0.0
        self.allowance = types.SimpleNamespace(overdrawn="")
        self.decided: list[tuple[str, Operation]] = []
        self.connection = types.SimpleNamespace(database="orders", tls="disable")
        recordings = types.SimpleNamespace(results="head", head_bytes=100)
        self.config = types.SimpleNamespace(state=tmp, recordings=recordings)

    def judge(self, operation: Operation) -> Decision:
        verbs = {verb for part in (operation.parts or (operation,)) for verb in part.facts.get("verbs")}
        return replace(DENY if verbs & {"drop", "unknown"} else ALLOW, version=self.rules_version)

    def authorize_now(self, operation: Operation, known: Decision | None = None) -> Decision | None:
        decision = self.judge(operation)
        if operation.writes or not decision.allowed:
            return None
        self.decided.append(("now", operation))
        return decision

    def foresee(self, operation: Operation) -> Decision:
        return self.judge(operation)

    def account(self, *, bytes: int = 0, rows: int = 0) -> None: ...

    def permit(self, report: Callable[[], Iterable[Any]]) -> Permit:
        self.leave = Permit(self, report)
        return self.leave

    def masked(self, name: str, counts: object) -> None: ...

    def note(self, event: str, **fields: Any) -> None: ...


class Line:
    """A relay that is past its start-up. `client` and `server` feed it; `sent` is what each side got since it was last taken."""

    def __init__(self, tmp: Path) -> None:
        self.relay = PostgresRelay()
        self.relay.loopback = True
        self.relay.record_encoded = self._recorded
        self.session = Session(tmp)
        self.out: dict[Side, bytes] = {CLIENT: b"", SERVER: b""}
        self.asked: list[Ask] = []
        self.closed = False
        self.holding = False  # Ask is left unanswered
        self.others: list[Command] = []
        self._do(self.relay.start())
        startup = Startup(codec.PROTOCOL_3_0, ((b"user", b"db"),)).build()
        self.client(startup)
        self.client(codec.Password(b"token").build())
        self.server(codec.Authentication(codec.AUTH_OK).build() + codec.BackendKeyData(7, b"1234").build() + READY[b"I"])
        self.server(STATE_ANSWER + READY[b"I"])
        assert not self.relay.client_busy
        self.take()

    def _recorded(self, messages: bytes, first: float) -> None:
        for client, text, _ in tnetstring.loads(b"%d:%b]" % (len(messages), messages)):
            self.relay.recorded.append(Message(CLIENT if client else SERVER, text))

    def client(self, data: bytes) -> None:
        self._feed(CLIENT, data, self.relay.client_busy, self.relay.pass_client)

    def server(self, data: bytes) -> None:
        self._feed(SERVER, data, self.relay.server_busy, self.relay.pass_server)

    def _feed(self, side: Side, data: bytes, busy: bool, fast: Callable[[bytes], bytes | None]) -> None:
        """As `relays.legs` does."""
        if self.closed:
            return
        try:
            out = None if busy else fast(data)
        except (ProtocolError, HopgateError) as error:
            self._do(self.relay.refuse(error))
            return
        if out is None:
            self._do(self.relay.receive(side, data))
        else:
            self.out[SERVER if side == CLIENT else CLIENT] += out

    def take(self) -> tuple[bytes, bytes]:
        """What the client and the server were sent since."""
        found = self.out[CLIENT], self.out[SERVER]
        self.out = {CLIENT: b"", SERVER: b""}
        return found

    def to_client(self) -> list[tuple[str, bytes]]:
        """Messages for the client since."""
        data, self.out[CLIENT] = self.out[CLIENT], b""
        return [(chr(kind), body) for kind, body in codec.split(data, codec.BACKEND_LIMITS)]

    def to_server(self) -> list[tuple[str, bytes]]:
        data, self.out[SERVER] = self.out[SERVER], b""
        return [(chr(kind), body) for kind, body in codec.split(data, codec.FRONTEND_LIMITS)]

    def decide(self, decision: Decision) -> None:
        self._do(self.relay.answered(self.asked.pop(0), decision))

    def signal(self) -> None:
        self._do(self.relay.signal())

    def _do(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Send(side, data):
                    self.out[side] += data
                case Ask():
                    self.asked.append(command)
                    if not self.holding:
                        self.session.decided.append(("asked", command.operation))
                        self._do(self.relay.answered(self.asked.pop(), self.session.judge(command.operation)))
                case Blocking():
                    self._do(self.relay.answered(command, self._answer(command)))
                case Close(None) | Abort():
                    self.closed = True
                case _:
                    self.others.append(command)

    def _answer(self, command: Blocking) -> Any:
        match command:
            case Authenticate():
                return Principal("local", "alice")
            case OpenSession():
                self.relay.session = self.session  # type: ignore[assignment]
                return self.session
            case LeaseCredential():
                return Lease("db", 1, username="app", password="secret")
            case Connect():
                return None
            case Work(call):
                return b"" if "mask" in getattr(call, "__qualname__", "") else call()
        raise AssertionError(f"unexpected: {command}")
