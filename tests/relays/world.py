"""A whole gateway process in a test: real services, a real listener, a target that the test scripts, clients on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from hopgate.addresses import Address
from hopgate.config import Config, load_config
from hopgate.services import Services
from hopgate.tasks import spawn
from hopgate.tokens import issue_token
from relays.listen import Listener
from relays.outside import Outside
from relays.relay import Relay
from relays.signals import Signals
from relays.workers import Workers
from tests.doubles import write_config
from tests.relays.plain import PlainRelay

RULES = """
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, where: {connections: [orders, secure, nowhere]}, effect: allow}
  - {id: ask-first, on: session, who: {groups: [agents]}, where: {connections: [asked]}, effect: hold, hold: {reviewers: [dba]}}
  - {id: read, on: sql, match: {effects: [read]}, effect: allow}
  - {id: write, on: sql, match: {verbs: [insert]}, effect: allow}
  - {id: ask, on: sql, match: {verbs: [delete]}, effect: hold, hold: {reviewers: [dba]}}
  - {id: no-drop, on: sql, match: {verbs: [drop]}, effect: deny, message: nothing is dropped here}
"""
PASSWORD = "s3cret-of-the-target"
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Target:
    """A server that answers `login`, then each line by `reply`; it keeps what it was sent."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.lines: list[bytes] = []
        self.tls = tls
        self.writers: list[Writer] = []
        self.reply: Callable[[bytes, Writer], Awaitable[None]] = _echo
        self.ended = asyncio.Event()  # a connection has ended

    async def __aenter__(self) -> Target:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line == b"starttls\n" and self.tls is not None:
                    writer.write(b"go\n")
                    await writer.start_tls(self.tls)
                    continue
                self.lines.append(line)
                if line.startswith(b"login "):
                    writer.write(b"ok\n" if line == f"login app:{PASSWORD}\n".encode() else b"no\n")
                else:
                    await self.reply(line, writer)
                await writer.drain()
        self.ended.set()
        writer.close()


async def _echo(line: bytes, writer: Writer) -> None:
    writer.write(b"did " + line)


class World:
    """Services, listener, outside."""

    def __init__(self, config: Config, make: Callable[[], Relay] = PlainRelay, process: str = "relay-0") -> None:
        self.config = config
        self.make = make
        self.process = process
        self.clients: list[Writer] = []

    async def __aenter__(self) -> World:
        self.services = await Services.start(self.config, process=self.process)
        self.outside = Outside(self.services, Workers(1), Signals(self.config.state / "run" / "signals", self.process))
        self.outside.signals.open()
        self.listener = Listener(self.outside, Address("127.0.0.1", 0), self.make)
        self.listener.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        for driver in list(self.outside.drivers):
            driver.kill("the test is over")
        for writer in self.clients:
            writer.transport.abort()
        await self.quiet()
        self.outside.signals.close()
        self.outside.workers.close()
        await self.outside.reader.close()
        await self.services.close()

    async def quiet(self) -> None:
        """Until every connection has ended, and its session with it."""
        while self.outside.drivers or self.services.sessions._live:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def token(self, subject: str = "agent-1", groups: tuple[str, ...] = ("agents",)) -> str:
        return issue_token(self.config, subject, groups, 3600)

    async def connect(self, **tls: Any) -> tuple[Reader, Writer]:
        address = self.listener.address
        reader, writer = await asyncio.open_connection(address.host, address.port, **tls)
        self.clients.append(writer)
        return reader, writer

    async def login(self, connection: str = "orders") -> tuple[Reader, Writer]:
        reader, writer = await self.connect()
        writer.write(f"{connection} {self.token()}\n".encode())
        assert await reader.readline() == b"ready\n"
        return reader, writer

    async def ledger(self) -> list[dict[str, Any]]:
        await self.services.ledger.durable()
        path = self.config.state / "ledger" / f"{self.process}.ndjson"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def configure(directory: Path, port: int, **sections: Any) -> Config:
    (directory / "rules.yaml").write_text(RULES)
    credential = {"username": "app", "password": PASSWORD}
    connections = [
        {"name": name, "kind": "postgres", "target": f"127.0.0.1:{port}", "tls": "disable", "credential": credential}
        for name in ("orders", "asked", "forbidden")
    ]
    more = sections.pop("more", [])
    everything = {"state": "var", "rules": ["rules.yaml"], "connections": [*connections, *more], **sections}
    return load_config(write_config(directory, **everything))


@contextlib.asynccontextmanager
async def gateway(directory: Path, **sections: Any) -> AsyncIterator[tuple[World, Target]]:
    async with Target() as target, World(configure(directory, target.port, **sections)) as world:
        yield world, target


__all__ = ["PASSWORD", "Target", "World", "configure", "gateway", "spawn"]
