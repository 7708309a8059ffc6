"""Packets: what goes in comes out, however it is cut; what is altered, too long or padded wrongly does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relays.ssh import gcm as twin
from relays.ssh.ciphers import CTR_KEYS, GCM_KEYS, MACS, NO_MAC, Open, PlainOpen, PlainSeal, Seal, open_with, seal_with
from relays.ssh.packets import MAX_EARLY_PACKET
from relays.wire import RemoteProtocolError

try:
    from relays.ssh import _gcm as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

GCM = {"in Python": twin, "compiled": compiled}  # both under the same tests
KEY, IV, MAC_KEY = bytes(range(128)), bytes(range(64, 128)), bytes(range(100, 228))
SUITES = [
    ("plain", b"", b""),
    *((f"{name.decode()} {way}", name, way.encode()) for name in GCM_KEYS for way, built in GCM.items() if built),
]
SUITES += [(f"{cipher.decode()}+{mac.decode()}", cipher, mac) for cipher in CTR_KEYS for mac in MACS]
PAYLOADS = [(2, ()), (94, (b"",)), (94, (b"\0\0\0\1", b"x" * 32768)), (94, tuple(bytes([n]) for n in range(40))), (20, (b"y" * 1000,))]


def suite(cipher: bytes, mac: bytes) -> tuple[Seal, Open]:
    if not cipher:
        return PlainSeal(), PlainOpen()
    if cipher in GCM_KEYS:
        gcm, key = GCM[mac.decode()], KEY[: GCM_KEYS[cipher]]
        return gcm.GcmSeal(key, IV[:12]), gcm.GcmOpen(key, IV[:12])  # type: ignore[union-attr]
    return seal_with(cipher, mac, KEY, IV, MAC_KEY), open_with(cipher, mac, KEY, IV, MAC_KEY)


def take(opening: Open, data: bytes) -> list[bytes]:
    found, at = [], 0
    while (one := opening.open(data, at, MAX_EARLY_PACKET)) is not None:
        packet, at = one
        found.append(packet[1 : len(packet) - packet[0]])
    assert at == len(data)
    return found


@pytest.mark.parametrize(("name", "cipher", "mac"), SUITES, ids=[name for name, _, _ in SUITES])
def test_whole_and_byte_by_byte(name: str, cipher: bytes, mac: bytes) -> None:
    sealing, opening = suite(cipher, mac)
    wanted = [bytes((number,)) + b"".join(pieces) for number, pieces in PAYLOADS]
    sealed = [bytes(sealing.seal(number, pieces)) for number, pieces in PAYLOADS]
    assert take(opening, b"".join(sealed)) == wanted
    assert sealing.sequence == opening.sequence == len(PAYLOADS)
    # the second time round one byte more comes each time; only the last completes a packet
    for number, pieces in [(1, (b"abc",)), (2, (b"d" * 100,))]:
        packet = bytes(sealing.seal(number, pieces))
        assert all(opening.open(packet[:end], 0, MAX_EARLY_PACKET) is None for end in range(len(packet)))
        assert take(opening, packet) == [bytes((number,)) + b"".join(pieces)]


@pytest.mark.parametrize(("name", "cipher", "mac"), SUITES[1:], ids=[name for name, _, _ in SUITES[1:]])
def test_whatever_bit_is_altered_it_is_not_taken(name: str, cipher: bytes, mac: bytes) -> None:
    packet = bytes(suite(cipher, mac)[0].seal(94, (b"rm -rf / # " * 3,)))
    for position in range(4, len(packet)):
        altered = bytearray(packet)
        altered[position] ^= 1 << position % 8
        with pytest.raises(RemoteProtocolError, match="altered"):
            suite(cipher, mac)[1].open(altered, 0, MAX_EARLY_PACKET)
    sealing, opening = suite(cipher, mac)
    once = bytes(sealing.seal(94, (b"once",)))
    assert take(opening, once)
    with pytest.raises(RemoteProtocolError):
        opening.open(once, 0, MAX_EARLY_PACKET)  # replayed


@pytest.mark.parametrize(("name", "cipher", "mac"), SUITES, ids=[name for name, _, _ in SUITES])
def test_a_packet_that_is_too_long_is_refused_before_it_has_come(name: str, cipher: bytes, mac: bytes) -> None:
    sealing, opening = suite(cipher, mac)
    packet = bytes(sealing.seal(94, (b"x" * 200,)))
    with pytest.raises(RemoteProtocolError, match="length"):
        opening.open(packet[:16], 0, 199)


@pytest.mark.parametrize("plain", ["0000000c" + "ff" + "00" * 11, "0000000c" + "03" + "00" * 11, "0000000c" + "0b" + "00" * 11])
def test_padding_that_leaves_no_message_is_refused(plain: str) -> None:
    with pytest.raises(RemoteProtocolError, match="padding"):
        PlainOpen().open(bytes.fromhex(plain), 0, MAX_EARLY_PACKET)


@settings(max_examples=50)
@given(st.binary(max_size=200), st.integers(0, len(SUITES) - 1))
def test_any_bytes_are_a_packet_or_none_or_refused(data: bytes, index: int) -> None:
    _, cipher, mac = SUITES[index]
    try:
        found = suite(cipher, mac)[1].open(data, 0, MAX_EARLY_PACKET)
    except RemoteProtocolError:
        return
    assert found is None or found[1] <= len(data)


def test_the_chosen_suite_is_the_one_that_was_agreed_on() -> None:
    for cipher, mac in [*((cipher, NO_MAC) for cipher in GCM_KEYS), (b"aes256-ctr", b"hmac-sha2-256")]:
        packet = bytes(seal_with(cipher, mac, KEY, IV, MAC_KEY).seal(94, (b"x",)))
        assert take(open_with(cipher, mac, KEY, IV, MAC_KEY), packet) == [b"^x"]
        for other in {*GCM_KEYS, b"aes256-ctr"} - {cipher}:
            with pytest.raises(RemoteProtocolError):
                open_with(other, b"hmac-sha2-256", KEY, IV, MAC_KEY).open(packet * 9, 0, MAX_EARLY_PACKET)


@pytest.mark.parametrize("way", [name for name, built in GCM.items() if built])
def test_nonces_do_not_repeat(way: str) -> None:
    for iv in (IV[:12], b"\0\0\0\1" + b"\xff" * 8, b"\0\0\0\1" + b"\0" * 6 + b"\xff\xf0"):
        sealing = GCM[way].GcmSeal(KEY[:16], iv)  # type: ignore[union-attr]
        same = [bytes(sealing.seal(94, (b"same",))) for _ in range(300)]
        assert len({each[4:] for each in same}) == 300


@pytest.mark.skipif(compiled is None, reason="relays.ssh._gcm is not built: no Cython or no C compiler")
def test_both_ways_make_packets_that_the_other_opens() -> None:
    for iv in (IV[:12], b"\0\0\0\1" + b"\xff" * 8):
        ends = [(one.GcmSeal(KEY[:32], iv), other.GcmOpen(KEY[:32], iv)) for one, other in ((twin, compiled), (compiled, twin))]
        for number, pieces in PAYLOADS * 3:
            for sealing, opening in ends:
                views = tuple(memoryview(piece) for piece in pieces)
                assert take(opening, bytes(sealing.seal(number, views))) == [bytes((number,)) + b"".join(pieces)]
