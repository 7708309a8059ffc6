"""What two proposals add up to, and that no bytes break reading one."""

from __future__ import annotations

from dataclasses import replace
from struct import error as StructError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relays.ssh import algorithms
from relays.ssh.ciphers import NO_MAC
from relays.ssh.negotiation import KexInit, agree
from relays.wire import RemoteProtocolError

GCM, CTR = b"aes128-gcm@openssh.com", b"aes128-ctr"
OURS = KexInit.both(algorithms.KEX, (b"ssh-ed25519",), algorithms.CIPHERS)


def test_the_clients_first_choice_that_the_server_has_wins() -> None:
    theirs = KexInit.both((b"unknown", b"ecdh-sha2-nistp384", b"curve25519-sha256"), (b"ssh-rsa", b"ssh-ed25519"), (CTR, GCM))
    found = agree(OURS, replace(theirs, ciphers_in=(GCM,)), client=False)
    assert (found.kex, found.host_key) == (b"ecdh-sha2-nistp384", b"ssh-ed25519")
    assert (found.cipher_in, found.mac_in) == (CTR, b"hmac-sha2-512")
    assert (found.cipher_out, found.mac_out) == (GCM, NO_MAC)
    assert agree(OURS, theirs, client=True).cipher_out == b"aes128-gcm@openssh.com"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kex": (b"diffie-hellman-group14-sha1", algorithms.STRICT_CLIENT, algorithms.EXT_INFO_CLIENT)}, "key exchange"),
        ({"host_keys": (b"ssh-rsa", b"ssh-dss")}, "host key"),
        ({"ciphers_out": (b"aes128-cbc", b"3des-cbc", b"chacha20-poly1305@openssh.com")}, "cipher"),
        ({"ciphers_in": (b"none",)}, "cipher"),
        ({"ciphers_out": (CTR,), "macs_out": (b"hmac-sha1", b"hmac-md5", b"none")}, "MAC"),
        ({"compressions_in": (b"zlib",)}, "compression"),
    ],
)
def test_nothing_in_common_is_named(change: dict[str, tuple[bytes, ...]], what: str) -> None:
    theirs = KexInit.both(algorithms.KEX, (b"ssh-ed25519",), algorithms.CIPHERS)
    with pytest.raises(RemoteProtocolError, match=f"no {what} algorithm in common"):
        agree(OURS, replace(theirs, **change), client=False)  # type: ignore[arg-type]


def test_marks_are_never_agreed_on() -> None:
    marks = KexInit.both((algorithms.STRICT_CLIENT, b""), (b"ssh-ed25519",), (GCM,))
    with pytest.raises(RemoteProtocolError):
        agree(replace(OURS, kex=(algorithms.STRICT_CLIENT, b"")), marks, client=False)


def test_a_wrong_guess_is_told() -> None:
    right = replace(OURS, guessed=True)
    assert not agree(OURS, right, client=False).wrong_guess
    assert agree(OURS, replace(right, kex=tuple(reversed(OURS.kex))), client=False).wrong_guess


def test_it_is_read_as_it_was_built() -> None:
    assert KexInit.parse(OURS.build(bytes(16))[1:]) == OURS
    with pytest.raises(RemoteProtocolError, match="too many"):
        KexInit.parse(replace(OURS, kex=tuple(b"%d" % n for n in range(300))).build(bytes(16))[1:])
    for end in range(len(OURS.build(bytes(16))) - 1):
        with pytest.raises((RemoteProtocolError, StructError)):
            KexInit.parse(OURS.build(bytes(16))[1:][:end])


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        KexInit.parse(data)
    except (RemoteProtocolError, StructError):
        pass
