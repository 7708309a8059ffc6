"""The login at a target, and targets that lie: what they are must be proved first, and they get the one credential or nothing."""

from __future__ import annotations

import asyncio
import base64
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, SSHCertificateBuilder, SSHCertificateType
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key

from hopgate.addresses import Address
from hopgate.credentials import Lease
from hopgate.errors import Misconfigured, Unavailable
from hopgate.ssh_host_keys import HostKey, parse_host_key
from hopgate.ssh_keys import public_blob, public_line
from relays.ssh import algorithms
from relays.ssh.client import ClientTransport, HostKeyRefused, check_host_key, host_key_algorithms
from relays.ssh.packets import SERVICE_ACCEPT, SERVICE_REQUEST
from relays.ssh.server import ServerTransport
from relays.ssh.upstream import load_private_key
from tests.relays.ssh.ends import FAILURE, REQUEST, SUCCESS, TARGET_KEY, Gate, Recorder, attach, connected, outside

PASSWORD = "pass-of-the-target"
METHODS = NS(b"publickey,password,keyboard-interactive") + b"\0"
INFO_REQUEST, INFO_RESPONSE = 60, 61
SEALED = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(1).build(b"x")  # the usual rounds take seconds


class Target(ServerTransport):
    """Answers each login message with what `script` says: (number, payload) pairs, by method."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.script: dict[bytes, list[tuple[int, bytes]]] = {}
        self.heard: list[tuple[int, bytes]] = []

    def received(self, number: int, payload: bytes) -> None:
        self.heard.append((number, payload))
        if number == SERVICE_REQUEST:
            self.send(SERVICE_ACCEPT, payload)
        elif number in (REQUEST, INFO_RESPONSE):
            method = getNS(payload, 3)[2] if number == REQUEST else b"answer"
            for one, data in self.script.get(method, [(FAILURE, METHODS)]):
                self.send(one, data)

    def secrets(self) -> bytes:
        """All that it was told."""
        return b"".join(payload for _, payload in self.heard)


def session(*lines: str, host: str = "127.0.0.1") -> Any:
    keys = tuple(map(parse_host_key, lines or (public_line(TARGET_KEY),)))
    return SimpleNamespace(connection=SimpleNamespace(name="build", host_keys=keys, address=Address(host, 22)))


async def meet(script: dict[bytes, list[tuple[int, bytes]]], lease: Lease, opened: Any = None) -> tuple[ClientTransport, Target]:
    """Let the gateway log in at a target. Raises what `connect_upstream` would."""
    near, far = connected()
    gate = Gate(outside(), TARGET_KEY, Target)
    target = gate.transport
    assert isinstance(target, Target)
    target.script = script
    client = ClientTransport(outside(), opened or session(), lease, Recorder())
    await attach(target, far)
    await attach(client, near)
    try:
        await client.ready
    except Exception as error:
        error.target = target  # type: ignore[attr-defined]
        raise
    finally:
        if client.ready.exception() is not None:
            client.abort()
            await target.closed
    return client, target


def password(text: str = PASSWORD) -> Lease:
    return Lease("build", 1, username="deploy", password=text)


async def done(client: ClientTransport, target: Target) -> None:
    client.abort()
    await target.closed


async def test_a_password_goes_to_who_asks_for_it_and_the_connection_begins_at_once() -> None:
    # what comes right behind the success is for the connection, and must not find the login still there
    script = {b"password": [(SUCCESS, b""), (80, NS(b"hostkeys-00@openssh.com") + b"\0")]}
    client, target = await meet(script, password())
    service = client.service
    assert isinstance(service, Recorder)
    while not service.received:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    methods = [getNS(payload, 3) for number, payload in target.heard if number == REQUEST]
    assert [(user, method) for user, _, method, _ in methods] == [(b"deploy", b"none"), (b"deploy", b"password")]
    await done(client, target)


async def test_one_question_for_the_password_is_answered() -> None:
    asked = NS(b"") + NS(b"") + NS(b"") + b"\0\0\0\1" + NS(b"Password: ") + b"\0"
    script = {
        b"none": [(FAILURE, NS(b"keyboard-interactive") + b"\0")],
        b"keyboard-interactive": [(INFO_REQUEST, asked)],
        b"answer": [(INFO_REQUEST, NS(b"") * 3 + b"\0\0\0\0"), (SUCCESS, b"")],
    }
    client, target = await meet(script, password())
    assert (INFO_RESPONSE, b"\0\0\0\1" + NS(PASSWORD.encode())) in target.heard
    await done(client, target)


def question(*prompts: tuple[bytes, int]) -> bytes:
    return NS(b"") * 3 + len(prompts).to_bytes(4, "big") + b"".join(NS(text) + bytes((echo,)) for text, echo in prompts)


@pytest.mark.parametrize(
    "asked",
    [
        question((b"Password: ", 1)),
        question((b"Password: ", 0), (b"Password of your bank: ", 0)),
        question((b"Verification code: ", 0)),
        question((b"", 0)),
    ],
    ids=["shown", "two", "code", "empty"],
)
async def test_any_other_question_gets_nothing(asked: bytes) -> None:
    script = {b"none": [(FAILURE, NS(b"keyboard-interactive") + b"\0")], b"keyboard-interactive": [(INFO_REQUEST, asked)]}
    with pytest.raises(Unavailable, match="asks for something else than a password") as caught:
        await meet(script, password())
    assert PASSWORD.encode() not in caught.value.target.secrets()  # type: ignore[attr-defined]


async def test_a_second_question_is_not_answered_again() -> None:
    asked = question((b"Password: ", 0))
    script = {
        b"none": [(FAILURE, NS(b"keyboard-interactive") + b"\0")],
        b"keyboard-interactive": [(INFO_REQUEST, asked)],
        b"answer": [(INFO_REQUEST, asked)],
    }
    with pytest.raises(Unavailable) as caught:
        await meet(script, password())
    assert caught.value.target.secrets().count(PASSWORD.encode()) == 1  # type: ignore[attr-defined]


KEY = Lease("build", 1, username="deploy", private_key=Key(Ed25519PrivateKey.generate()).toString("OPENSSH").decode())


@pytest.mark.parametrize(
    ("script", "lease", "said"),
    [
        ({b"none": [(SUCCESS, b"")]}, password(), "lets anybody in without a credential"),
        ({}, password(), "refused the stored password of its user"),
        ({}, KEY, "refused the stored key of its user"),
        ({}, Lease("build", 1, username="deploy"), "neither a private_key nor a password"),
        ({b"none": [(FAILURE, NS(b"gssapi-with-mic,\xff\x1b[2J") + b"\0")]}, password(), r"it takes gssapi-with-mic\)"),
        ({b"password": [(60, NS(b"new password") + NS(b""))]}, password(), "the stored password has expired"),
        ({b"publickey": [(60, NS(b"ssh-ed25519") + NS(b""))]}, KEY, "goes another way"),
        ({b"none": [(SUCCESS, b""), (80, b"x")]}, password(), "does not belong into a login|anybody in"),
        ({b"none": [(94, bytes(8))]}, password(), "does not belong into a login"),
        ({b"none": [(FAILURE, b"\xff\xff\xff\xff")]}, password(), "cannot be read"),
        ({b"none": [(53, NS(b"spam") + NS(b""))] * 100}, password(), "does not belong into a login"),
        (
            {b"none": [(1, b"\0\0\0\x02" + NS(b"no more\x1b[31m") + NS(b""))]},
            password(),
            r"the target ended the connection: no more \[31m$",
        ),
        # what the target was told comes back to nobody
        (
            {b"password": [(1, b"\0\0\0\x02" + NS(b"wrong: " + PASSWORD.encode()) + NS(b""))]},
            Lease("build", 1, username="deploy", password=PASSWORD, literals=(PASSWORD.encode(),)),
            r"the target ended the connection: wrong: \[redacted\]$",
        ),
        (
            {b"password": [(FAILURE, NS(PASSWORD.encode()) + b"\0")]},
            Lease("build", 1, username="deploy", password=PASSWORD, literals=(PASSWORD.encode(),)),
            r"it takes \[redacted\]",
        ),
    ],
)
async def test_what_does_not_let_us_in_is_one_sentence(script: dict[bytes, list[tuple[int, bytes]]], lease: Lease, said: str) -> None:
    with pytest.raises(Unavailable, match=said) as caught:
        await meet(script, lease)
    assert caught.value.message.startswith("connection build: ")
    assert PASSWORD not in caught.value.message


async def test_both_of_two_factors_are_given() -> None:
    script = {
        b"none": [(FAILURE, NS(b"publickey") + b"\0")],
        b"publickey": [(FAILURE, NS(b"password") + b"\1")],
        b"password": [(SUCCESS, b"")],
    }
    client, target = await meet(script, Lease("build", 1, username="deploy", password=PASSWORD, private_key=KEY.private_key))
    await done(client, target)


async def test_an_rsa_key_signs_with_what_the_target_takes() -> None:
    pair = Key(rsa.generate_private_key(65537, 2048))
    lease = Lease("build", 1, username="deploy", private_key=pair.toString("OPENSSH").decode())
    client, target = await meet({b"publickey": [(SUCCESS, b"")]}, lease)
    fields = getNS([payload for number, payload in target.heard if number == REQUEST][-1], 3)[3]
    algorithm, blob, signature, _ = getNS(fields[1:], 3)
    assert algorithm == b"rsa-sha2-512"
    data = (
        NS(client.sessionID or b"") + b"\x32" + NS(b"deploy") + NS(b"ssh-connection") + NS(b"publickey") + b"\1" + NS(algorithm) + NS(blob)
    )
    assert algorithms.verify(pair.public(), algorithm, signature, data)
    await done(client, target)


# --- who the target is


async def test_another_host_key_gets_no_login_at_all() -> None:
    with pytest.raises(Unavailable, match="host key is not the one that host_key names: it shows SHA256:") as caught:
        await meet({}, password(), session(public_line(Ed25519PrivateKey.generate())))
    assert caught.value.target.heard == []  # type: ignore[attr-defined]


async def test_a_host_key_that_changes_in_the_middle_of_a_connection_ends_it() -> None:
    second = Ed25519PrivateKey.generate()
    client, target = await meet({b"password": [(SUCCESS, b"")]}, password(), session(public_line(TARGET_KEY), public_line(second)))
    target.host_key = Key(second)
    while target.state or client.state:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    target.rekey()
    await target.closed
    assert "another host key in the middle of the connection" in client.ended_because


async def test_a_host_that_does_not_sign_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Key(Ed25519PrivateKey.generate())
    monkeypatch.setattr(Target, "_getHostKeys", lambda self, name: (self.host_key.public(), other))
    with pytest.raises(Unavailable, match="has not proved its host key"):
        await meet({}, password())


NOW = 1_800_000_000
HOST = Ed25519PrivateKey.generate()
AUTHORITY = Ed25519PrivateKey.generate()


def certificate(**changes: Any) -> bytes:
    how: dict[str, Any] = {"kind": SSHCertificateType.HOST, "names": [b"build.internal"], "after": NOW - 10, "before": NOW + 10, **changes}
    builder = SSHCertificateBuilder().public_key(HOST.public_key()).type(how["kind"]).serial(1).key_id(b"build")
    builder = builder.valid_after(how["after"]).valid_before(how["before"])
    builder = builder.valid_principals(how["names"]) if how["names"] else builder.valid_for_all_principals()
    if "option" in how:
        builder = builder.add_critical_option(how["option"], b"x")
    return base64.b64decode(builder.sign(how.get("by", AUTHORITY)).public_bytes().split()[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"names": [b"other.internal", b"build.internal"]}, ""),
        ({"names": [b"other.internal"]}, "is not for build.internal"),
        ({"names": []}, "is not for build.internal"),
        ({"kind": SSHCertificateType.USER}, "not for hosts"),
        ({"option": b"unknown"}, "not for hosts"),
        ({"by": HOST}, "signed by another authority"),
        ({"before": NOW}, "not valid now"),
        ({"after": NOW + 1}, "not valid now"),
    ],
)
def test_host_certificates(changes: dict[str, Any], said: str) -> None:
    pins = (HostKey("ssh-ed25519", public_blob(AUTHORITY), authority=True),)
    name = b"ssh-ed25519-cert-v01@openssh.com"
    assert host_key_algorithms(pins)[0] == name
    if said:
        with pytest.raises(HostKeyRefused, match=said):
            check_host_key(certificate(**changes), name, pins, "build.internal", NOW)
    else:
        assert check_host_key(certificate(**changes), name, pins, "build.internal", NOW).blob() == public_blob(HOST)


def test_an_authority_is_no_host_and_a_host_no_authority() -> None:
    with pytest.raises(HostKeyRefused):
        check_host_key(public_blob(AUTHORITY), b"ssh-ed25519", (HostKey("ssh-ed25519", public_blob(AUTHORITY), authority=True),), "h", NOW)
    with pytest.raises(HostKeyRefused):
        name = b"ssh-ed25519-cert-v01@openssh.com"
        check_host_key(certificate(), name, (HostKey("ssh-ed25519", public_blob(AUTHORITY)),), "build.internal", NOW)
    with pytest.raises(HostKeyRefused):
        check_host_key(certificate()[:-1], name, (HostKey("ssh-ed25519", public_blob(AUTHORITY), authority=True),), "build.internal", NOW)


def test_only_the_kinds_that_are_pinned_are_asked_for() -> None:
    rsa_pin, ed_pin = HostKey("ssh-rsa", b"r"), HostKey("ssh-ed25519", b"e")
    assert host_key_algorithms((rsa_pin,)) == (b"rsa-sha2-512", b"rsa-sha2-256")
    assert host_key_algorithms((rsa_pin, ed_pin)) == (b"ssh-ed25519", b"rsa-sha2-512", b"rsa-sha2-256")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not a private key"),
        ("", "is not a private key"),
        (Key(Ed25519PrivateKey.generate()).public().toString("OPENSSH").decode(), "is a public key"),
        (Key(rsa.generate_private_key(65537, 1024)).toString("OPENSSH").decode(), "is too weak"),
        (Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, SEALED).decode(), "no passphrase"),
    ],
    ids=["nonsense", "nothing", "public", "short", "passphrase"],
)
def test_a_stored_key_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as caught:
        load_private_key("build", text)
    assert "PRIVATE" not in caught.value.message
