"""Key exchanges and limits, with a client that does what it should not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.conch.ssh.common import NS
from twisted.logger import globalLogPublisher

from relays.ssh import algorithms, transport
from relays.ssh.ciphers import PlainSeal, open_with, seal_with
from relays.ssh.negotiation import KexInit
from relays.ssh.packets import DEBUG, DISCONNECT, IGNORE, KEX_INIT, KEXINIT, MAX_EARLY_PACKET, NEWKEYS, SERVICE_REQUEST
from relays.ssh.transport import RekeyAfter
from tests.relays.ssh.ends import SUCCESS, Caller, Recorder, conversation, outside, raw


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """Everything that Twisted and the standard library's loggers say, at every level."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    caplog.set_level(logging.DEBUG)
    yield events
    globalLogPublisher.removeObserver(events.append)
    events.extend(record.getMessage() for record in caplog.records)


async def log_in(client: Caller, token: bytes = b"good-agent") -> None:
    await client.begin()
    client.ask_password(token)
    await client.until(lambda: SUCCESS in client.numbers())


# --- key exchange


@pytest.mark.parametrize("kex", algorithms.KEX)
@pytest.mark.parametrize("cipher", algorithms.CIPHERS)
async def test_every_algorithm_carries_a_login(kex: bytes, cipher: bytes) -> None:
    class Picky(Caller):
        def offer(self) -> KexInit:
            return KexInit.both((kex, algorithms.STRICT_CLIENT), (b"ssh-ed25519",), (cipher,))

    async with conversation(caller=Picky) as (client, gate):
        await log_in(client)
        assert (client.kexAlg, client.strict, gate.transport.strict) == (kex, True, True)
        client.send(94, b"hello")
        client.send(2, NS(b""))
        client.rekey()
        client.send(94, b"again")
        while len(gate.service.received) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert gate.service.received == [(94, b"hello"), (94, b"again")]


async def test_who_has_no_strict_key_exchange_is_served_without() -> None:
    class Old(Caller):
        def offer(self) -> KexInit:
            return KexInit.both((b"curve25519-sha256",), (b"ssh-ed25519",), (b"aes128-ctr",))

        def version_received(self) -> None:
            self.send(IGNORE, NS(b"before"))
            super().version_received()
            self.send(DEBUG, b"\0", NS(b"between"), NS(b""))

    async with conversation(caller=Old) as (client, gate):
        await log_in(client)
        assert not gate.transport.strict


@pytest.mark.parametrize("when", ["before", "between"])
async def test_a_message_that_shifts_sequence_numbers_ends_a_strict_key_exchange(when: str) -> None:
    class Terrapin(Caller):
        def version_received(self) -> None:
            if when == "before":
                self.send(IGNORE, NS(b"x"))
            super().version_received()

        def agreement(self, agreed: Any) -> None:
            if when == "between":
                self.send(IGNORE, NS(b"x"))
            super().agreement(agreed)

    async with conversation(caller=Terrapin) as (client, _):
        assert "key exchange" in await client.gone()


@pytest.mark.parametrize(
    ("number", "payload"),
    [(KEX_INIT, NS(bytes(32))), (NEWKEYS, b""), (31, b""), (49, b"x")],
    ids=["init", "newkeys", "reply", "unknown"],
)
async def test_half_a_key_exchange_is_refused(number: int, payload: bytes) -> None:
    async with conversation() as (client, gate):
        await log_in(client)
        client.send(number, payload)
        assert "key exchange" in await client.gone()
        await gate.transport.closed
        assert gate.service.stopped


async def test_a_key_exchange_in_the_middle_of_another_is_refused() -> None:
    class Eager(Caller):
        def agreement(self, agreed: Any) -> None:
            self.send(KEXINIT, self.ourKexInitPayload[1:])

    async with conversation(caller=Eager) as (client, _):
        assert "in the middle of another" in await client.gone()


async def test_nothing_passes_while_the_client_owes_its_part_of_a_key_exchange() -> None:
    class Sly(Caller):
        def agreement(self, agreed: Any) -> None:
            if not self.keyed_once:
                super().agreement(agreed)
                return
            self.blocked = None
            self.send(94, b"in between")

    async with conversation(caller=Sly) as (client, gate):
        await log_in(client)
        client.rekey()
        assert "may not come during a key exchange" in await client.gone()
        assert gate.service.received == []


async def test_an_all_zero_public_key_is_refused() -> None:
    class Zero(Caller):
        def agreement(self, agreed: Any) -> None:
            self.send(KEX_INIT, NS(bytes(32)))

        def offer(self) -> KexInit:
            return KexInit.both((b"curve25519-sha256",), (b"ssh-ed25519",), algorithms.CIPHERS)

    async with conversation(caller=Zero) as (client, _):
        assert "cannot be read" in await client.gone()


# --- new keys


@pytest.mark.parametrize(("limit", "strict"), [(RekeyAfter(bytes=20_000), True), (RekeyAfter(seconds=0.02), True)])
async def test_new_keys_come_by_bytes_and_by_time_in_the_middle_of_traffic(
    limit: RekeyAfter, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport.Transport, "rekey_after", limit)
    async with conversation() as (client, gate):
        await log_in(client)
        sent = [(94, bytes([n % 256]) * 3000) for n in range(60)]
        for number, payload in sent:
            client.send(number, payload)
            gate.transport.send(number, payload)
            await asyncio.sleep(0.001)
        await client.until(lambda: client.exchanges > 2 and len([n for n in client.numbers() if n == 94]) == len(sent))
        while len(gate.service.received) < len(sent):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert gate.service.received == sent
        assert [each for each in client.heard if each[0] == 94] == sent


async def test_more_key_exchanges_than_traffic_needs_end_it() -> None:
    async with conversation() as (client, _):
        await log_in(client)
        for turn in range(2, 200):
            client.rekey()
            while client.exchanges < turn and not client.is_lost:
                client.changed.clear()
                await client.changed.wait()
            if client.is_lost:
                break
        assert "more key exchanges than its traffic needs" in client.goodbye
        assert client.exchanges >= transport.EXCHANGES


async def test_a_key_exchange_that_is_not_finished_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(Caller):
        def agreement(self, agreed: Any) -> None:
            if not self.keyed_once:
                super().agreement(agreed)

        def _exchange_late(self) -> None:
            pass

    async with conversation(caller=Lazy) as (client, gate):
        await client.begin()
        monkeypatch.setattr(transport, "EXCHANGE_SECONDS", 0.05)
        gate.transport.rekey()
        assert "took too long" in await client.gone()


# --- how bytes come


class Silent:
    """Where packets go that nobody reads."""

    unsent = 0

    def write(self, data: bytes) -> None:
        pass


SENT = [(94, b"x" * size) for size in (0, 1, 5000, 32768)] + [(80, NS(b"keepalive@openssh.com") + b"\1"), (98, b"y")]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40_000), max_size=30), st.sampled_from([b"aes256-gcm@openssh.com", b"aes128-ctr"]))
def test_it_never_matters_how_bytes_are_cut(cuts: list[int], cipher: bytes) -> None:
    async def feed() -> None:
        keys = (cipher, b"hmac-sha2-256", bytes(64), bytes(16), bytes(64))
        sealing, end, service = seal_with(*keys), Caller(outside()), Recorder()
        end.transport, end.opening, end.keyed_once, end.service = Silent(), open_with(*keys), True, service  # type: ignore[assignment]
        end.gotVersion = True
        stream = b"".join(bytes(sealing.seal(number, (payload,))) for number, payload in SENT)
        at = 0
        for size in [*cuts, len(stream)]:
            if at < len(stream):
                end.dataReceived(stream[at : at + size])
                at += size
        assert service.received == SENT

    asyncio.run(feed())


# --- limits


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"first line is not SSH"),
        (b"SSH-1.5-old\r\n", b"only SSH version 2.0"),
        (b"SSH-2.0-\xff\xfe\r\n", b"only SSH version 2.0"),
        (b"SSH-2.0-" + b"x" * 300, b"too long"),
    ],
)
async def test_what_is_no_ssh_is_told_so(line: bytes, said: bytes) -> None:
    async with raw() as (reader, writer, _):
        writer.write(line)
        assert said in await reader.read()


async def test_a_long_packet_before_the_login_is_refused_before_it_has_come() -> None:
    async with raw() as (reader, writer, _):
        writer.write(b"SSH-2.0-test\r\n" + (MAX_EARLY_PACKET + 8).to_bytes(4, "big") + bytes(8))
        assert b"of a length that none may have" in await reader.read()


@pytest.mark.parametrize("number", [SERVICE_REQUEST, 50, 80, 90, 94, 98, 200, 255, 0])
async def test_nothing_but_a_key_exchange_may_come_first(number: int) -> None:
    async with raw() as (reader, writer, gate):
        writer.write(b"SSH-2.0-test\r\n" + PlainSeal().seal(number, (NS(b"ssh-connection"), b"x" * 20)))
        assert b"may not come during a key exchange" in await reader.read()
        assert gate.logins == []


@pytest.mark.parametrize("number", [80, 90, 94, 98])
async def test_no_channel_before_the_login(number: int) -> None:
    async with conversation() as (client, gate):
        await client.begin()
        client.send(number, NS(b"session") + bytes(12))
        assert "may not come before the login" in await client.gone()
        assert (gate.logins, gate.service.received) == ([], [])


async def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relays.ssh.server.LOGIN_SECONDS", 0.05)
    everything = outside()
    async with conversation(everything) as (client, _):
        assert everything.starting
        assert "no login within" in await client.gone()
    assert (everything.starting, everything.drivers) == (set(), set())


async def test_who_makes_us_answer_and_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relays.ssh.packets.MAX_UNSENT", 1 << 20)
    async with conversation() as (client, gate):
        await log_in(client)
        client.transport.pauseProducing()
        while not gate.transport.over:
            for _ in range(200):
                client.send(9, b"x" * 100)  # a message that there is not: each is answered
                gate.transport.send(94, b"y" * 1000)
            await asyncio.sleep(0)
        assert gate.transport.ended_because == "the client does not read what it asks for"


async def test_who_asks_for_much_while_it_owes_a_key_exchange_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relays.ssh.packets.MAX_BLOCKED", 100)

    class Lazy(Caller):
        def agreement(self, agreed: Any) -> None:
            if not self.keyed_once:
                super().agreement(agreed)

    async with conversation(caller=Lazy) as (client, gate):
        await log_in(client)
        gate.transport.rekey()
        for _ in range(101):
            gate.transport.send(94, b"x")
        assert "too much during a key exchange" in await client.gone()


async def test_both_legs_end_together() -> None:
    async with conversation() as (one, first), conversation() as (two, second):
        await log_in(one)
        await log_in(two)
        first.transport.pair(second.transport)
        two.abort()
        assert "the client closed the connection" in await one.gone()
    async with conversation() as (one, first), conversation() as (two, second):
        await log_in(one)
        await log_in(two)
        first.transport.pair(second.transport)
        first.transport.kill("killed by ops\x1b[31m\r\nand more")
        assert await one.gone() == "killed by ops [31m  and more"
        assert await two.gone() == ""  # cut off, not told


async def test_an_error_of_the_service_ends_the_connection_and_tells_nothing_of_it(said: list[Any]) -> None:
    everything = outside()
    async with conversation(everything) as (client, gate):
        await log_in(client)

        def broken(number: int, payload: bytes) -> None:
            raise RuntimeError("secret-in-an-exception")

        gate.service.packetReceived = broken  # type: ignore[method-assign]
        client.send(94, b"x")
        assert await client.gone() == "the gateway failed to relay this"
        assert everything.services.metrics.failed == ["relay"]
    assert "secret-in-an-exception" not in str(said)


async def test_nothing_of_a_conversation_is_logged(said: list[Any]) -> None:
    async with conversation() as (client, gate):
        await log_in(client, b"good-secret-of-the-login")
        client.send(94, b"payload-of-a-channel")
        client.send(199, b"payload-of-nobody-knows")
        client.send(9, b"payload-of-no-message")
        client.send(DEBUG, b"\1", NS(b"payload-of-debug"), NS(b""))
        client.send(DISCONNECT, b"\0\0\0\x0b", NS(b"payload-of-goodbye"), NS(b""))
        await gate.transport.closed
        assert (94, b"payload-of-a-channel") in gate.service.received
    for word in ("payload-of", "secret-of"):
        assert word not in str(said)
