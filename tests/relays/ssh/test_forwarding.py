"""Forwarding: each connection judged by its destination, nothing towards the client that it did not ask for."""

from __future__ import annotations

import types

import pytest

from relays.ssh import codec
from relays.ssh.channel import MAX_PACKET, WINDOW
from relays.ssh.codec import Confirmation, Failure, Forward, Open, Request, Tunnel
from rules.model import Decision, Operation
from tests.relays.ssh.harness import ALLOW, DENY, Line, Said, by_first_word, settle
from tests.relays.ssh.test_exec import names, text

U32 = codec.UINT32.pack
TO = Tunnel(b"db.internal", 5432, b"127.0.0.1", 50000).build()


def decide(operation: Operation) -> Decision:
    """Forwarding to db.internal, listening on 8080, the agent; and commands."""
    destination = operation.facts.get("destination")
    if destination is not None:
        return ALLOW if destination in ("db.internal:5432", "localhost:8080", "localhost:0") else DENY
    return ALLOW if operation.facts.get("action") == "agent" else by_first_word(operation)


def wants(line: Line, rest: bytes = TO, type: bytes = b"direct-tcpip", number: int = 7) -> None:
    line.client(codec.CHANNEL_OPEN, Open(type, number, 1 << 20, MAX_PACKET, rest).build())


async def forwarded() -> tuple[Line, int, int]:
    line = Line(decide)
    wants(line)
    await settle()
    (opening,) = line.to_target()
    assert line.to_client() == []  # not accepted before the target has it
    assert (opening.rest.type, opening.rest.rest) == (b"direct-tcpip", TO)
    upstream = opening.rest.sender
    line.target(codec.CHANNEL_OPEN_CONFIRMATION, Confirmation(upstream, 40, 1 << 20, MAX_PACKET, b"").build())
    (accepted,) = line.to_client()
    return line, accepted.rest.sender, upstream


async def test_an_allowed_destination_is_opened_by_the_target() -> None:
    line, channel, upstream = await forwarded()
    line.data(channel, b"to the database")
    line.output(upstream, b"from it")
    assert text(line.to_target(), "data") == b"to the database"
    assert text(line.to_client(), "data") == b"from it"
    line.client(codec.CHANNEL_EOF, U32(channel))
    assert names(line.to_target()) == ["eof"]
    line.target(codec.CHANNEL_CLOSE, U32(upstream))
    assert names(line.to_client()) == ["close"]
    assert names(line.to_target()) == ["close"]
    line.client(codec.CHANNEL_CLOSE, U32(channel))
    assert line.relay.client.channels == line.relay.server.channels == {}
    assert line.recorded[-1] == b"[forward db.internal:5432] closed; 15 bytes to the target, 7 from it"
    assert line.session.bytes == 7


async def test_a_forwarded_connection_is_slowed_by_its_reader() -> None:
    line, _, upstream = await forwarded()
    line.relay.client.pauseProducing()
    for _ in range(WINDOW // MAX_PACKET):
        line.output(upstream, b"x" * MAX_PACKET)
    assert line.to_target() == []
    assert line.to_client() == []
    line.relay.client.resumeProducing()
    assert names(line.to_target()) == []
    assert len(text(line.to_client(), "data")) == 1 << 20


@pytest.mark.parametrize("destination", [(b"db.internal", 5433), (b"169.254.169.254", 80), (b"other", 22), (b"1", 5432)])
async def test_any_other_destination_is_refused_with_the_reason(destination: tuple[bytes, int]) -> None:
    line = Line(decide)
    wants(line, Tunnel(*destination, b"127.0.0.1", 50000).build())
    await settle()
    (refused,) = line.to_client()
    assert refused.name == "open_failure"
    assert b"hopgate: rule `no` denies this: not that" in refused.rest
    assert (b"no -J" in refused.rest) is (destination[1] == 22)
    assert line.to_target() == []


@pytest.mark.parametrize("type", [b"direct-streamlocal@openssh.com", b"tun@openssh.com", b"x11", b"forwarded-tcpip", b"unheard-of"])
async def test_other_channels_are_refused(type: bytes) -> None:
    line = Line(lambda operation: ALLOW)
    wants(line, b"", type)
    await settle()
    assert names(line.to_client()) == ["open_failure"]
    assert line.to_target() == []


async def test_a_certificate_without_forwarding() -> None:
    ceilings = types.SimpleNamespace(pty=False, port_forwarding=False, agent=False, x11=False, force_command=None)
    line = Line(lambda operation: ALLOW, ceilings=ceilings)
    wants(line)
    line.client(codec.GLOBAL_REQUEST, Request(b"tcpip-forward", True, Forward(b"localhost", 8080).build()).build())
    await settle()
    assert names(line.to_client()) == ["open_failure", "global_failure"]
    channel = line.open()
    for name in (b"auth-agent-req@openssh.com", b"x11-req", b"pty-req"):
        line.ask(channel, name, codec.Terminal(b"x", 1, 1, 0, 0, b"").build() if name == b"pty-req" else b"")
    assert [name for name in names(line.to_client()) if name != "error"] == ["failure"] * 3
    assert line.to_target() == []


async def test_a_forced_command_runs_whatever_is_asked() -> None:
    ceilings = types.SimpleNamespace(pty=True, port_forwarding=True, agent=True, x11=True, force_command=b"uptime")
    line = Line(ceilings=ceilings)
    for name, rest in ((b"exec", codec.string(b"rm -rf /")), (b"shell", b""), (b"subsystem", codec.string(b"sftp"))):
        channel = line.open()
        line.ask(channel, name, rest)
        await line.confirm()
        assert [each.rest.rest for each in line.to_target()] == [codec.string(b"uptime")]


@pytest.mark.parametrize("broken", ["raises", "gone"])
async def test_a_destination_that_cannot_be_judged_or_reached(broken: str) -> None:
    line = Line(decide)
    if broken == "raises":
        line.session.decide = lambda operation: 1 / 0  # type: ignore[assignment, return-value]
    wants(line)
    await settle()
    if broken == "gone":
        (opening,) = line.to_target()
        line.target(codec.CHANNEL_OPEN_FAILURE, Failure(opening.rest.sender, 2, b"refused").build())
    assert names(line.to_client()) == ["open_failure"]
    assert line.to_target() == []


# --- towards the client


async def listening(port: int = 8080) -> Line:
    line = Line(decide)
    line.client(codec.GLOBAL_REQUEST, Request(b"tcpip-forward", True, Forward(b"localhost", port).build()).build())
    line.client(codec.GLOBAL_REQUEST, Request(b"keepalive@openssh.com", True, b"").build())
    await settle()
    assert line.to_target() == [Said("global", rest=Request(b"tcpip-forward", True, Forward(b"localhost", port).build()))]
    assert line.to_client() == []  # answers keep their order
    line.target(codec.REQUEST_SUCCESS, b"" if port else U32(40404))
    await settle()
    found = line.to_client()
    assert names(found) == ["global_success", "global_failure"]
    assert found[0].rest == (b"" if port else U32(40404))
    return line


@pytest.mark.parametrize("port", [8080, 0])
async def test_what_the_target_listens_for_reaches_the_client(port: int) -> None:
    line = await listening(port)
    rest = Tunnel(b"localhost", port or 40404, b"10.0.0.9", 1234).build()
    line.target(codec.CHANNEL_OPEN, Open(b"forwarded-tcpip", 50, 1 << 20, MAX_PACKET, rest).build())
    (opening,) = line.to_client()
    assert (opening.rest.type, opening.rest.rest) == (b"forwarded-tcpip", rest)
    line.client(codec.CHANNEL_OPEN_CONFIRMATION, Confirmation(opening.rest.sender, 9, 1 << 20, MAX_PACKET, b"").build())
    (accepted,) = line.to_target()
    line.output(accepted.rest.sender, b"hello")
    assert text(line.to_client(), "data") == b"hello"
    line.client(codec.GLOBAL_REQUEST, Request(b"cancel-tcpip-forward", True, Forward(b"localhost", port or 40404).build()).build())
    await settle()
    assert [each.rest.name for each in line.to_target()] == [b"cancel-tcpip-forward"]
    line.target(codec.CHANNEL_OPEN, Open(b"forwarded-tcpip", 51, 1 << 20, MAX_PACKET, rest).build())
    assert names(line.to_target()) == ["open_failure"]


@pytest.mark.parametrize("type", [b"forwarded-tcpip", b"auth-agent@openssh.com", b"x11", b"session", b"direct-tcpip"])
async def test_what_the_client_did_not_ask_for_does_not_reach_it(type: bytes) -> None:
    line = await listening()
    rest = Tunnel(b"localhost", 9090, b"10.0.0.9", 1234).build()
    line.target(codec.CHANNEL_OPEN, Open(type, 50, 1 << 20, MAX_PACKET, rest).build())
    assert names(line.to_target()) == ["open_failure"]
    assert line.to_client() == []


@pytest.mark.parametrize("forward", [Forward(b"", 8080), Forward(b"0.0.0.0", 22)])
async def test_any_other_port_is_refused(forward: Forward) -> None:
    line = Line(decide)
    line.client(codec.GLOBAL_REQUEST, Request(b"tcpip-forward", True, forward.build()).build())
    line.client(codec.GLOBAL_REQUEST, Request(b"cancel-tcpip-forward", True, forward.build()).build())
    await settle()
    assert names(line.to_client()) == ["global_failure"] * 2
    assert line.to_target() == []


async def test_the_agent_reaches_the_target_only_by_rule() -> None:
    line = Line(decide)
    channel = line.open()
    line.ask(channel, b"auth-agent-req@openssh.com")
    line.ask(channel, b"x11-req", b"\0")
    assert names(line.to_client()) == ["success", "failure"]
    line.target(codec.CHANNEL_OPEN, Open(b"auth-agent@openssh.com", 50, 1 << 20, MAX_PACKET, b"").build())
    assert names(line.to_target()) == ["open_failure"]  # nothing runs yet that it was offered to
    line.exec(channel, b"yes 1")
    await line.confirm()
    assert [each.rest.name for each in line.to_target()] == [b"auth-agent-req@openssh.com", b"exec"]
    line.target(codec.CHANNEL_OPEN, Open(b"auth-agent@openssh.com", 51, 1 << 20, MAX_PACKET, b"").build())
    assert [each.rest.type for each in line.to_client()] == [b"auth-agent@openssh.com"]
