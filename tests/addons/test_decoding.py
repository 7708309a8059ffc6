"""Content codings: undone exactly, within bounds, or refused."""

from __future__ import annotations

import gzip
import os
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from addons.decoding import GzipStream, Undecodable, decode


def bare_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
BOMB = b"\0" * 30_000_000


@settings(max_examples=50)
@given(st.sampled_from(sorted(CODINGS)), st.binary(max_size=2000))
def test_what_was_encoded_comes_back(coding: str, data: bytes) -> None:
    assert decode(coding.encode(), CODINGS[coding](data)) == data


def test_bare_deflate_is_taken_as_servers_send_it() -> None:
    assert decode(b"deflate", bare_deflate(b"hello")) == b"hello"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members(coding: str) -> None:
    data = os.urandom(300_000)
    assert decode(coding.encode(), CODINGS[coding](data) + CODINGS[coding](b"x")) == data + b"x"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_million_empty_members_are_read_once(coding: str) -> None:
    """Copying the rest at the end of each would move 10 TB."""
    assert decode(coding.encode(), CODINGS[coding](b"") * 1_000_000) == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_refused(coding: str) -> None:
    with pytest.raises(Undecodable, match="larger than"):
        decode(coding.encode(), CODINGS[coding](BOMB), 1 << 20)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "trailing", "plain"])
def test_damage_is_refused(coding: str, damage: str) -> None:
    encoded = CODINGS[coding](b"hello " * 200)
    damaged = {
        "cut": encoded[:-1],
        "trailing": encoded + b"zz",
        "plain": b'{"password": "x"}',
    }[damage]
    with pytest.raises(Undecodable):
        decode(coding.encode(), damaged)


@pytest.mark.parametrize("coding", [b"foo", b"gzip, br", b"gzip,gzip", b"compress", b"aes128gcm"])
def test_unknown_and_stacked_codings_are_refused(coding: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(coding, b"x")


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_a_stream_comes_back_whole(members: list[bytes], step: int) -> None:
    encoded = b"".join(gzip.compress(member) for member in members) or gzip.compress(b"")
    stream = GzipStream()
    decoded = b"".join(stream.feed(encoded[at : at + step]) for at in range(0, len(encoded), step))
    stream.finish()
    assert decoded == b"".join(members)


def test_a_stream_has_bounds_too() -> None:
    with pytest.raises(Undecodable):
        GzipStream().feed(gzip.compress(BOMB), 1 << 20)
    cut = GzipStream()
    cut.feed(gzip.compress(b"x")[:-1])
    with pytest.raises(Undecodable):
        cut.finish()
