"""The channels of an SSH relay without a network: a session that decides by a table, and two ends to which a test speaks."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hopgate.asciicast import Cast
from relays.ssh import codec
from relays.ssh.codec import Confirmation, Failure, Open, Request
from relays.ssh.commands import Commands
from relays.ssh.relay import SSHRelay
from rules.model import Decision, Operation
from tests.relays.ssh.names import NAMES

ALLOW = Decision("allow", rules=("yes",), version="1")
DENY = Decision("deny", rules=("no",), message="not that", version="1")


@dataclass(frozen=True)
class Said:
    """One message that a side was sent. `channel` is the side's own number of it."""

    name: str
    channel: int = -1
    rest: Any = b""

    def __repr__(self) -> str:
        return f"{self.name}({self.channel}, {self.rest!r})"


class FakeTransport:
    """Keeps what it is given; `full` makes the loop's transport say so."""

    def __init__(self, outside: Any) -> None:
        self.outside = outside
        self.sent: list[Said] = []
        self.ended: list[str] = []
        self.aborted = False
        self.over = False
        self.told: list[str] = []
        self.other: Any = None
        self.ended_because = ""
        self.producer: Any = None
        self.transport = types.SimpleNamespace(registerProducer=self._register, unsent=0)

    def _register(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def send(self, number: int, *pieces: bytes) -> None:
        if not self.over:
            self.sent.append(said(number, b"".join(pieces)))

    def sendUnimplemented(self) -> None:
        self.sent.append(Said("unimplemented"))

    def end(self, message: str) -> None:
        if not self.over:
            self.over = True
            self.ended.append(message)

    def abort(self) -> None:
        self.aborted = self.over = True

    def pair(self, other: Any) -> None: ...

    def tell(self, message: str) -> None:
        self.told.append(message)


def said(number: int, payload: bytes) -> Said:
    """A message as a test reads it."""
    name = NAMES[number]
    fields = codec.Fields(payload)
    match number:
        case codec.GLOBAL_REQUEST:
            return Said(name, rest=codec.global_request(payload))
        case codec.REQUEST_SUCCESS | codec.REQUEST_FAILURE:
            return Said(name, rest=payload)
        case codec.CHANNEL_OPEN:
            return Said(name, rest=Open.parse(payload))
        case codec.CHANNEL_OPEN_CONFIRMATION:
            found = Confirmation.parse(payload)
            return Said(name, found.recipient, found)
        case codec.CHANNEL_OPEN_FAILURE:
            failure = Failure.parse(payload)
            return Said(name, failure.recipient, failure.text)
    channel = fields.uint32()
    match number:
        case codec.CHANNEL_WINDOW_ADJUST:
            return Said(name, channel, fields.uint32())
        case codec.CHANNEL_DATA:
            return Said(name, channel, fields.string())
        case codec.CHANNEL_EXTENDED_DATA:
            return Said(name, channel, (fields.uint32(), fields.string())[1])
        case codec.CHANNEL_REQUEST:
            return Said(name, channel, Request.parse(payload))
    return Said(name, channel)


@dataclass
class Session:
    """Decides by a function; keeps what it was asked."""

    decide: Callable[[Operation], Decision]
    asked: list[Operation] = field(default_factory=list)
    noted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closed: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    bytes: int = 0

    def __post_init__(self) -> None:
        self.id = "s1"
        self.literals: tuple[bytes, ...] = ()
        self.allowance = types.SimpleNamespace(overdrawn="")
        self.answers: dict[str, asyncio.Future[Decision]] = {}
        self.withdrawn: list[Operation] = []

    async def authorize(self, operation: Operation, *, held: Any = None, known: Any = None, **_: Any) -> Decision:
        self.asked.append(operation)
        decision = known or self.decide(operation)
        if decision.effect == "hold" and held is not None:
            decision = replace(decision, approval="a1")
            future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
            self.answers["a1"] = future
            held(replace(decision, message="rule `ask` holds this; waiting for a reviewer"))
            try:
                decision = await future
            except asyncio.CancelledError:
                self.withdrawn.append(operation)
                raise
        return replace(decision, operation=f"s1.{len(self.asked)}")

    def authorize_now(self, operation: Operation, known: Decision | None = None) -> Decision | None:
        decision = self.decide(operation)
        return decision if decision.allowed and not operation.writes else None

    def foresee(self, operation: Operation) -> Decision:
        return self.decide(operation)

    def note(self, event: str, **fields: Any) -> None:
        self.noted.append((event, fields))

    def account(self, *, bytes: int = 0, rows: int = 0) -> None:
        self.bytes += bytes

    def masked(self, name: str, counts: dict[str, int]) -> None:
        self.counted.update(counts)

    def end(self, reason: str) -> None:
        self.closed = reason


class Line:
    """A relay that is past its login. `client` and `target` speak to it; what each was sent since is in `to_client` and `to_target`."""

    def __init__(
        self, decide: Callable[[Operation], Decision] | None = None, *, ceilings: Any = None, literals: tuple[bytes, ...] = ()
    ) -> None:
        self.failures: list[str] = []
        outside: Any = types.SimpleNamespace(
            workers=types.SimpleNamespace(run=_inline),
            services=types.SimpleNamespace(metrics=types.SimpleNamespace(failed_closed=self.failures.append)),
        )
        limits = types.SimpleNamespace(pty=True, port_forwarding=True, agent=True, x11=True, force_command=None)
        login: Any = types.SimpleNamespace(ceilings=ceilings or limits)
        self.near, self.far = FakeTransport(outside), FakeTransport(outside)
        self.relay = relay = SSHRelay(self.near, login)  # type: ignore[arg-type]
        self.session = Session(decide or by_first_word)
        self.recorded: list[bytes] = []
        self.cast: list[bytes] = []  # lines of a terminal's recording
        relay.session = self.session  # type: ignore[assignment]
        relay.transcript = types.SimpleNamespace(add=lambda side, text: self.recorded.append(text), flush=lambda: None)  # type: ignore[assignment]
        relay.commands = Commands(self.session, outside.workers, "bash")  # type: ignore[arg-type]
        relay.upstream = self.far  # type: ignore[assignment]
        relay.literals, relay.head_bytes, relay.account_name = literals, 1000, b"app"
        relay.cast = lambda channel, columns, rows: Cast(self.cast.append, columns, rows, lambda: 0.0)  # type: ignore[method-assign]
        relay._opened = relay._connected = True
        for connection, transport in ((relay.client, self.near), (relay.server, self.far)):
            connection.transport = transport  # type: ignore[assignment]
            connection.serviceStarted()

    def client(self, number: int, payload: bytes) -> None:
        self.relay.client.packetReceived(number, payload)

    def target(self, number: int, payload: bytes) -> None:
        self.relay.server.packetReceived(number, payload)

    def to_client(self) -> list[Said]:
        found, self.near.sent = self.near.sent, []
        return found

    def to_target(self) -> list[Said]:
        found, self.far.sent = self.far.sent, []
        return found

    # --- what clients and targets do all the time

    def open(self, number: int = 7, *, window: int = 1 << 20, packet: int = 32768, type: bytes = b"session", rest: bytes = b"") -> int:
        """The client opens a channel; our number of it."""
        self.client(codec.CHANNEL_OPEN, Open(type, number, window, packet, rest).build())
        (message,) = [each for each in self.to_client() if each.name == "open_confirmation"]
        found: int = message.rest.sender
        return found

    def ask(self, channel: int, name: bytes, rest: bytes = b"", *, reply: bool = True) -> None:
        self.client(codec.CHANNEL_REQUEST, codec.UINT32.pack(channel) + Request(name, reply, rest).build())

    def exec(self, channel: int, command: bytes) -> None:
        self.ask(channel, b"exec", codec.string(command))

    async def confirm(self, *, window: int = 1 << 20, packet: int = 32768, number: int = 40) -> int:
        """The target confirms the channel that was opened last; our number of it."""
        await settle()
        message = [each for each in self.far.sent if each.name == "open"][-1]
        self.far.sent.remove(message)
        self.target(codec.CHANNEL_OPEN_CONFIRMATION, Confirmation(message.rest.sender, number, window, packet, b"").build())
        await settle()
        found: int = message.rest.sender
        return found

    async def running(self, command: bytes = b"yes 1", **confirmed: Any) -> tuple[int, int]:
        """A program that runs: our numbers of its channels, the client's and the target's. What was said until then is dropped."""
        channel = self.open()
        self.exec(channel, command)
        upstream = await self.confirm(**confirmed)
        self.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
        await settle()
        self.to_client(), self.to_target()
        return channel, upstream

    def data(self, channel: int, data: bytes) -> None:
        self.client(codec.CHANNEL_DATA, codec.UINT32.pack(channel) + codec.string(data))

    def output(self, channel: int, data: bytes, *, error: bool = False) -> None:
        if error:
            self.target(codec.CHANNEL_EXTENDED_DATA, codec.TWO.pack(channel, 1) + codec.string(data))
        else:
            self.target(codec.CHANNEL_DATA, codec.UINT32.pack(channel) + codec.string(data))

    def exit(self, channel: int, status: int = 0) -> None:
        """The target ends a program as sshd does."""
        self.target(codec.CHANNEL_EOF, codec.UINT32.pack(channel))
        request = Request(b"exit-status", False, codec.exit_status(status))
        self.target(codec.CHANNEL_REQUEST, codec.UINT32.pack(channel) + request.build())
        self.target(codec.CHANNEL_CLOSE, codec.UINT32.pack(channel))

    def approve(self, decision: Decision = ALLOW) -> None:
        self.session.answers["a1"].set_result(replace(decision, approval="a1"))


async def _inline(call: Callable[[], Any]) -> Any:
    return call()


async def settle() -> None:
    """Let tasks run that have nothing to wait for."""
    for _ in range(8):
        await asyncio.sleep(0)


def by_first_word(operation: Operation) -> Decision:
    """`rm` is denied, `restart` is held, everything else that is understood is allowed, and actions other than exec are not."""
    parts = operation.parts or (operation,)
    if any(part.facts.get("action") != "exec" for part in parts) or not operation.complete:
        return DENY
    words = {word for part in parts for word in part.facts.get("programs")}
    if "rm" in words:
        return DENY
    return replace(ALLOW, effect="hold") if "restart" in words else ALLOW
