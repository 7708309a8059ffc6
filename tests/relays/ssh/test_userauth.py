"""The login: whatever is sent, in whatever order and while whatever is being checked, one proof makes one login."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key

from hopgate.errors import Denied, Unavailable
from relays.ssh.packets import SERVICE_REQUEST
from relays.ssh.userauth import ATTEMPTS, CUT, OFFERS, WAITING
from rules.model import Principal
from tests.relays.ssh.ends import FAILURE, SUCCESS, Caller, conversation, outside

PK_OK = INFO_REQUEST = 60
INFO_RESPONSE = 61


async def failures(client: Caller, count: int = 1) -> None:
    await client.until(lambda: client.numbers().count(FAILURE) >= count)


# --- tokens


async def test_none_lists_the_methods_and_costs_no_attempt() -> None:
    async with conversation() as (client, gate):
        await client.begin()
        for turn in range(1, ATTEMPTS + 3):
            client.ask(b"none")
            await failures(client, turn)
        listed = [getNS(payload) for number, payload in client.heard if number == FAILURE]
        assert set(listed) == {(b"publickey,password,keyboard-interactive", b"\0")}
        client.ask_password(b"good-a")
        await client.until(lambda: SUCCESS in client.numbers())
        assert [login.principal.subject for login in gate.logins] == ["a"]


async def test_wrong_tokens_are_told_why_and_counted() -> None:
    async with conversation() as (client, gate):
        await client.begin()
        for turn in range(1, ATTEMPTS):
            client.ask_password(b"bad")
            await failures(client, turn)
        assert client.banners() == [b"the token is malformed\r\n"] * (ATTEMPTS - 1)
        client.ask_password(b"bad")
        assert await client.gone() == "the token is malformed"
        assert gate.logins == []


@pytest.mark.parametrize("method", [b"password", b"keyboard-interactive"])
async def test_a_token_that_the_client_cut_off_is_told_what_to_do(method: bytes) -> None:
    everything = outside()
    async with conversation(everything) as (client, _):
        await client.begin()
        token = b"t" * CUT
        if method == b"password":
            client.ask_password(token)
        else:
            client.ask(method, NS(b""), NS(b""))
            await client.until(lambda: INFO_REQUEST in client.numbers())
            client.send(INFO_RESPONSE, b"\0\0\0\1", NS(token))
        await failures(client)
        assert b"hopgate token exchange" in client.banners()[0]
        assert everything.services.identity.checks == []


async def test_a_question_that_is_not_answered_gives_way_to_another_request() -> None:
    async with conversation() as (client, gate):
        await client.begin()
        client.ask(b"keyboard-interactive", NS(b""), NS(b""))
        await client.until(lambda: INFO_REQUEST in client.numbers())
        client.ask_password(b"good-a")
        await client.until(lambda: SUCCESS in client.numbers())
        assert len(gate.logins) == 1


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.send(INFO_RESPONSE, b"\0\0\0\1", NS(b"good-a")),
        lambda client: client.send(50, b"\xff\xff\xff\xff"),
        lambda client: client.send(50, NS(b"build")),
        lambda client: client.ask(b"password"),
        lambda client: client.ask(b"password", b"\0\xff\xff\xff\xff"),
        lambda client: client.ask(b"publickey", b"\1"),
        lambda client: client.ask(b"none", service=b"ssh-userauth"),
    ],
)
async def test_what_makes_no_sense_ends_it(send: Any) -> None:
    async with conversation() as (client, gate):
        await client.begin()
        send(client)
        assert await client.gone() != ""
        assert gate.logins == []


# --- races (the checks wait; the wire does not)


async def test_requests_sent_together_are_checked_one_after_the_other() -> None:
    everything = outside()
    everything.services.identity.gate.clear()
    async with conversation(everything) as (client, gate):
        await client.begin()
        client.ask_password(b"good-alice")
        client.ask_password(b"good-mallory")
        client.ask_password(b"bad")
        while not everything.services.identity.checks:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert everything.services.identity.checks == ["good-alice"]
        everything.services.identity.gate.set()
        await client.until(lambda: SUCCESS in client.numbers())
        client.ask_password(b"good-eve")
        client.send(94, b"x")
        while not gate.service.received:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        # the second success, which Conch would give, does not come: what follows the first is the connection's
        assert [login.principal.subject for login in gate.logins] == ["alice"]
        assert client.numbers().count(SUCCESS) == 1
        assert everything.services.identity.checks == ["good-alice"]


async def test_another_user_name_while_one_is_checked_gets_nothing_of_its_success() -> None:
    everything = outside()
    everything.services.identity.gate.clear()
    async with conversation(everything) as (client, gate):
        await client.begin()
        client.ask_password(b"bad", user=b"one")
        client.ask_password(b"good-alice", user=b"two")
        everything.services.identity.gate.set()
        assert "another user name" in await client.gone()
        assert gate.logins == []


async def test_too_many_requests_at_once_end_it() -> None:
    everything = outside()
    everything.services.identity.gate.clear()
    async with conversation(everything) as (client, gate):
        await client.begin()
        for _turn in range(WAITING + 2):
            client.ask_password(b"good-a")
        assert "more login requests" in await client.gone()
        everything.services.identity.gate.set()
        await gate.transport.closed
        assert gate.logins == []


@pytest.mark.parametrize("name", [b"ssh-userauth", b"ssh-connection"])
async def test_a_second_login_is_refused(name: bytes) -> None:
    async with conversation() as (client, gate):
        await client.begin()
        client.ask_password(b"good-a")
        await client.until(lambda: SUCCESS in client.numbers())
        client.send(SERVICE_REQUEST, NS(name))
        assert "cannot have now" in await client.gone()
        assert len(gate.logins) == 1


async def test_the_connection_service_cannot_be_had_without_a_login() -> None:
    async with conversation() as (client, gate):
        await client.until(lambda: client.keyed_once)
        client.send(SERVICE_REQUEST, NS(b"ssh-connection"))
        assert "cannot have now" in await client.gone()
        assert gate.logins == []


async def test_a_client_that_goes_away_while_it_is_let_in_ends_what_lets_it_in() -> None:
    async with conversation() as (client, gate):
        ended = asyncio.Event()

        async def wait() -> None:
            try:
                await asyncio.sleep(600)
            finally:
                ended.set()

        gate.answer = wait
        await client.begin()
        client.ask_password(b"good-a")
        while not gate.logins:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        gate.transport.tell("waiting for a reviewer")
        await client.until(client.banners)
        client.abort()
        await ended.wait()
        await gate.transport.closed


# --- gates that fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Denied("no rule allows this"), "no rule allows this"),
        (Unavailable("the target does not answer"), "the target does not answer"),
        (RuntimeError("secret-in-an-exception"), "the gateway failed to relay this"),
    ],
)
async def test_who_is_not_let_in_is_told_why_and_hears_of_no_success(error: Exception, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with conversation() as (client, gate):

        async def refuse() -> None:
            raise error

        gate.answer = refuse
        await client.begin()
        client.ask_password(b"good-a")
        assert await client.gone() == said
        assert SUCCESS not in client.numbers()
        assert client.banners() == ([] if isinstance(error, RuntimeError) else [said.encode() + b"\r\n"])
    assert "secret-in-an-exception" not in caplog.text


@pytest.mark.parametrize("error", [Unavailable("the store does not answer"), RuntimeError("good-token-in-an-exception")])
async def test_an_identity_that_cannot_be_checked_is_none(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    everything = outside()
    everything.services.identity.raises = error
    async with conversation(everything) as (client, gate):
        await client.begin()
        client.ask_password(b"good-a")
        assert await client.gone() in ("the store does not answer", "the gateway failed to relay this")
        assert gate.logins == []
    assert "good-" not in caplog.text


# --- keys


def signed(client: Caller, key: Key, algorithm: bytes, *, user: bytes = b"build", session: bytes | None = None, made: bytes = b"") -> None:
    """A request with a signature by `key`, made with another algorithm than the one that is named if `made` says so."""
    blob = key.public().blob()
    fields = b"".join((NS(user), NS(b"ssh-connection"), NS(b"publickey"), b"\1", NS(algorithm), NS(blob)))
    signature = key.sign(NS(session or client.sessionID or b"") + b"\x32" + fields, signatureType=made or algorithm)
    client.send(50, fields + NS(signature))


RSA = Key(rsa.generate_private_key(65537, 2048))
ED25519 = Key(Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ED25519, b"ssh-ed25519"),
        (RSA, b"rsa-sha2-512"),
        (RSA, b"rsa-sha2-256"),
        (Key(ec.generate_private_key(ec.SECP256R1())), b"ecdsa-sha2-nistp256"),
        (Key(ec.generate_private_key(ec.SECP521R1())), b"ecdsa-sha2-nistp521"),
    ],
    ids=["ed25519", "rsa-512", "rsa-256", "p256", "p521"],
)
async def test_a_known_key_is_asked_for_and_then_proved(key: Key, algorithm: bytes) -> None:
    everything = outside()
    everything.services.identity.ssh.keys[key.public().blob()] = Principal("local", "holder", expires_at=4e9)
    async with conversation(everything) as (client, gate):
        await client.begin()
        client.ask(b"publickey", b"\0", NS(algorithm), NS(key.public().blob()))
        await client.until(lambda: PK_OK in client.numbers())
        assert dict(client.heard)[PK_OK] == NS(algorithm) + NS(key.public().blob())
        assert gate.logins == []
        signed(client, key, algorithm)
        await client.until(lambda: SUCCESS in client.numbers())
        assert [login.principal.subject for login in gate.logins] == ["holder"]


WRONG = {
    "SHA-1": (RSA, {"algorithm": b"ssh-rsa"}),
    "SHA-1 inside": (RSA, {"algorithm": b"rsa-sha2-512", "made": b"ssh-rsa"}),
    "weaker inside": (RSA, {"algorithm": b"rsa-sha2-512", "made": b"rsa-sha2-256"}),
    "short": (Key(rsa.generate_private_key(65537, 1024)), {"algorithm": b"rsa-sha2-512"}),
    "DSA": (Key(dsa.generate_private_key(1024)), {"algorithm": b"ssh-dss"}),
    "another session": (ED25519, {"algorithm": b"ssh-ed25519", "session": bytes(32)}),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_known_key_that_proves_nothing(what: str) -> None:
    key, how = WRONG[what]
    everything = outside()
    everything.services.identity.ssh.keys[key.public().blob()] = Principal("local", "holder", expires_at=4e9)
    async with conversation(everything) as (client, gate):
        await client.begin()
        signed(client, key, **how)
        await failures(client)
        assert gate.logins == []


async def test_a_signature_is_for_one_user_name() -> None:
    everything = outside()
    everything.services.identity.ssh.keys[ED25519.public().blob()] = Principal("local", "holder", expires_at=4e9)
    async with conversation(everything) as (client, gate):
        await client.begin()
        blob = ED25519.public().blob()
        fields = b"".join((NS(b"ssh-connection"), NS(b"publickey"), b"\1", NS(b"ssh-ed25519"), NS(blob)))
        signature = ED25519.sign(NS(client.sessionID or b"") + b"\x32" + NS(b"other") + fields)
        client.send(50, NS(b"build") + fields + NS(signature))
        await failures(client)
        assert client.banners() == [b"the signature is wrong\r\n"]
        assert gate.logins == []


async def test_an_agent_may_offer_many_keys_but_not_without_end() -> None:
    async with conversation() as (client, gate):
        await client.begin()
        for _turn in range(OFFERS):
            client.ask(b"publickey", b"\0", NS(b"ssh-ed25519"), NS(Key(Ed25519PrivateKey.generate()).public().blob()))
            await failures(client, _turn + 1)
        assert client.banners() == []
        client.ask(b"publickey", b"\0", NS(b"ssh-ed25519"), NS(ED25519.public().blob()))
        assert "too many" in await client.gone()
        assert gate.logins == []


@pytest.mark.parametrize(
    "blob", [b"", b"\0\0\0\x0bssh-ed25519", NS(b"ssh-ed25519") + NS(b"short"), NS(b"ssh-ed25519") + NS(bytes(32)) + b"more"]
)
async def test_a_key_that_is_none_is_refused(blob: bytes) -> None:
    everything = outside()
    everything.services.identity.ssh.keys[blob] = Principal("local", "holder", expires_at=4e9)
    async with conversation(everything) as (client, gate):
        await client.begin()
        fields = b"".join((NS(b"build"), NS(b"ssh-connection"), NS(b"publickey"), b"\1", NS(b"ssh-ed25519"), NS(blob)))
        client.send(50, fields + NS(NS(b"ssh-ed25519") + NS(bytes(64))))
        await client.until(lambda: FAILURE in client.numbers() or client.is_lost)
        assert gate.logins == []
