"""What comes before a client is anybody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relays.postgres import startup
from relays.postgres.codec import MAX_STARTUP, PROTOCOL_3_0, PROTOCOL_3_2
from relays.postgres.startup import CancelRequest, GSSENCRequest, SSLRequest, Startup, StartupRefused
from relays.wire import RemoteProtocolError

PACKETS = [
    SSLRequest(),
    GSSENCRequest(),
    CancelRequest(7, b"1234"),
    CancelRequest(7, b"x" * 32),
    Startup(PROTOCOL_3_0, ()),
    Startup(PROTOCOL_3_2, ((b"user", b"orders-db"), (b"database", b""))),
]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
def test_a_packet_is_written_and_read_back_and_nothing_else_is_one(packet: startup.StartupPacket) -> None:
    data = packet.build()
    assert startup.packet_length(data) == len(data)
    assert startup.parse_packet(data) == packet
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            startup.parse_packet(data[:end])
    with pytest.raises(RemoteProtocolError):
        startup.parse_packet(data + b"\0")


@given(st.binary(max_size=80))
def test_noise_gives_a_packet_or_a_protocol_error(noise: bytes) -> None:
    data = (len(noise) + 4).to_bytes(4, "big") + noise
    try:
        packet = startup.parse_packet(data)
    except RemoteProtocolError:
        return
    assert packet.build() == data


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=20)), max_size=6))
def test_noise_in_parameters_is_settled_or_refused(parameters: list[tuple[bytes, bytes]]) -> None:
    try:
        found = startup.settings_of(Startup(PROTOCOL_3_0, tuple(parameters)))
    except RemoteProtocolError:
        return
    assert found.keys() <= startup.SETTINGS


@pytest.mark.parametrize("length", [0, 7, MAX_STARTUP + 1, 0xFFFF_FFFF])
def test_a_length_out_of_bounds_is_refused_before_anything_is_read(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="length"):
        startup.packet_length(length.to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (Startup(2 << 16, ()), "0A000"),
        (Startup(4 << 16, ()), "0A000"),
        (Startup(PROTOCOL_3_0, ((b"user", b"a"), (b"user", b"b"))), "08P01"),
        (Startup(PROTOCOL_3_0, tuple((b"%d" % number, b"") for number in range(101))), "08P01"),
        (CancelRequest(1, b"abc"), "08P01"),
        (CancelRequest(1, b"x" * 257), "08P01"),
    ],
    ids=repr,
)
def test_packets_that_are_refused(packet: startup.StartupPacket, code: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        startup.parse_packet(packet.build())
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("asked", "version", "told"),
    [
        (PROTOCOL_3_0, PROTOCOL_3_0, False),
        (PROTOCOL_3_0 + 1, PROTOCOL_3_0, True),
        (PROTOCOL_3_2, PROTOCOL_3_2, False),
        (PROTOCOL_3_0 + 9999, PROTOCOL_3_2, True),
    ],
)
def test_versions_are_negotiated(asked: int, version: int, told: bool) -> None:
    packet = Startup(asked, ())
    assert startup.negotiated(packet) == (version, ())
    assert startup.needs_negotiation(packet) is told


def test_options_of_the_protocol_that_are_not_known_are_told() -> None:
    packet = Startup(PROTOCOL_3_2, ((b"_pq_.compression", b"on"), (b"user", b"a")))
    assert startup.negotiated(packet)[1] == (b"_pq_.compression",)
    assert startup.needs_negotiation(packet)
    assert startup.settings_of(packet) == {}


@pytest.mark.parametrize(
    ("name", "value", "settings"),
    [
        (b"application_name", b"psql", {"application_name": "psql"}),
        (b"DateStyle", b"ISO", {"datestyle": "ISO"}),
        (b"client_encoding", b"UTF8", {}),
        (b"client_encoding", b"'utf-8'", {}),
        (b"client_encoding", b"Unicode", {}),
        (b"standard_conforming_strings", b"on", {}),
        (b"replication", b"false", {}),
        (b"options", b"", {}),
        (b"options", b"-c statement_timeout=5s --extra-float-digits=3", {"statement_timeout": "5s", "extra_float_digits": "3"}),
        (b"options", rb"-cTimeZone=Europe/Paris  -c application_name=a\ b", {"timezone": "Europe/Paris", "application_name": "a b"}),
    ],
)
def test_settings_that_a_client_may_bring(name: bytes, value: bytes, settings: dict[str, str]) -> None:
    assert startup.settings_of(Startup(PROTOCOL_3_0, ((name, value),))) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"replication", b"database"),
        (b"replication", b"1"),
        (b"client_encoding", b"SJIS"),
        (b"client_encoding", b"SQL_ASCII"),
        (b"standard_conforming_strings", b"off"),
        (b"search_path", b"evil"),
        (b"role", b"postgres"),
        (b"session_authorization", b"postgres"),
        (b"row_security", b"off"),
        (b"default_transaction_read_only", b"off"),
        (b"session_replication_role", b"replica"),
        (b"transform_null_equals", b"on"),
        (b"backslash_quote", b"on"),
        (b"options", b"-c search_path=evil"),
        (b"options", b"--role=postgres"),
        (b"options", b"-csearch_path=evil"),
        (b"options", b"-c application_name=a -c standard-conforming-strings=off"),
        (b"options", b"-d 5"),
        (b"options", b"-c"),
        (b"options", b"-c novalue"),
        (b"options", b"--"),
        (b"application_name", b"\xff"),
        (b"unheard_of", b"1"),
    ],
)
def test_settings_that_a_client_may_not_bring(name: bytes, value: bytes) -> None:
    with pytest.raises(StartupRefused):
        startup.settings_of(Startup(PROTOCOL_3_0, ((name, value),)))
