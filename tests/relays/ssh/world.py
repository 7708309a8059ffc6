"""A whole gateway for SSH in a test: real services, a real listener, and a connection layer that passes everything on, unjudged.

What it passes on are whole messages, channel numbers and windows included: enough to try the transports with real peers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
from twisted.conch.ssh.service import SSHService

from hopgate.addresses import Address
from hopgate.config import Config, load_config
from hopgate.errors import Denied
from hopgate.services import Services
from hopgate.tokens import issue_token
from relays.outside import Outside
from relays.signals import Signals
from relays.ssh.client import ClientTransport, connect_upstream
from relays.ssh.listen import SshListener
from relays.ssh.login import Login
from relays.ssh.server import ServerTransport
from relays.workers import Workers
from rules.model import DENY_BY_DEFAULT
from tests.doubles import write_config
from tests.peers.sshd import Sshd

RULES = """
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, where: {connections: [build, other]}, effect: allow}
  - {id: ask-first, on: session, who: {groups: [agents]}, where: {connections: [asked]}, effect: hold, hold: {reviewers: [dba]}}
"""


class PassThrough(SSHService):
    """`ssh-connection` that sends every message on to the other leg."""

    name = b"ssh-connection"
    other: PassThrough | None = None

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.sendPacket(messageNum, packet)


class SshWorld:
    """Services, listener, outside. `logins` are those who came in."""

    def __init__(self, config: Config, process: str = "relay-0") -> None:
        self.config = config
        self.process = process
        self.logins: list[Login] = []
        self.legs: list[tuple[ServerTransport, ClientTransport]] = []

    async def __aenter__(self) -> SshWorld:
        self.services = await Services.start(self.config, process=self.process)
        self.outside = Outside(self.services, Workers(1), Signals(self.config.state / "run" / "signals", self.process))
        self.outside.signals.open()
        self.listener = SshListener(self.outside, Address("127.0.0.1", 0), self.on_login)
        self.listener.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        for client in list(self.outside.drivers):
            client.kill("the test is over")
        await self.quiet()
        self.outside.signals.close()
        self.outside.workers.close()
        await self.outside.reader.close()
        await self.services.close()

    async def quiet(self) -> None:
        """Until every connection has ended, and its session with it."""
        while self.outside.drivers or self.services.sessions._live:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    @property
    def port(self) -> int:
        return self.listener.address.port

    async def on_login(self, transport: ServerTransport, login: Login) -> SSHService:
        """As `relays.ssh.relay` does it, without a judgement."""
        self.logins.append(login)
        connection = self.config.connection(login.connection)
        if connection is None:
            raise Denied(DENY_BY_DEFAULT.message)
        session = await self.services.sessions.open(
            login.principal, connection, peer=login.peer, held=lambda decision: transport.tell(decision.message)
        )
        transport.at_end(session.close)
        session.busy += 1
        session.on_close.add(transport.kill)
        near, far = PassThrough(), PassThrough()
        target = await connect_upstream(self.outside, session, far)
        near.other, far.other = far, near
        transport.pair(target)
        self.legs.append((transport, target))
        return near

    def token(self, subject: str = "agent-1", groups: tuple[str, ...] = ("agents",), ttl: float = 3600, **more: Any) -> str:
        return issue_token(self.config, subject, groups, ttl, **more)

    async def short_token(self, **more: Any) -> str:
        """One that OpenSSH does not cut."""
        return (await self.services.identity.exchange(self.token(**more), peer="127.0.0.1")).access_token

    async def ledger(self) -> list[dict[str, Any]]:
        await self.services.ledger.durable()
        path = self.config.state / "ledger" / f"{self.process}.ndjson"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def credential(server: Sshd, key: Path | None = None) -> dict[str, str]:
    """Of a connection to `server`."""
    return {"username": server.user, "private_key": f"${{file:{key or server.key}}}"}


def configure(directory: Path, server: Sshd, *, more: list[dict[str, Any]] | None = None, **sections: Any) -> Config:
    """Connections `build`, `asked`, `forbidden` lead to `server`; `more` are merged into that of the same name, or added."""
    (directory / "rules.yaml").write_text(RULES)
    connections: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "kind": "ssh",
            "target": f"127.0.0.1:{server.port}",
            "host_key": server.host_key(),
            "credential": credential(server),
        }
        for name in ("build", "asked", "forbidden")
    }
    for each in more or []:
        connections[each["name"]] = {**connections.get(each["name"], connections["build"]), **each}
    everything = {"state": "var", "rules": ["rules.yaml"], "connections": list(connections.values()), **sections}
    return load_config(write_config(directory, **everything))
