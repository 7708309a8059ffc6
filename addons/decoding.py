"""Content codings undone within bounds: 200 MB of zeros fit into 200 KB of gzip, and mitmproxy's own limit counts the 200 KB."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import brotli
import zstandard

MAX_DECODED: Final = 64 << 20  # bytes
_STEP: Final = 1 << 20
_PIECE: Final = 256
_MEMBERS: Final = 4096


class Undecodable(ValueError):
    """Unknown or stacked coding, damaged data, or more than the bound: what it holds cannot be masked, so it is not passed on."""


def decode(coding: bytes, data: bytes, limit: int = MAX_DECODED) -> bytes:
    """`data` without its content coding (RFC 9110 section 8.4.1), at most `limit` bytes. Raises Undecodable."""
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return data
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise Undecodable("its content coding is not one that can be undone")
    if not data:
        return data
    try:
        return decoder(data, limit)
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError) as error:
        raise Undecodable("its content coding is damaged") from error


def _gzip(data: bytes, limit: int) -> bytes:
    """Members one after another (RFC 1952 section 2.2). Trailing bytes that are no member are damage, not padding."""
    parts: list[bytes] = []
    total = 0
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    # in pieces: each end of a member copies what follows it, and a body may hold a million empty members
    for at in range(0, len(data), _MEMBERS):
        piece = data[at : at + _MEMBERS]
        while piece:
            if decoder.eof:
                decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
            part = decoder.decompress(piece, limit + 1 - total)
            total += len(part)
            parts.append(part)
            if total > limit:
                raise Undecodable(f"it is larger than {limit} bytes when decoded")
            piece = decoder.unused_data
    if not decoder.eof:
        raise Undecodable("its content coding ends too early")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _deflate(data: bytes, limit: int) -> bytes:
    """zlib's format, or the bare deflate that some servers send under the same name."""
    try:
        decoded, rest = _inflate(data, limit, zlib.MAX_WBITS)
    except zlib.error:
        decoded, rest = _inflate(data, limit, -zlib.MAX_WBITS)
    if rest:
        raise Undecodable("bytes follow its content coding")
    return decoded


def _inflate(data: bytes, limit: int, bits: int) -> tuple[bytes, bytes]:
    decoder = zlib.decompressobj(bits)
    decoded = decoder.decompress(data, limit + 1)
    if len(decoded) > limit:
        raise Undecodable(f"it is larger than {limit} bytes when decoded")
    if not decoder.eof:
        raise Undecodable("its content coding ends too early")
    return decoded, decoder.unused_data


def _brotli(data: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    parts = [decoder.process(data, output_buffer_limit=_STEP)]
    total = len(parts[0])
    while not decoder.is_finished():
        if total > limit:
            raise Undecodable(f"it is larger than {limit} bytes when decoded")
        if decoder.can_accept_more_data() and not parts[-1]:
            raise Undecodable("its content coding ends too early")
        parts.append(decoder.process(b"", output_buffer_limit=_STEP))
        total += len(parts[-1])
    if total > limit:
        raise Undecodable(f"it is larger than {limit} bytes when decoded")
    return b"".join(parts)


def _zstd(data: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    # RFC 9659: a window of at most 8 MiB
    decoder = zstandard.ZstdDecompressor(max_window_size=8 << 20)
    frame = decoder.decompressobj()
    fed = 0
    while fed < len(data):
        # small pieces bound what one call can give: a block decodes to 128 KiB at most, and needs 4 bytes
        piece = data[fed : fed + _PIECE]
        fed += len(piece)
        while piece:
            part = frame.decompress(piece)
            parts.append(part)
            total += len(part)
            if total > limit:
                raise Undecodable(f"it is larger than {limit} bytes when decoded")
            piece = frame.unused_data if frame.eof else b""
            if piece:
                frame = decoder.decompressobj()
        if frame.eof and fed < len(data):
            frame = decoder.decompressobj()
    if not frame.eof:
        raise Undecodable("its content coding ends too early")
    return b"".join(parts)


_DECODERS: Final[dict[bytes, Callable[[bytes, int], bytes]]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _deflate,
    b"br": _brotli,
    b"zstd": _zstd,
}


class GzipStream:
    """gzip undone piece by piece, for bodies that have no end."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def feed(self, data: bytes, limit: int = MAX_DECODED) -> bytes:
        """What `data` adds. Raises Undecodable."""
        try:
            parts = [self._decoder.decompress(data, limit + 1)]
            while self._decoder.eof and self._decoder.unused_data:
                rest, self._decoder = self._decoder.unused_data, zlib.decompressobj(16 + zlib.MAX_WBITS)
                parts.append(self._decoder.decompress(rest, limit + 1))
        except zlib.error as error:
            raise Undecodable("its content coding is damaged") from error
        decoded = b"".join(parts)
        if len(decoded) > limit or self._decoder.unconsumed_tail:
            raise Undecodable(f"it grows by more than {limit} bytes at once when decoded")
        return decoded

    def finish(self) -> None:
        """Raises Undecodable unless the last member was whole."""
        if not self._decoder.eof:
            raise Undecodable("its content coding ends too early")
