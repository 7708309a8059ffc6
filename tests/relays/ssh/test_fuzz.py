"""Whatever either side sends, in whatever order: nothing raises, the target sees only what was allowed, and nothing piles up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relays.ssh import codec
from relays.ssh.channel import WINDOW
from relays.ssh.codec import Confirmation, Failure, Forward, Open, Request, Terminal, Tunnel, Variable
from relays.ssh.connection import MAX_CHANNELS
from rules.model import Decision, Operation
from tests.relays.ssh.harness import ALLOW, DENY, Line, by_first_word, settle

NUMBERS = st.sampled_from([0, 0, 0, 1, 1, 2, 40, 99, 0xFFFFFFFF])
SIZES = st.sampled_from([0, 1, 1023, 1024, 32768, WINDOW, 0xFFFFFFFF])
COMMANDS = st.sampled_from([b"yes 1", b"yes 2", b"rm x", b"restart db", b"bash -s", b"scp -t /tmp/x", b"", b"\0", b"yes; rm x"])
DATA = st.one_of(st.binary(max_size=40), st.sampled_from([b"yes\n", b"rm x\n", b"\x03", b"exit\n", b"x" * 32768, b"x" * 32769]))
BYTES = st.binary(max_size=30)
RESTS = st.one_of(
    BYTES,
    COMMANDS.map(codec.string),
    st.builds(lambda columns: Terminal(b"xterm", columns, 24, 0, 0, b"\0").build(), SIZES),
    st.builds(lambda name, value: Variable(name, value).build(), st.sampled_from([b"LC_ALL", b"PATH"]), BYTES),
    st.just(codec.string(b"sftp")),
    st.just(Tunnel(b"db.internal", 5432, b"127.0.0.1", 1).build()),
    st.just(Forward(b"localhost", 8080).build()),
)
NAMES = st.sampled_from(
    b"exec exec exec shell subsystem pty-req env window-change signal break x11-req auth-agent-req@openssh.com eow@openssh.com exit-status"
    b" exit-signal xon-xoff unheard-of".split()
)
GLOBALS = st.sampled_from(b"keepalive@openssh.com tcpip-forward cancel-tcpip-forward no-more-sessions@openssh.com unheard-of".split())
TYPES = st.sampled_from(b"session session session direct-tcpip forwarded-tcpip x11 auth-agent@openssh.com unheard-of".split())


def message(number: int, payload: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[int, bytes]]:
    return payload.map(lambda found: (number, found))


U32 = codec.UINT32.pack
MESSAGES: Any = st.one_of(
    message(codec.CHANNEL_OPEN, st.builds(lambda *fields: Open(*fields).build(), TYPES, NUMBERS, SIZES, SIZES, RESTS)),
    message(codec.CHANNEL_OPEN, st.builds(lambda number: Open(b"session", number, WINDOW, 32768, b"").build(), NUMBERS)),
    message(codec.CHANNEL_OPEN_CONFIRMATION, st.builds(lambda *fields: Confirmation(*fields, b"").build(), NUMBERS, NUMBERS, SIZES, SIZES)),
    message(codec.CHANNEL_OPEN_CONFIRMATION, st.builds(lambda number: Confirmation(number, 40, WINDOW, 32768, b"").build(), NUMBERS)),
    message(codec.CHANNEL_OPEN_FAILURE, st.builds(lambda number: Failure(number, 1, b"no").build(), NUMBERS)),
    message(codec.CHANNEL_WINDOW_ADJUST, st.builds(codec.TWO.pack, NUMBERS, SIZES)),
    message(codec.CHANNEL_DATA, st.builds(lambda number, data: U32(number) + codec.string(data), NUMBERS, DATA)),
    message(
        codec.CHANNEL_EXTENDED_DATA,
        st.builds(lambda *fields: codec.TWO.pack(*fields[:2]) + codec.string(fields[2]), NUMBERS, st.sampled_from([1, 2]), DATA),
    ),
    message(codec.CHANNEL_EOF, NUMBERS.map(U32)),
    message(codec.CHANNEL_CLOSE, NUMBERS.map(U32)),
    message(codec.CHANNEL_SUCCESS, NUMBERS.map(U32)),
    message(codec.CHANNEL_FAILURE, NUMBERS.map(U32)),
    message(
        codec.CHANNEL_REQUEST,
        st.builds(lambda number, *fields: U32(number) + Request(*fields).build(), NUMBERS, NAMES, st.booleans(), RESTS),
    ),
    message(
        codec.CHANNEL_REQUEST,
        st.builds(lambda number, name: U32(number) + Request(b"exec", True, codec.string(name)).build(), NUMBERS, COMMANDS),
    ),
    message(codec.GLOBAL_REQUEST, st.builds(lambda *fields: Request(*fields).build(), GLOBALS, st.booleans(), RESTS)),
    message(codec.REQUEST_SUCCESS, BYTES),
    st.tuples(st.integers(80, 127), BYTES),
)
STEPS: Any = st.lists(
    st.one_of(
        st.tuples(st.just("client"), MESSAGES),
        st.tuples(st.just("client"), MESSAGES),
        st.tuples(st.just("target"), MESSAGES),
        st.tuples(st.sampled_from(["settle", "approve", "deny", "full", "room"]), st.none()),
    ),
    max_size=60,
)
ALLOWED = {codec.string(command) for command in (b"yes 1", b"yes 2", b"scp -t /tmp/x", b"restart db", b"bash -s", b"")}


def decide(operation: Operation) -> Decision:
    """Commands by their first word; shells in lines, one destination, locales."""
    action = operation.facts.get("action")
    if action == "exec" or operation.parts:
        return by_first_word(operation)
    if action == "env":
        return ALLOW if str(operation.facts.get("variable")).startswith("LC_") else DENY
    return ALLOW if action == "shell" or operation.facts.get("destination") in ("db.internal:5432", "localhost:8080") else DENY


async def play(steps: list[tuple[str, Any]]) -> None:
    line = Line(decide)
    approved = False
    for what, given_message in steps:
        if what in ("client", "target"):
            (line.client if what == "client" else line.target)(*given_message)
        elif what in ("full", "room"):
            producer = line.near.producer
            (producer.pauseProducing if what == "full" else producer.resumeProducing)()
        elif what != "settle" and (future := line.session.answers.get("a1")) is not None and not future.done():
            future.set_result(ALLOW if what == "approve" else DENY)
            approved = approved or what == "approve"
        await settle()
        relay = line.relay
        assert len(relay.client.channels) <= MAX_CHANNELS
        assert all(channel.queued <= 2 * WINDOW for side in (relay.client, relay.server) for channel in side.channels.values())
        sent = line.to_target()
        execs = [each.rest.rest for each in sent if each.name == "request" and each.rest.name == b"exec"]
        assert set(execs) <= ALLOWED or all(b"rm" not in each for each in execs)
        assert approved or codec.string(b"restart db") not in execs
        assert not [each for each in sent if each.name == "request" and each.rest.name in (b"shell", b"pty-req", b"x11-req", b"subsystem")]
        assert not [each for each in sent if each.name == "open" and each.rest.type not in (b"session", b"direct-tcpip")]
    line.relay.client.serviceStopped()
    line.relay.server.serviceStopped()
    tasks = tuple(line.relay._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert line.failures == []
    assert line.relay.client.channels == line.relay.server.channels == {}


SUPPRESSED = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=40, deadline=None, suppress_health_check=SUPPRESSED)
@given(STEPS)
def test_whatever_both_sides_send(steps: list[tuple[str, Any]]) -> None:
    asyncio.run(play(steps))


@pytest.mark.fuzz
@settings(max_examples=8000, deadline=None, suppress_health_check=SUPPRESSED)
@given(STEPS)
def test_whatever_both_sides_send_for_long(steps: list[tuple[str, Any]]) -> None:
    asyncio.run(play(steps))
