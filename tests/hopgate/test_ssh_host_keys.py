"""Lines of host keys, as people copy them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hopgate.ssh_host_keys import HostKey, parse_host_key
from tests.doubles import HOST_KEY

ECDSA = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
RSA = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
SHORT = rsa.generate_private_key(65537, 1024).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize("line", [HOST_KEY, ECDSA, RSA], ids=["ed25519", "ecdsa", "rsa"])
def test_every_way_to_write_one(line: str) -> None:
    plain = parse_host_key(line)
    assert (plain.kind, plain.authority) == (line.split()[0], False)
    for same in (
        f"{line} comment of three words",
        f"host.internal {line}",
        f"[10.0.0.1]:2222,host {line} c",
        f"|1|aGFzaA==|aGFzaA== {line}",
    ):
        assert parse_host_key(same) == plain
    for certified in (f"@cert-authority {line}", f"@cert-authority *.internal {line} c"):
        assert parse_host_key(certified) == HostKey(plain.kind, plain.blob, authority=True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "is not a public key"),
        ("ssh-ed25519", "is not a public key"),
        ("ssh-ed25519 AAAA…", "is not a whole public key"),
        (HOST_KEY[:-8], "is not a whole public key"),
        (HOST_KEY.replace("ssh-ed25519", "ssh-rsa"), "is not a whole public key"),
        (SHORT, "is an RSA key of 1024 bits"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "ssh-dss is not a kind of key"),
        (f"@revoked {HOST_KEY}", "@revoked is not a mark"),
        (f"@cert-authority {HOST_KEY[:-4]}", "is not a whole public key"),
    ],
    ids=["empty", "kind", "not base64", "cut", "another kind", "short", "DSA", "mark", "cut authority"],
)
def test_what_is_none_says_how_to_get_one(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_host_key(line)
    assert "ssh-keyscan" in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    for line in (text, f"ssh-ed25519 {text}", f"@cert-authority {text}"):
        try:
            parse_host_key(line)
        except ValueError:
            pass
