"""The channel layer: windows, order, bounds, and what a peer that does not play by the rules gets."""

from __future__ import annotations

import logging

import pytest

from relays.ssh import codec
from relays.ssh.channel import LEAST_PACKET, MAX_PACKET, MAX_REPLIES, SMALL_WINDOW, WINDOW
from relays.ssh.codec import Confirmation, Open, Request
from relays.ssh.connection import MAX_CHANNELS, MAX_RUN, MAX_UNSENT, WINDOW_BUDGET
from relays.ssh.lane import Lane
from tests.relays.ssh.harness import Line, settle
from tests.relays.ssh.test_exec import names, text

U32 = codec.UINT32.pack


async def test_a_slow_reader_slows_the_target() -> None:
    line = Line()
    channel = line.open(window=10_000)
    line.exec(channel, b"yes 1")
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    line.to_client(), line.to_target()
    for _ in range(WINDOW // MAX_PACKET):
        line.output(upstream, b"x" * MAX_PACKET)
    assert line.to_target() == []  # no credit while the client has not taken it
    assert len(text(line.to_client(), "data")) == 10_000
    held = line.relay.client.channels[channel].queued
    assert held == WINDOW - 10_000
    line.client(codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(channel, held - 1))
    assert line.to_target() == []
    assert line.relay.client.channels[channel].queued == 1
    line.client(codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(channel, 1 << 20))
    (granted,) = line.to_target()
    assert (granted.name, granted.rest) == ("window", WINDOW)


async def test_a_slow_target_slows_the_client() -> None:
    line = Line()
    channel, _ = await line.running(window=100)
    for _ in range(WINDOW // MAX_PACKET):
        line.data(channel, b"x" * MAX_PACKET)
    assert line.to_client() == []
    assert len(text(line.to_target(), "data")) == 100
    line.target(codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(0, WINDOW))
    assert [(each.name, each.rest) for each in line.to_client()] == [("window", WINDOW)]


async def test_nothing_is_granted_while_the_kernel_takes_nothing() -> None:
    line = Line()
    channel, upstream = await line.running(window=1 << 30)
    line.client(codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(channel, 1 << 30))
    line.near.producer.pauseProducing()
    for _ in range(WINDOW // MAX_PACKET):
        line.output(upstream, b"x" * MAX_PACKET)
    assert line.to_client() == line.to_target() == []
    line.near.producer.resumeProducing()
    assert len(text(line.to_client(), "data")) == WINDOW
    assert names(line.to_target()) == ["window"]


async def test_end_of_file_status_and_close_wait_behind_the_data() -> None:
    line = Line()
    channel = line.open(window=10)
    line.exec(channel, b"yes 1")
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    line.to_client()
    line.output(upstream, b"0123456789abc")
    line.output(upstream, b"error", error=True)
    line.exit(upstream, 4)
    assert names(line.to_client()) == ["data"]
    line.client(codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(channel, 5))
    assert names(line.to_client()) == ["data", "error"]
    line.client(codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(channel, 5))
    assert names(line.to_client()) == ["error", "eof", "request exit-status", "close"]


@pytest.mark.parametrize("size", [0, 1, LEAST_PACKET - 1])
async def test_packets_of_no_size_are_refused_on_both_ends(size: int) -> None:
    line = Line()
    line.client(codec.CHANNEL_OPEN, Open(b"session", 7, 1 << 20, size, b"").build())
    assert names(line.to_client()) == ["open_failure"]
    channel = line.open()
    line.exec(channel, b"yes 1")
    await line.confirm(packet=size)
    found = line.to_client()
    assert names(line.to_target()) == ["close"]
    assert text(found).startswith(b"hopgate: ")
    assert found[-1].name == "close"


async def test_data_is_cut_to_what_the_peer_takes() -> None:
    line = Line()
    channel = line.open(packet=LEAST_PACKET)
    line.exec(channel, b"yes 1")
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    line.to_client()
    line.output(upstream, b"x" * 2500)
    line.output(upstream, b"y" * 2500, error=True)
    assert [len(each.rest) for each in line.to_client()] == [1024, 1024, 452, 1024, 1024, 452]


def come(line: Line, channel: int, data: bytes) -> None:
    """One CHANNEL_DATA of a run of packets, as a transport tells it: nothing has been told yet of what else has come."""
    packet = b"\x05^" + U32(channel) + codec.string(data) + b"paddi"
    line.relay.client.data_received(packet, 2, len(packet) - packet[0])


async def test_data_that_comes_in_a_run_goes_on_in_one_piece() -> None:
    line = Line()
    channel, _ = await line.running()
    for data in (b"one ", b"", b"two ", b"three"):
        come(line, channel, data)
    assert line.to_target() == []
    line.relay.client.flush()
    line.relay.client.flush()
    assert [each.rest for each in line.to_target()] == [b"one two three"]


async def test_what_follows_a_run_does_not_overtake_it() -> None:
    line = Line()
    one, _ = await line.running()
    two, _ = await line.running()
    come(line, one, b"first ")
    come(line, two, b"other")
    come(line, one, b"second")
    line.client(codec.CHANNEL_EOF, U32(one))
    assert [(each.name, each.rest) for each in line.to_target()] == [
        ("data", b"first "),
        ("data", b"other"),
        ("data", b"second"),
        ("eof", b""),
    ]


async def test_a_run_is_bounded_by_the_window_and_dropped_with_the_connection() -> None:
    line = Line()
    channel, _ = await line.running()
    for _ in range(MAX_RUN // MAX_PACKET):
        come(line, channel, b"x" * MAX_PACKET)
    assert len(text(line.to_target(), "data")) == MAX_RUN
    line.relay.server.full = True
    for _ in range(WINDOW // MAX_PACKET - MAX_RUN // MAX_PACKET + 1):
        come(line, channel, b"x" * MAX_PACKET)
    assert names(line.to_target()) == ["close"]
    line.relay.server.full = False
    other, _ = await line.running()
    come(line, other, b"lost")
    line.relay.client.serviceStopped()
    line.relay.client.flush()
    assert "data" not in names(line.to_target())


@pytest.mark.parametrize("what", ["too much", "too large", "behind the end", "unknown type", "error", "requests", "length"])
async def test_what_breaks_a_channel_breaks_only_that(what: str) -> None:
    line = Line()
    other, far = await line.running()
    channel = line.open(8)
    line.exec(channel, b"restart db")
    await settle()
    line.to_client()
    if what == "too much":
        for _ in range(WINDOW // MAX_PACKET + 1):
            line.data(channel, b"x" * MAX_PACKET)
    elif what == "too large":
        line.data(channel, b"x" * (MAX_PACKET + 1))
    elif what == "behind the end":
        line.client(codec.CHANNEL_EOF, U32(channel))
        line.data(channel, b"x")
    elif what == "unknown type":
        line.client(codec.CHANNEL_EXTENDED_DATA, codec.TWO.pack(channel, 2) + codec.string(b"x"))
    elif what == "error":
        line.client(codec.CHANNEL_EXTENDED_DATA, codec.TWO.pack(channel, 1) + codec.string(b"x"))
    elif what == "length":
        line.ask(channel, b"signal", b"\0\0\0\x09abc")
        line.approve()
        upstream = await line.confirm(number=41)
        line.target(codec.CHANNEL_SUCCESS, U32(upstream))
        await settle()
        line.ask(channel, b"window-change", b"abc")
        line.client(codec.CHANNEL_CLOSE, U32(channel))
        line.target(codec.CHANNEL_CLOSE, U32(upstream))
    else:
        for _ in range(MAX_REPLIES + 2):
            line.ask(channel, b"signal", codec.string(b"INT"))
    await settle()
    assert names(line.to_client())[-1] == "close"
    if what != "length":
        assert len(line.session.withdrawn) == 1
        assert line.to_target() == []
    line.to_target()
    line.data(other, b"still there")
    line.output(far, b"and back")
    assert text(line.to_target(), "data") == b"still there"
    assert text(line.to_client(), "data") == b"and back"
    assert line.near.ended == []


async def test_a_target_that_sends_too_much_ends_its_program() -> None:
    line = Line()
    _, upstream = await line.running()
    line.relay.client.full = True
    for _ in range(WINDOW // MAX_PACKET + 1):
        line.output(upstream, b"x" * MAX_PACKET)
    assert names(line.to_target()) == ["close"]
    assert line.near.ended == []


@pytest.mark.parametrize(
    ("number", "payload"),
    [
        (codec.CHANNEL_DATA, U32(99) + codec.string(b"x")),
        (codec.CHANNEL_EOF, U32(99)),
        (codec.CHANNEL_WINDOW_ADJUST, b"\0"),
        (codec.CHANNEL_WINDOW_ADJUST, codec.TWO.pack(0, 0xFFFFFFFF)),
        (codec.CHANNEL_DATA, U32(0) + b"\0\0\0\5abc"),
        (codec.CHANNEL_REQUEST, U32(0) + b"\0\0\0\xff"),
        (codec.CHANNEL_SUCCESS, U32(0)),
        (codec.CHANNEL_OPEN, codec.string(b"session" * 20) + bytes(12)),
        (codec.CHANNEL_OPEN_CONFIRMATION, Confirmation(0, 0, 0, 0, b"").build()),
        (codec.CHANNEL_OPEN_FAILURE, codec.Failure(3, 1, b"").build()),
        (codec.REQUEST_SUCCESS, b""),
        (codec.GLOBAL_REQUEST, b"\0\0\0\1"),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection(number: int, payload: bytes) -> None:
    line = Line()
    line.open()
    line.client(number, payload)
    assert len(line.near.ended) == 1
    assert line.far.aborted
    assert line.to_target() == []


async def test_a_message_that_is_not_known_is_said_to_be() -> None:
    line = Line()
    line.client(101, b"")
    assert [each.name for each in line.near.sent] == ["unimplemented"]
    assert line.near.ended == []


async def test_channels_are_bounded_and_so_are_their_windows() -> None:
    line = Line()
    windows = []
    for number in range(MAX_CHANNELS + 1):
        line.client(codec.CHANNEL_OPEN, Open(b"session", number, 1 << 20, MAX_PACKET, b"").build())
        (message,) = line.to_client()
        windows.append(message.rest.window if message.name == "open_confirmation" else 0)
    assert windows[:8] == [WINDOW] * 8
    assert windows[8:] == [SMALL_WINDOW] * (MAX_CHANNELS - 8) + [0]
    assert sum(windows) <= WINDOW_BUDGET + MAX_CHANNELS * SMALL_WINDOW


async def test_who_sends_and_does_not_read_is_dropped() -> None:
    line = Line()
    line.open()
    line.near.producer.pauseProducing()
    line.near.transport.unsent = MAX_UNSENT + 1
    line.client(codec.GLOBAL_REQUEST, Request(b"keepalive@openssh.com", True, b"").build())
    assert line.near.ended == ["the peer sends and does not read"]
    assert line.far.aborted


async def test_keepalives_and_unknown_global_requests_are_answered() -> None:
    line = Line()
    for name in (b"keepalive@openssh.com", b"unheard-of", b"streamlocal-forward@openssh.com", b"hostkeys-prove-00@openssh.com"):
        line.client(codec.GLOBAL_REQUEST, Request(name, True, b"").build())
    line.client(codec.GLOBAL_REQUEST, Request(b"unheard-of", False, b"").build())
    assert names(line.to_client()) == ["global_failure"] * 4
    line.target(codec.GLOBAL_REQUEST, Request(b"hostkeys-00@openssh.com", False, b"").build())
    line.target(codec.GLOBAL_REQUEST, Request(b"keepalive@openssh.com", True, b"").build())
    assert names(line.to_target()) == ["global_failure"]
    assert line.to_client() == []


async def test_no_more_sessions_means_no_more() -> None:
    line = Line()
    line.open()
    line.client(codec.GLOBAL_REQUEST, Request(b"no-more-sessions@openssh.com", False, b"").build())
    line.client(codec.CHANNEL_OPEN, Open(b"session", 9, 1 << 20, MAX_PACKET, b"").build())
    assert names(line.to_client()) == ["open_failure"]


@pytest.mark.parametrize("way", ["its owner", "the short way"])
async def test_an_owner_that_fails_takes_only_its_channel(way: str, caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    channel, upstream = await line.running()
    other, _ = await line.running()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret input")

    found = line.relay.client.channels[channel]
    assert found.lane is not None
    found.owner.data = fail  # type: ignore[method-assign]
    found.lane = Lane(found, line.relay.server.channels[upstream], fail) if way == "the short way" else None
    with caplog.at_level(logging.DEBUG):
        line.data(channel, b"secret input")
    assert names(line.to_client()) == ["close"]
    assert names(line.to_target()) == ["close"]
    assert line.failures == ["relay"]
    assert line.near.ended == []
    line.data(other, b"goes on")
    assert text(line.to_target(), "data") == b"goes on"


async def test_what_is_sent_never_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        line = Line()
        channel, upstream = await line.running()
        line.data(channel, b"typed-secret")
        line.output(upstream, b"printed-secret")
        line.ask(channel, b"unheard-of", b"asked-secret")
        line.client(codec.CHANNEL_DATA, U32(99) + codec.string(b"stray-secret"))
    assert "secret" not in caplog.text


async def test_a_session_that_ends_cuts_the_target_at_once_and_tells_the_client() -> None:
    line = Line()
    channel, _ = await line.running()
    line.relay._session_ended("killed by ops")
    assert line.far.aborted
    assert line.near.ended == []
    line.data(channel, b"rm")
    assert line.to_target() == []
    await settle()
    assert line.near.ended == ["the session was ended: killed by ops"]
