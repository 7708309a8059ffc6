"""The answers to blocking commands: the coroutines between a relay's question and the services, the network and the threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hopgate.errors import Denied, Expired, Unauthenticated, Unavailable
from hopgate.flow_format import TcpConnection
from relays.commands import (
    CLIENT,
    TLS,
    Ask,
    Authenticate,
    Blocking,
    Connect,
    FindVerifier,
    LeaseCredential,
    OpenSession,
    ReadSql,
    Run,
    StartTLS,
    Verifier,
    Work,
)
from relays.dial import dial, why
from relays.legs import ServerLeg
from relays.tls import client_context, described, server_context
from relays.transcript import Transcript
from relays.transport import LoopTransport
from rules.model import DENY_BY_DEFAULT, Decision, Principal

if TYPE_CHECKING:
    from hopgate.credentials import Lease
    from hopgate.services import Services
    from hopgate.sessions import Session
    from relays.driver import Driver


async def answer(driver: Driver, command: Blocking) -> Any:
    """What `command` asks for. Raises what the command says that it fails with."""
    match command:
        case Ask(operation):
            session = _session(driver)
            return await session.authorize(operation, held=lambda decision: driver.held(command, decision))
        case Work(call):
            return await driver.outside.workers.run(call)
        case ReadSql(text, state):
            return await driver.outside.reader.facts_of(text, state)
        case Authenticate(token):
            return await driver.outside.services.identity.verify(token, peer=driver.relay.peer)
        case FindVerifier(identifier):
            return await _find_verifier(driver, identifier)
        case OpenSession():
            return await _open_session(driver, command)
        case LeaseCredential():
            return await _lease(driver)
        case Connect():
            return await _connect(driver)
        case StartTLS():
            return await _start_tls(driver, command)
        case Run(relay):
            return await driver.run_beside(relay)
    raise TypeError(f"no answer to {type(command).__name__}")


def _session(driver: Driver) -> Session:
    session = driver.relay.session
    if session is None:
        raise Denied("no session is open")
    return session


async def _find_verifier(driver: Driver, identifier: str) -> Verifier | None:
    try:
        text, principal = await driver.outside.services.identity.find_verifier(identifier, peer=driver.relay.peer)
    except (Unauthenticated, Expired):
        return None
    return Verifier(text, principal)


async def _open_session(driver: Driver, command: OpenSession) -> Session:
    relay = driver.relay
    client = driver.pair.legs[CLIENT]
    if client is None:
        raise Unavailable("the client went away")
    session = await open_session(
        driver.outside.services,
        command.principal,
        command.connection,
        kind=relay.kind,
        peer=relay.peer,
        held=lambda decision: driver.held(command, decision),
    )
    driver.adopt(session, Transcript(session, ends_of(session, client.transport), session.end))
    return session


async def open_session(
    services: Services, principal: Principal, name: str, *, kind: str, peer: str, held: Callable[[Decision], None]
) -> Session:
    """Start a session on the connection `name`, which must be of this kind. Raises Denied, also where there is none; Unavailable."""
    connection = services.config.connection(name)
    if connection is None or connection.kind != kind:
        # says what an unmatched session rule says: who may not use a connection does not learn whether there is one
        who = {"issuer": principal.issuer, "subject": principal.subject, "peer": peer}
        services.ledger.append("connection_unknown", name=name[:128], **who)
        raise Denied(DENY_BY_DEFAULT.message)
    return await services.sessions.open(principal, connection, peer=peer, held=held)


def ends_of(session: Session, transport: LoopTransport) -> TcpConnection:
    """Both ends of a session that has just been opened, for its recording; the target's address is not known yet."""
    peer, listener, target = transport.getPeer(), transport.getHost(), session.connection.address
    return TcpConnection(
        client_id=f"{session.id}-client",
        client=(peer.host, peer.port),
        listener=(listener.host, listener.port),
        server_id=f"{session.id}-server",
        target=(target.host, target.port),
        server=None,
        started=time.time(),
    )


async def _lease(driver: Driver) -> Lease:
    session = _session(driver)
    lease = await driver.outside.services.credentials.lease(session.grant)
    session.literals = lease.literals
    return lease


async def _connect(driver: Driver) -> None:
    """Dial where the session's grant leads, and nowhere else."""
    loop = asyncio.get_running_loop()
    address = await dial(_session(driver), lambda: LoopTransport(ServerLeg(driver), loop))
    driver.relay.server_address = address
    if driver.transcript is not None:
        driver.transcript.connection = replace(driver.transcript.connection, server=address, connected=time.time())


async def _start_tls(driver: Driver, command: StartTLS) -> TLS:
    side = command.side
    leg = driver.pair.legs[side]
    if leg is None or not leg.open:
        raise Unavailable(f"the {side} went away before the TLS handshake")
    if side == CLIENT:
        config = driver.outside.services.config.tls
        if config is None:
            raise Unavailable("tls: is not configured")
        context, hostname = server_context(config, command.alpn), None
    else:
        connection = _session(driver).connection
        context, hostname = client_context(connection, command.alpn), connection.address.host
    try:
        spoken = await leg.transport.start_tls(context, server_side=side == CLIENT, server_hostname=hostname)
    except (OSError, TimeoutError) as error:
        whom = "with the client" if side == CLIENT else f"with the target of {_session(driver).connection.name}"
        raise Unavailable(f"the TLS handshake {whom} failed: {why(error)}") from None
    found = described(spoken, server_side=side == CLIENT)
    driver.upgraded(side, found)
    return found
