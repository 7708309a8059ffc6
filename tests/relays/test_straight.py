"""Writes straight into the socket keep the order, lose nothing and never reach a descriptor that is no longer the transport's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator
from unittest import mock

import pytest

from relays import straight

pytestmark = pytest.mark.skipif(straight.Straight is None, reason="relays._straight is not compiled: transports write by themselves")


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A transport of the loop, and the other end as a plain socket."""
    near, far = socket.socketpair()
    far.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    try:
        yield transport, far
    finally:
        if not transport.is_closing():
            transport.abort()
        far.close()


async def receive(far: socket.socket, count: int) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < count:
        found += await loop.sock_recv(far, 1 << 16)
    return found


async def test_a_write_is_there_at_once() -> None:
    async with connected() as (transport, far):
        straight.writer(transport)(b"now")
        assert far.recv(10) == b"now"  # without a turn of the loop


async def test_everything_arrives_in_order_at_a_peer_that_reads_late() -> None:
    chance = random.Random(3)
    async with connected() as (transport, far):
        write = straight.writer(transport)
        pieces = [chance.randbytes(chance.choice((1, 90, 4000, 300_000))) for _ in range(60)]
        for number, piece in enumerate(pieces):
            (transport.write if number % 7 == 3 else write)(piece)  # the transport's own write, in between
            if number % 20 == 19:
                await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 0
        wanted = b"".join(pieces)
        assert await asyncio.wait_for(receive(far, len(wanted)), 30) == wanted


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_nothing_is_written_to_what_closes(end: str) -> None:
    async with connected() as (transport, far):
        write = straight.writer(transport)
        number = transport.get_extra_info("socket").fileno()
        getattr(transport, end)()
        write(b"late")
        await asyncio.sleep(0.05)
        with contextlib.suppress(OSError):
            os.fstat(number)
            pytest.fail("the descriptor is still open")
        other, third = socket.socketpair()
        with other, third:  # most likely one of them has the number now
            assert number in (other.fileno(), third.fileno())
            with contextlib.suppress(RuntimeError):  # uvloop's own write says that the handle is closed
                write(b"later")
            for each in (other, third):
                each.setblocking(False)
                with pytest.raises(BlockingIOError):
                    each.recv(10)
        assert far.recv(10) == b""


async def test_an_error_is_the_transports() -> None:
    lost = asyncio.get_running_loop().create_future()

    class Lost(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    near, far = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(Lost, sock=near)
    transport.pause_reading()
    far.close()
    straight.writer(transport)(b"nobody reads this")
    assert isinstance(await asyncio.wait_for(lost, 10), BrokenPipeError)


async def test_tls_and_what_has_no_socket_write_by_themselves() -> None:
    for known in ({"ssl_object": mock.Mock(ssl.SSLObject), "socket": mock.Mock()}, {}):
        transport = mock.Mock(get_extra_info=known.get)
        assert straight.writer(transport) is transport.write
