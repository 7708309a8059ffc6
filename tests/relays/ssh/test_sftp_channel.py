"""The subsystem sftp of a channel: its filter between both ends, and every gate that closes when it breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relays.ssh import codec
from relays.ssh.sftp import codec as sftp
from rules.model import Decision, Operation
from tests.relays.ssh.harness import ALLOW, DENY, Line, settle
from tests.relays.ssh.test_exec import names, status, text

U32 = codec.UINT32.pack


def packet(kind: int, payload: bytes) -> bytes:
    return U32(len(payload) + 1) + bytes((kind,)) + payload


VERSION = packet(sftp.VERSION, U32(3))
HOME = codec.string(b"/home/app")


def opening(request: int, path: bytes) -> bytes:
    return packet(sftp.OPEN, U32(request) + codec.string(path) + U32(1) + U32(0))


def decide(operation: Operation) -> Decision:
    paths = operation.facts.get("paths") or ()
    if operation.facts.get("action") == "subsystem":
        return ALLOW if operation.facts.get("subsystem") == "sftp" else DENY
    if any("held" in path for path in paths):
        return replace(ALLOW, effect="hold")
    return ALLOW if all(path.startswith("/tmp/") for path in paths) else DENY


async def started(decides: Any = decide) -> tuple[Line, int, int]:
    """A channel whose ends have agreed on the version."""
    line = Line(decides)
    channel = line.open()
    line.ask(channel, b"subsystem", codec.string(b"sftp"))
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    line.data(channel, packet(sftp.INIT, U32(3)))
    line.output(upstream, VERSION)
    asked = text(line.to_target(), "data")
    (request,) = codec.UINT32.unpack_from(asked, len(asked) - 4 - 5)
    answer_realpath(line, upstream, request, b"/home/app")
    assert text(line.to_client(), "data")[4] == sftp.VERSION
    line.to_target()
    return line, channel, upstream


def answer_realpath(line: Line, upstream: int, request: int, path: bytes) -> None:
    line.output(upstream, packet(sftp.NAME, U32(request) + U32(1) + codec.string(path) + codec.string(b"") + U32(0)))


async def resolve(line: Line, upstream: int) -> bytes:
    """Answer what the gateway asks about paths with the same path; what else the target was sent."""
    rest = b""
    for _ in range(4):
        await settle()
        sent = text(line.to_target(), "data")
        while sent:
            size = 4 + int.from_bytes(sent[:4], "big")
            one, sent = sent[:size], sent[size:]
            if one[4] == sftp.REALPATH:
                fields = codec.Fields(one, 5)
                answer_realpath(line, upstream, fields.uint32(), fields.string())
            else:
                rest += one
    return rest


async def test_requests_pass_as_they_came_or_are_refused() -> None:
    line, channel, upstream = await started()
    line.data(channel, opening(1, b"/tmp/x"))
    assert await resolve(line, upstream) == opening(1, b"/tmp/x")
    line.data(channel, opening(2, b"/etc/shadow"))
    assert await resolve(line, upstream) == b""
    found = line.to_client()
    assert text(found, "data")[4] == sftp.STATUS
    assert b"not that" in text(found)
    line.client(codec.CHANNEL_EOF, U32(channel))
    assert names(line.to_target()) == ["eof"]
    line.exit(upstream)
    assert names(line.to_client()) == ["eof", "request exit-status", "close"]


async def test_a_held_request_waits_alone() -> None:
    line, channel, upstream = await started()
    line.data(channel, opening(1, b"/tmp/held") + opening(2, b"/tmp/free"))
    assert await resolve(line, upstream) == opening(2, b"/tmp/free")
    assert b"hopgate approvals approve a1" in text(line.to_client())
    line.approve()
    assert await resolve(line, upstream) == opening(1, b"/tmp/held")


@pytest.mark.parametrize("broken", ["authorize", "authorize_now"])
async def test_a_request_that_cannot_be_judged_does_not_pass(broken: str) -> None:
    line, channel, upstream = await started()

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    line.session.authorize_now = lambda *_: None  # type: ignore[method-assign]
    setattr(line.session, broken, fail)
    line.data(channel, opening(1, b"/tmp/x"))
    assert await resolve(line, upstream) == b""
    found = line.to_client()
    assert text(found, "data")[4:5] == bytes((sftp.STATUS,)) if broken == "authorize" else found[-1].name == "close"
    assert line.failures


@pytest.mark.parametrize("side", ["client", "target"])
async def test_what_is_no_sftp_ends_the_channel(side: str) -> None:
    line, channel, upstream = await started()
    junk = b"\xff" * 40
    (line.data if side == "client" else line.output)(channel if side == "client" else upstream, junk)
    found = line.to_client()
    assert names(line.to_target()) == ["close"]
    assert found[-1].name == "close"
    assert status(found) == 126
    assert line.near.ended == []


async def test_other_subsystems_need_a_rule() -> None:
    line = Line(decide)
    channel = line.open()
    line.ask(channel, b"subsystem", codec.string(b"netconf"))
    await settle()
    assert status(line.to_client()) == 126
    assert line.to_target() == []


async def test_who_leaves_withdraws_what_is_held() -> None:
    line, channel, upstream = await started()
    line.data(channel, opening(1, b"/tmp/held"))
    await resolve(line, upstream)
    line.client(codec.CHANNEL_CLOSE, U32(channel))
    await settle()
    assert len(line.session.withdrawn) == 1
    assert names(line.to_target()) == ["close"]
