"""A protocol small enough to read: the client says `user token`, then lines; each line is an operation of its own kind.

`get …` writes nothing and goes the fast way when it comes as one whole line; anything else asks. What the server says passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hopgate.errors import HopgateError
from relays.commands import (
    CLIENT,
    SERVER,
    Authenticate,
    Close,
    Command,
    Commands,
    Connect,
    LeaseCredential,
    Message,
    OpenSession,
    Read,
    Ready,
    Record,
    Register,
    Send,
    Side,
    Signal,
    StartTLS,
    Withdrawn,
)
from relays.relay import Relay
from relays.wire import Buffer, ProtocolError, RemoteProtocolError
from rules.model import Decision, Exact, Operation
from tests.relays.facts import sql_facts_of

MAX_LINE = 4096


def operation(line: bytes) -> Operation:
    verb = line.split(b" ", 1)[0].decode("ascii", "replace")
    text = line.decode("utf-8", "replace")
    return Operation(
        "sql",
        sql_facts_of(verb),
        writes=verb != "get",
        title=verb,
        exact=lambda: Exact(title=verb, text=text, payload=line),
    )


class PlainRelay(Relay):
    """Lines over TCP."""

    kind = "postgres"
    direct_tls = ("plain",)

    def __init__(self) -> None:
        super().__init__()
        self._lines = Buffer(1 << 20)

    def conversation(self) -> Commands:
        line = yield from self._line()
        if line == b"starttls":
            if self._lines:
                raise RemoteProtocolError("bytes came before the handshake")
            yield Send(CLIENT, b"go\n")
            yield StartTLS(CLIENT)
            line = yield from self._line()
        if line.startswith(b"signal "):
            yield Signal(line[7:])
            yield Close()
            return
        name, _, token = line.partition(b" ")
        principal = yield Authenticate(token.decode())
        yield OpenSession(principal, name.decode())
        lease = yield LeaseCredential()
        yield Connect()
        if self.session is not None and self.session.connection.tls != "disable":
            yield Send(SERVER, b"starttls\n")
            answer = yield Read(SERVER)
            if answer != b"go\n":
                raise RemoteProtocolError("the target speaks no TLS")
            yield StartTLS(SERVER)
        yield Send(SERVER, f"login {lease.username}:{lease.password}\n".encode())
        answer = yield Read(SERVER)
        if answer != b"ok\n":
            raise RemoteProtocolError("the target refused our credential")
        assert self.session is not None
        yield Register(self.session.id.encode())
        yield Send(CLIENT, b"ready\n")
        yield Ready()
        if self._lines:
            yield from self.received(CLIENT, b"")

    def _line(self) -> Any:
        while (line := self._lines.take_through(b"\n", MAX_LINE)) is None:
            data = yield Read(CLIENT)
            if not data:
                raise RemoteProtocolError("the client left")
            self._lines.feed(data)
        return line[:-1]

    def pass_client(self, data: bytes) -> bytes | None:
        if self._lines or data.count(b"\n") != 1 or not data.endswith(b"\n") or not data.startswith(b"get "):
            return None
        assert self.session is not None
        if self.session.authorize_now(operation(data[:-1])) is None:
            return None
        self.record(CLIENT, data[:-1])
        return data

    def pass_server(self, data: bytes) -> bytes | None:
        if data == b"crash pass\n":
            raise ZeroDivisionError
        return None if data.startswith(b"crash") else data

    def received(self, side: Side, data: bytes) -> Commands:
        if side == SERVER:
            if data == b"crash slow\n":
                raise ZeroDivisionError
            yield Send(CLIENT, data)
            return
        self._lines.feed(data)
        while (line := self._lines.take_through(b"\n", MAX_LINE)) is not None:
            yield from self._operation(line[:-1])

    def _operation(self, line: bytes) -> Commands:
        try:
            decision = yield from self.decide(operation(line))
        except Withdrawn:
            yield Send(CLIENT, b"withdrawn\n")
            return
        if decision.allowed:
            yield Record((Message(CLIENT, line),))
            yield Send(SERVER, line + b"\n")
        else:
            yield Send(CLIENT, f"denied {decision.message}\n".encode())

    def held(self, side: Side, decision: Decision) -> Iterable[Command]:
        yield Send(CLIENT, f"held {decision.approval}\n".encode())

    def signalled(self) -> Iterable[Command]:
        yield from self.withdraw(CLIENT)

    def refused(self, error: ProtocolError | HopgateError) -> Iterable[Command]:
        yield Send(CLIENT, f"error {error.message}\n".encode())

    def killed(self, reason: str) -> Iterable[Command]:
        yield Send(CLIENT, f"killed {reason}\n".encode())
