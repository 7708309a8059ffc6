"""Addresses in one form each, and those that lead nowhere good."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopgate.addresses import contains, parse_address, parse_host, refused_target

HOSTS = [
    ("Example.COM.", "example.com"),
    ("a_b.internal", "a_b.internal"),
    ("10.0.0.1", "10.0.0.1"),
    ("[FD00:0:0::1]", "fd00::1"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("1password.com", "1password.com"),
]
NO_HOSTS = [
    "",
    ".",
    "a..b",
    "-a",
    "a-",
    "a b",
    "a/b",
    "a@b",
    "bücher.example",
    "fd00::1",
    "[fd00::1",
    "[10.0.0.1]",
    "a" * 64,
    "a\n",
    "a%00",
]
NO_IPV4 = [
    "2852039166",
    "0xa9fea9fe",
    "169.254.43518",
    "0251.0376.0251.0376",
    "010.0.0.1",
    "1.2.3.4.5",
    "a.0x1",
    "256.1.1.1",
]


@pytest.mark.parametrize(("text", "host"), HOSTS)
def test_hosts(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", [*NO_HOSTS, *NO_IPV4])
def test_no_hosts(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_host(text)


@given(st.text(max_size=30))
def test_a_host_is_refused_or_stays_itself(text: str) -> None:
    try:
        host = parse_host(text)
    except ValueError:
        return
    assert parse_host(f"[{host}]" if ":" in host else host) == host


@pytest.mark.parametrize(("text", "shown"), [("h:1", "h:1"), ("[::1]:65535", "[::1]:65535"), ("H.:80", "h:80")])
def test_addresses(text: str, shown: str) -> None:
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize("text", ["h", "h:", "h:0", "h:65536", "h:-1", "h:٣", ":80", "h:80:", "h:8 0", "::1:80"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be host:port|is not"):
        parse_address(text)


REFUSED = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "[fe80::1]",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "255.255.255.255",
    "ff02::1",
]


@pytest.mark.parametrize("host", REFUSED)
def test_refused_targets(host: str) -> None:
    assert refused_target(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.0.0.5", "192.168.1.1", "fd00::1", "db.internal", "8.8.8.8", "::ffff:10.0.0.1"])
def test_targets_that_may_be(host: str) -> None:
    assert refused_target(host) == ""


@pytest.mark.parametrize(
    ("peer", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("fd00::1%eth0", True),
        ("::1", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_networks(peer: str, inside: bool) -> None:
    assert contains((ip_network("10.0.0.0/8"), ip_network("fd00::/8")), peer) is inside
