"""Packets of SFTP: bytes as the draft writes them."""

from __future__ import annotations

from struct import pack

import pytest

from relays.ssh.sftp import codec
from relays.ssh.sftp.codec import Attributes, Fields
from relays.wire import RemoteProtocolError


def test_packets_as_they_are_on_the_wire() -> None:
    assert codec.init() == bytes.fromhex("00000005 01 00000003")
    assert codec.version([(b"a", b"1")]) == bytes.fromhex("0000000f 02 00000003 00000001 61 00000001 31")
    assert codec.realpath(7, b".") == bytes.fromhex("0000000a 10 00000007 00000001 2e")
    assert codec.status(7, 3, "no") == bytes.fromhex("00000015 65 00000007 00000003 00000002 6e6f 00000002 656e")


@pytest.mark.parametrize(
    ("wire", "found", "shown"),
    [
        ("00000000", Attributes(), ""),
        ("00000001 0000000000000005", Attributes(size=5), "size 5"),
        ("00000002 00000001 00000002", Attributes(owner=(1, 2)), "owner 1:2"),
        ("00000004 000081ed", Attributes(permissions=0o100755), "mode 0755"),
        ("00000008 00000001 00000002", Attributes(times=(1, 2)), "times 1 2"),
        ("80000000 00000001 00000001 61 00000001 62", Attributes(extended=1), "1 extended attributes"),
        ("00000005 0000000000000000 000089ff", Attributes(size=0, permissions=0o104777), "size 0, mode 4777"),
    ],
)
def test_attributes(wire: str, found: Attributes, shown: str) -> None:
    data = bytes.fromhex(wire)
    fields = Fields(data)
    assert codec.attributes(fields) == found
    fields.finish()
    assert found.describe() == shown
    assert found.special is ("4777" in shown)
    for cut in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            codec.attributes(Fields(data[:cut]))


def test_where_packets_end() -> None:
    data = memoryview(codec.init() + codec.realpath(1, b"/"))
    assert codec.packet_end(data, 0, "x") == 9
    assert codec.packet_end(data, 9, "x") == len(data)
    assert codec.packet_end(data, len(data), "x") is None
    for cut in range(9):
        assert codec.packet_end(data[:cut], 0, "x") == (None if cut < 4 else 9)
    most = pack("!I", codec.MAX_PACKET)
    assert codec.packet_end(memoryview(most), 0, "x") == 4 + codec.MAX_PACKET
    for length in (0, 4, codec.MAX_PACKET + 1, 0xFFFFFFFF):
        with pytest.raises(RemoteProtocolError):
            codec.packet_end(memoryview(pack("!I", length)), 0, "x")


def test_openings() -> None:
    assert codec.opening(codec.init()) == (3, [])
    assert codec.opening(codec.version([(b"a", b"1"), (b"b", b"")])) == (3, [(b"a", b"1"), (b"b", b"")])
    for body in (b"", b"\0\0\0", pack("!I", 3) + b"\0", pack("!II", 3, 1) + b"a", pack("!II", 3, 9) + b"a"):
        with pytest.raises(RemoteProtocolError):
            codec.opening(codec.packet(codec.VERSION, body))
