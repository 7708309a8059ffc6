"""Every message of the protocol: written and read back, cut at every byte, with bytes behind, and noise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relays.postgres import codec
from relays.wire import RemoteProtocolError

FRONTEND: list[tuple[Any, bytes]] = [
    (codec.Query(b"SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0"),
    (codec.Query(b""), b"Q\0\0\0\x05\0"),
    (codec.Parse(b"s", b"SELECT $1", (23, 0)), b"P\0\0\0\x1as\0SELECT $1\0\0\x02\0\0\0\x17\0\0\0\0"),
    (codec.Bind(b"", b"s", (1,), (b"\0\0\0\x01", None), (0, 1)), None),  # type: ignore[list-item]
    (codec.Bind(b"p", b"", (), (), ()), b"B\0\0\0\x0dp\0\0\0\0\0\0\0\0"),
    (codec.Describe(b"S", b"s"), b"D\0\0\0\x07Ss\0"),
    (codec.CloseTarget(b"P", b""), b"C\0\0\0\x06P\0"),
    (codec.Execute(b"", 100), b"E\0\0\0\x09\0\0\0\0d"),
    (codec.CopyFail(b"no"), b"f\0\0\0\x07no\0"),
    (codec.Password(b"token"), b"p\0\0\0\x0atoken\0"),
    (codec.SASLInitialResponse(b"SCRAM-SHA-256", b"n,,"), None),  # type: ignore[list-item]
    (codec.SASLInitialResponse(b"X", None), b"p\0\0\0\x0aX\0\xff\xff\xff\xff"),
]
BACKEND: list[tuple[Any, bytes]] = [
    (codec.ParameterStatus(b"a", b"b"), b"S\0\0\0\x08a\0b\0"),
    (codec.ReadyForQuery(b"T"), b"Z\0\0\0\x05T"),
    (codec.RowDescription((codec.Column(b"id", 16400, 1, 23, 4, -1, 1),)), None),  # type: ignore[list-item]
    (codec.RowDescription(()), b"T\0\0\0\x06\0\0"),
    (codec.DataRow((b"1", None, b"")), b"D\0\0\0\x13\0\x03\0\0\0\x011\xff\xff\xff\xff\0\0\0\0"),
    (codec.CommandComplete(b"SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
    (codec.Report(((b"S", b"ERROR"), (b"C", b"42501"))), b"E\0\0\0\x13SERROR\0C42501\0\0"),
    (codec.NotificationResponse(7, b"c", b"p"), b"A\0\0\0\x0c\0\0\0\x07c\0p\0"),
    (codec.ParameterDescription((23, 25)), b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\0\x19"),
    (codec.NegotiateProtocolVersion(codec.PROTOCOL_3_0, (b"_pq_.x",)), None),  # type: ignore[list-item]
]
ENDLESS: list[tuple[Any, bytes]] = [  # their last field takes whatever there is
    (codec.SASLResponse(b"c=biws"), b"p\0\0\0\x0ac=biws"),
    (codec.Authentication(codec.AUTH_MD5, b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
    (codec.BackendKeyData(7, b"1234"), b"K\0\0\0\x0c\0\0\0\x071234"),
]
BARE = [codec.SYNC, codec.FLUSH, codec.TERMINATE, codec.COPY_DONE]
ALL = [*FRONTEND, *BACKEND]


def _id(value: Any) -> str:
    return type(value).__name__ if not isinstance(value, bytes) else ""


def _limits(message: bytes) -> dict[int, int]:
    return {message[0]: 1 << 30}


@pytest.mark.parametrize(("value", "wire"), [*ALL, *ENDLESS], ids=_id)
def test_a_message_is_written_and_read_back(value: Any, wire: bytes | None) -> None:
    built = value.build()
    assert wire is None or built == wire
    ((kind, body),) = codec.split(built, _limits(built))
    assert kind == built[0]
    assert type(value).parse(body) == value


@pytest.mark.parametrize(("value", "wire"), ALL, ids=_id)
def test_a_body_that_is_cut_or_too_long_is_refused(value: Any, wire: bytes | None) -> None:
    body = value.build()[5:]
    for end in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            type(value).parse(body[:end])
    with pytest.raises(RemoteProtocolError):
        type(value).parse(body + b"\0")


@given(st.sampled_from([type(value) for value, _ in [*ALL, *ENDLESS]]), st.binary(max_size=60))
def test_noise_gives_a_value_or_a_protocol_error(kind: Any, noise: bytes) -> None:
    try:
        value = kind.parse(noise)
    except RemoteProtocolError:
        return
    assert kind.parse(value.build()[5:]) == value


@pytest.mark.parametrize("limits", [codec.FRONTEND_LIMITS, codec.BACKEND_LIMITS], ids=["frontend", "backend"])
def test_every_kind_has_a_bound_and_one_byte_more_is_refused(limits: dict[int, int]) -> None:
    for kind, limit in limits.items():
        codec.check_header(kind, limit, limits)
        for length in (limit + 1, 3, 0, 0xFFFF_FFFF):
            with pytest.raises(RemoteProtocolError, match="invalid length"):
                codec.check_header(kind, length, limits)
    for kind in set(range(256)) - set(limits):
        with pytest.raises(RemoteProtocolError, match="unknown message type"):
            codec.check_header(kind, 4, limits)


def test_messages_that_stand_back_to_back_are_split() -> None:
    data = codec.Query(b"a").build() + codec.SYNC + codec.TERMINATE
    assert [chr(kind) for kind, _ in codec.split(data, codec.FRONTEND_LIMITS)] == ["Q", "S", "X"]
    for end in (3, len(data) - 1):
        with pytest.raises(RemoteProtocolError, match="cut off"):
            list(codec.split(data[:end], codec.FRONTEND_LIMITS))


@pytest.mark.parametrize(
    "message",
    [
        codec.Describe(b"X", b""),
        codec.Bind(b"", b"", (2,), (b"",)),
        codec.Bind(b"", b"", (0, 0, 0), (b"", b"")),
        codec.ReadyForQuery(b"X"),
        codec.BackendKeyData(1, b"abc"),
        codec.BackendKeyData(1, b"a" * 257),
    ],
    ids=_id,
)
def test_values_that_mean_nothing_are_refused(message: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        type(message).parse(message.build()[5:])


def test_a_string_cannot_hold_a_nul_byte() -> None:
    with pytest.raises(ValueError, match="NUL"):
        codec.Query(b"a\0b").build()


def test_secrets_do_not_show() -> None:
    assert "hunter2" not in repr(codec.Password(b"hunter2")) + repr(codec.BackendKeyData(1, b"hunter2"))


def test_sentences_of_ours_lose_their_nul_bytes() -> None:
    made = codec.report(b"ERROR", b"42501", "a\0b", detail="d\0", hint="h")
    assert (made.get(b"M"), made.get(b"D"), made.get(b"H"), made.get(b"X")) == (b"a?b", b"d?", b"h", b"")
