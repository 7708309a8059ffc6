"""Both ends of SSH in one process, on a real socket pair: a gateway's server, and clients and targets that tests script."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService

from hopgate.addresses import Address
from hopgate.credentials import Lease
from hopgate.errors import Unauthenticated
from hopgate.ssh_host_keys import parse_host_key
from hopgate.ssh_keys import public_line
from relays.ssh.client import ClientTransport
from relays.ssh.login import Login
from relays.ssh.packets import SERVICE_ACCEPT, SERVICE_REQUEST
from relays.ssh.server import ServerTransport
from relays.transport import LoopTransport
from rules.model import Principal

GATEWAY_KEY = Ed25519PrivateKey.generate()
TARGET_KEY = Ed25519PrivateKey.generate()
REQUEST, FAILURE, SUCCESS, BANNER = 50, 51, 52, 53


class Metrics:
    """Counts what failed closed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def failed_closed(self, gate: str) -> None:
        self.failed.append(gate)


class FakeSsh:
    """No key is known, unless a test says so."""

    accepts = True

    def __init__(self) -> None:
        self.keys: dict[bytes, Principal] = {}

    def keyholder(self, blob: bytes, *, connection: str, peer: str) -> Principal:
        if blob not in self.keys:
            raise Unauthenticated("not registered")
        return self.keys[blob]

    def certified(self, blob: bytes, *, connection: str, peer: str) -> Any:
        raise Unauthenticated("no certificates here")


class FakeIdentity:
    """Tokens `good-NAME` are principals; `gate` holds every check up until it is set."""

    def __init__(self) -> None:
        self.ssh = FakeSsh()
        self.gate = asyncio.Event()
        self.gate.set()
        self.checks: list[str] = []
        self.raises: Exception | None = None

    async def verify(self, token: str, *, peer: str) -> Principal:
        self.checks.append(token)
        await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        if not token.startswith("good-"):
            raise Unauthenticated("the token is malformed")
        return Principal("local", token.removeprefix("good-"), expires_at=4e9)


def outside() -> Any:
    """As much of `Outside` as transports touch."""
    return SimpleNamespace(services=SimpleNamespace(identity=FakeIdentity(), metrics=Metrics()), drivers=set(), starting=set())


class Recorder(SSHService):
    """A connection layer that keeps what comes."""

    name = b"ssh-connection"

    def __init__(self) -> None:
        self.received: list[tuple[int, bytes]] = []
        self.stopped = False

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        self.received.append((messageNum, packet))

    def serviceStopped(self) -> None:
        self.stopped = True


class Caller(ClientTransport):
    """A client that says what a test tells it to, and keeps what it hears. It does not log in by itself."""

    side = "gateway"

    def __init__(self, everything: Any, key: Ed25519PrivateKey = GATEWAY_KEY) -> None:
        connection = SimpleNamespace(name="x", host_keys=(parse_host_key(public_line(key)),), address=Address("127.0.0.1", 22))
        super().__init__(everything, SimpleNamespace(connection=connection), Lease("x", 0, username="u"), Recorder())  # type: ignore[arg-type]
        self.heard: list[tuple[int, bytes]] = []
        self.changed = asyncio.Event()
        self.goodbye = ""
        self.exchanges = 0

    def secured(self) -> None:
        self.changed.set()

    def _newkeys(self, payload: bytes) -> None:
        super()._newkeys(payload)
        self.exchanges += 1
        self.changed.set()

    def received(self, number: int, payload: bytes) -> None:
        self.heard.append((number, payload))
        self.changed.set()

    def said_goodbye(self, code: int, message: str) -> None:
        self.goodbye = message

    def lost(self) -> None:
        self.ready.cancel()
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what is heard to make `condition` true; the end of the connection ends the wait."""
        while not condition():
            assert not self.is_lost, f"the connection has ended: {self.goodbye or self.ended_because}"
            self.changed.clear()
            await self.changed.wait()

    async def gone(self) -> str:
        """What was said when the connection ended."""
        while not self.is_lost:
            self.changed.clear()
            await self.changed.wait()
        return self.goodbye

    def numbers(self) -> list[int]:
        return [number for number, _ in self.heard]

    async def begin(self) -> None:
        """As far as the login."""
        await self.until(lambda: self.keyed_once)
        self.send(SERVICE_REQUEST, NS(b"ssh-userauth"))
        await self.until(lambda: SERVICE_ACCEPT in self.numbers())

    def ask(self, method: bytes, *data: bytes, user: bytes = b"build", service: bytes = b"ssh-connection") -> None:
        self.send(REQUEST, NS(user), NS(service), NS(method), *data)

    def ask_password(self, token: bytes, user: bytes = b"build") -> None:
        self.ask(b"password", b"\0", NS(token), user=user)

    def banners(self) -> list[bytes]:
        return [getNS(payload)[0] for number, payload in self.heard if number == BANNER]


class Gate:
    """The gateway's end, and what it was told."""

    def __init__(self, everything: Any, key: Ed25519PrivateKey = GATEWAY_KEY, kind: type[ServerTransport] = ServerTransport) -> None:
        self.logins: list[Login] = []
        self.service = Recorder()
        self.answer: Callable[[], Awaitable[None]] = _nothing
        self.transport = kind(everything, key, self.on_login)

    async def on_login(self, transport: ServerTransport, login: Login) -> SSHService:
        self.logins.append(login)
        await self.answer()
        return self.service


async def _nothing() -> None:
    pass


async def attach(protocol: Any, sock: socket.socket) -> None:
    """Put a transport on a connected socket."""
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(lambda: LoopTransport(protocol, loop), sock)


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for sock in (near, far):
        sock.setblocking(False)
    return near, far


@contextlib.asynccontextmanager
async def conversation(
    everything: Any = None, caller: type[Caller] = Caller, kind: type[ServerTransport] = ServerTransport
) -> AsyncIterator[tuple[Caller, Gate]]:
    """A client and the gateway, connected."""
    everything = everything or outside()
    near, far = connected()
    client, gate = caller(outside()), Gate(everything, kind=kind)
    await attach(gate.transport, far)
    await attach(client, near)
    try:
        yield client, gate
    finally:
        client.abort()
        gate.transport.abort()
        await gate.transport.closed
        await client.gone()


@contextlib.asynccontextmanager
async def raw(everything: Any = None) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Gate]]:
    """Plain bytes to the gateway, whose version line has been read."""
    near, far = connected()
    gate = Gate(everything or outside())
    await attach(gate.transport, far)
    reader, writer = await asyncio.open_connection(sock=near)
    assert await reader.readline() == b"SSH-2.0-hopgate\r\n"
    try:
        yield reader, writer, gate
    finally:
        writer.transport.abort()
        gate.transport.abort()
        await gate.transport.closed


__all__ = ["FAILURE", "SUCCESS", "TARGET_KEY", "Caller", "Gate", "attach", "connected", "conversation", "outside", "raw"]
