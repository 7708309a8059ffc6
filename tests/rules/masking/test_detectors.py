"""Each detector finds what it should, leaves alone what only looks like it, and names exactly what to hide."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.masking.detectors import DETECTORS, NAMES, any_of, detector, find, marks_of
from rules.masking.scanner import Scanner
from rules.masking.strategies import Treatment

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
SPACED_JWT = base64.urlsafe_b64encode(b'{ "typ": "JWT",\n "alg": "none" }').decode().rstrip("=") + ".e30."
JWE = base64.urlsafe_b64encode(b'{"enc":"A256GCM","x":"dir"}').decode().rstrip("=") + ".AAAA.BBBB.CCCC.DDDD"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabcd\n-----END RSA PRIVATE KEY-----"
GITHUB = "ghp_" + "A1b2C3d4E5f6" * 3
SLACK = "xoxb-1234567890-ABCdef123456"
GOOGLE = "AIza" + "SyD-9tSrke72PouQMnMX_a7eZSW0jkFMBWY"[:35].ljust(35, "x")
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

FOUND = [
    ("jwt", f"token={JWT}; path=/", [JWT]),
    ("jwt", f"they{JWT}", [JWT]),  # what stands before it must not hide it
    ("jwt", f"{'eyJ' * 40}{JWT}", None),
    ("jwt", SPACED_JWT, [SPACED_JWT]),
    ("jwt", JWE, [JWE]),
    ("aws_access_key", "id AKIAIOSFODNN7EXAMPLE.", ["AKIAIOSFODNN7EXAMPLE"]),
    ("aws_access_key", "key_AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
    ("aws_access_key", "ASIAIOSFODNN7EXAMPLE", ["ASIAIOSFODNN7EXAMPLE"]),
    ("aws_secret_key", f"aws_secret_access_key={AWS_SECRET}", [AWS_SECRET]),
    ("aws_secret_key", AWS_SECRET, [AWS_SECRET]),
    ("github_token", f"x{GITHUB}", [GITHUB]),
    ("github_token", "github_pat_11ABCDEFG0abcdefghij_KLMNOP", ["github_pat_11ABCDEFG0abcdefghij_KLMNOP"]),
    ("slack_token", f"'{SLACK}'", [SLACK]),
    ("slack_token", "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXX", ["T00000000/B00000000/XXXXXXXXXXXX"]),
    ("gcp_key", f"key={GOOGLE}", [GOOGLE]),
    ("gcp_key", "ya29.a0AfH6SMBx_abcdefghijkl", ["ya29.a0AfH6SMBx_abcdefghijkl"]),
    ("private_key", PEM, ["MIIEowIBAAKCAQEA\nabcd"]),
    ("private_key", PEM.replace("\n", "\\n"), None),
    ("private_key", "-----BEGIN PRIVATE KEY-----\nMIIE", ["MIIE"]),
    ("private_key", "AGE-SECRET-KEY-1" + "Q" * 58, ["AGE-SECRET-KEY-1" + "Q" * 58]),
    ("bearer", "Authorization: Bearer abc.def-123/4=", ["abc.def-123/4="]),
    ("bearer", "BEARER%20mF_9.B5f-4.1JqM", ["mF_9.B5f-4.1JqM"]),
    ("bearer", "\x1b[0mBearer mF_9.B5f-4.1JqM", ["mF_9.B5f-4.1JqM"]),
    ("card", "\x1b[1;31m4111111111111111\x1b[0m", ["4111111111111111"]),
    ("card", "\\n4111111111111111 card%3D5555555555554444", ["4111111111111111", "5555555555554444"]),
    ("iban", "iban%3ADE89370400440532013000", ["DE89370400440532013000"]),
    ("email", "mail Bob.O'Neil+x@mail.example.co.uk, now", ["Bob.O'Neil+x@mail.example.co.uk"]),
    ("email", "'bob@example.com'", ["bob@example.com"]),
    ("email", "to=alice%40example.org&x", ["alice%40example.org"]),
    ("email", "josé@exämple.de", ["josé@exämple.de"]),
    ("email", "a@xn--e1afmkfd.xn--p1ai", ["a@xn--e1afmkfd.xn--p1ai"]),
    ("email", "bob@example.com.txt bob@firm.md", ["bob@example.com.txt", "bob@firm.md"]),
    ("private_key", "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 14\nAAAA\nPrivate-MAC: 1", ["AAAA"]),
    ("card", "4111111111111111", ["4111111111111111"]),
    ("card", "4111 1111 1111 1111 12/29", ["4111 1111 1111 1111"]),
    ("card", "4111-1111-1111-1111-123", ["4111-1111-1111-1111"]),
    ("card", "1234 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
    ("card", "378282246310005 and 3782 822463 10005", ["378282246310005", "3782 822463 10005"]),
    ("card", "card_5555555555554444", ["5555555555554444"]),
    ("card", "6011111111111117,3530111333300000,30569309025904", ["6011111111111117", "3530111333300000", "30569309025904"]),
    ("iban", "DE89370400440532013000", ["DE89370400440532013000"]),
    ("iban", "pay DE89 3704 0044 0532 0130 00 today", ["DE89 3704 0044 0532 0130 00"]),
    ("iban", "NO93 8601 1117 947, gb29nwbk60161331926819", ["NO93 8601 1117 947", "gb29nwbk60161331926819"]),
    ("iban", "DE12 GB29 NWBK 6016 1331 9268 19", ["GB29 NWBK 6016 1331 9268 19"]),
    ("us_ssn", "ssn 123-45-6789, 219 09 9999", ["123-45-6789", "219 09 9999"]),
    ("phone", "+44 20 7946 0958  4111 1111, +1 212 555 0100 23", ["+44 20 7946 0958", "+1 212 555 0100"]),
    ("phone", "+44 20 7946 0958 or (212) 555-0100", ["+44 20 7946 0958", "(212) 555-0100"]),
    ("phone", "+1 (212) 555-0100; 1-212-555-0100; +4915112345678", ["+1 (212) 555-0100", "1-212-555-0100", "+4915112345678"]),
]

LEFT_ALONE = [
    ("jwt", "eyJub3QiOiJhIGp3dCJ9.e30.x is JSON without alg"),
    ("jwt", "www.example.com newsletter.sub.domain"),
    ("aws_access_key", "XASIAPACIFICREGIONALHQ"),
    ("aws_access_key", "akiaiosfodnn7example"),
    ("aws_secret_key", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),  # a SHA-1
    ("aws_secret_key", "getUserAccountTransactionHistoryByUserId"),
    ("aws_secret_key", AWS_SECRET + "A"),
    ("github_token", "ghp_short"),
    ("slack_token", "xoxo-love"),
    ("private_key", "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"),
    ("private_key", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"),
    ("bearer", "bearer authentication required, the bearer of bad news, Bearer token"),
    ("bearer", 'WWW-Authenticate: Bearer realm="api"'),
    ("email", "icon@2x.png user@localhost @handle a@b left-pad@1.3.0"),
    ("card", "4111111111111112 0.4111111111111111 a4111111111111111 41111111111111111111111"),
    ("card", "1764547200000 20260101120000 0000000000000000"),
    ("card", "550e8400-e29b-41d4-a716-446655440000"),
    ("iban", "DE89370400440532013001 XX89370400440532013000 ADE89370400440532013000"),
    ("us_ssn", "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 1123-45-6789 123-45-67890"),
    ("phone", "2026-11-23T05:00:00+01:00 192.168.100.200 1.5e+10000000 123-456-7890"),
    ("phone", "+1 234 567"),
]


@pytest.mark.parametrize(("name", "text", "expected"), FOUND)
def test_finds_exactly_the_secret(name: str, text: str, expected: list[str] | None) -> None:
    spans = find(text, [name])
    assert spans
    if expected is not None:
        assert [text[start:end] for start, end, _ in spans] == expected
    data = text.encode()
    assert [data[start:end].decode() for start, end, _ in find(data, [name])] == [text[start:end] for start, end, _ in spans]
    assert any_of(DETECTORS).search(data) is not None, "the first look must not miss it"


@pytest.mark.parametrize(("name", "text"), LEFT_ALONE)
def test_leaves_alone_what_only_looks_like_it(name: str, text: str) -> None:
    assert find(text, [name]) == []


def test_names_are_the_closed_list() -> None:
    expected = "jwt aws_access_key aws_secret_key github_token slack_token gcp_key private_key bearer email card iban us_ssn phone"
    assert set(DETECTORS) == NAMES == set(expected.split())


def test_an_unknown_detector_is_an_error() -> None:
    with pytest.raises(KeyError):
        detector("passport")


_PIECES = st.sampled_from(
    [text for _, text, _ in FOUND] + [text for _, text in LEFT_ALONE] + [" ", "-", ".", "\n", "é", "\x00", "4111", "Bearer ", "eyJ"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=20)), max_size=8).map("".join))
def test_spans_are_ordered_disjoint_and_inside(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for name in DETECTORS:
        position = 0
        for start, end in detector(name).find(data):
            assert position <= start < end <= len(data)
            position = end


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=20)), max_size=8).map("".join), st.sampled_from([(), (b"hunter2 hunter2",)]))
def test_the_first_look_overlooks_nothing(text: str, secrets: tuple[bytes, ...]) -> None:
    data = text.encode("utf-8", "surrogatepass") + b"".join(secrets)[: len(text) % 40]
    marked = [name for name in DETECTORS if detector(name).marks]
    for name in marked:
        if next(detector(name).find(data), None) is not None:
            assert any(mark in data for mark in detector(name).marks)
    for names in (marked, DETECTORS):
        quick = Scanner.of({name: [Treatment("hide")] for name in names}, secrets)
        slow = Scanner.of({name: [Treatment("hide")] for name in names}, secrets)
        slow._marks = slow._first_look = None
        assert quick.find(data) == slow.find(data)


def test_marks_are_known_of_a_set_only_when_they_are_of_each() -> None:
    assert marks_of(("aws_access_key", "github_token"))[:5] == (b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"gho_")
    assert marks_of(("aws_access_key", "email")) == marks_of(()) == ()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([row for row in FOUND if row[2]]),
    st.text(alphabet=' ,;"\n<>()', min_size=1, max_size=5),
    st.text(alphabet=' ,;"\n<>', min_size=1),
)
def test_found_wherever_it_stands(row: tuple[str, str, list[str]], before: str, after: str) -> None:
    name, text, expected = row
    if "PRIVATE KEY" in text and "END" not in text:
        after = ""
    around = before + text + after
    assert [around[start:end] for start, end, _ in find(around, [name])] == expected


class Counting:
    """A regex that adds up how many bytes it was asked to look at."""

    def __init__(self, regex: Any) -> None:
        self.regex = regex
        self.read = 0

    def search(self, data: bytes, position: int) -> Any:
        match = self.regex.search(data, position)
        self.read += (match.end() if match else len(data)) - position
        return match


HOSTILE = [
    b"4",
    b"4 ",
    b"1-",
    b"eyJ",
    b"ew-",
    b"ew-.",
    b"a.",
    b"a/",
    b"a@",
    b"DE89 ",
    b"+1",
    b"AKIA",
    b"A1b/",
    b"Bearer ",
    b"-----BEGIN PRIVATE KEY-----",
]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("end", [b"", b".e.e", b"@a.png", b"@2x.png"])
def test_a_hostile_text_is_not_read_again_and_again(name: str, piece: bytes, end: bytes) -> None:
    data = piece * (20_000 // len(piece)) + end
    counting = Counting(detector(name).regex)
    for _ in dataclasses.replace(detector(name), regex=counting).find(data):
        pass
    assert counting.read <= 40 * len(data)
