"""Whatever either side sends: commands or the end of the channel, never an exception, and nothing unjudged at the target."""

from __future__ import annotations

from struct import pack

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relays.commands import CLIENT, SERVER
from relays.ssh.sftp import codec
from rules.model import Operation
from tests.relays.ssh.sftp.conversation import ALLOW, DENY, Conversation, opening, reading, writing
from tests.relays.ssh.sftp.test_filter import ENDS, JUDGED, UNSUPPORTED

KNOWN = [packet for packet, *_ in JUDGED + ENDS] + UNSUPPORTED
PATHLESS = {codec.INIT, codec.READ, codec.WRITE, codec.CLOSE, codec.FSTAT, codec.READDIR}


def mutated(packet: bytes, at: int, byte: int, cut: int) -> bytes:
    changed = bytearray(packet)
    if changed:
        changed[at % len(changed)] = byte
    return bytes(changed[: len(changed) - cut % 3])


SENT = st.lists(
    st.one_of(
        st.sampled_from(KNOWN),
        st.builds(mutated, st.sampled_from(KNOWN), st.integers(0, 200), st.integers(0, 255), st.just(0)),
        st.builds(mutated, st.sampled_from(KNOWN), st.integers(0, 200), st.integers(0, 255), st.integers(0, 2)),
        st.binary(max_size=40),
        st.builds(lambda kind, body: codec.packet(kind, body), st.integers(0, 255), st.binary(max_size=60)),
    ),
    max_size=12,
)


def renumbered(stream: list[bytes]) -> bytes:
    """Whole packets get ids of their own, or every second would end the channel."""
    out = b""
    for number, packet in enumerate(stream):
        fits = len(packet) >= 9 and packet[4] in codec.REQUESTS
        out += packet[:5] + pack("!I", number) + packet[9:] if fits else packet
    return out


def allows(operation: Operation) -> bool:
    return operation.complete and all("x" in path for path in operation.facts.get("paths"))


@settings(max_examples=300, deadline=None)
@given(SENT, st.lists(st.integers(1, 60), max_size=30))
@example([b"\x00\x00\x00\x00"], [])
def test_anything_from_the_client(stream: list[bytes], pieces: list[int]) -> None:
    conversation = Conversation(lambda operation: ALLOW if allows(operation) else DENY)
    whole = renumbered(stream)
    at = 0
    for size in pieces:
        conversation.client(whole[at : at + size])
        at += size
    conversation.client(whole[at:])
    conversation.eof(CLIENT)
    permitted = sum(allows(operation) for operation in conversation.operations)
    unjudged = [packet for packet in conversation.seen if packet[4] in PATHLESS or b"openssh.com" in packet or b"copy-data" in packet]
    assert len(conversation.seen) <= permitted + len(unjudged)
    for packet in conversation.seen[1:]:
        assert packet in whole
    assert conversation.refused or conversation.ended == [CLIENT]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.builds(codec.packet, st.integers(0, 255), st.binary(max_size=40))), max_size=6))
def test_anything_from_the_target(stream: list[bytes]) -> None:
    for begun in (True, False):
        conversation = Conversation(begun=begun)
        conversation.answering = False
        if begun:
            for packet in (KNOWN[0], KNOWN[20][:5] + pack("!I", 2) + KNOWN[20][9:]):
                conversation.client(packet)
        for data in stream:
            conversation.target(data)
        conversation.eof(SERVER)
        assert conversation.refused or conversation.ended == [SERVER]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(KNOWN), max_size=8), st.lists(st.integers(1, 50), max_size=40))
def test_pieces_do_not_matter(stream: list[bytes], sizes: list[int]) -> None:
    whole = renumbered(stream)
    one, many = Conversation(), Conversation()
    one.client(whole)
    at = 0
    for size in sizes:
        many.client(whole[at : at + size])
        at += size
    many.client(whole[at:])
    assert one.refused == many.refused
    if not one.refused:  # what was asked before the end may not have been decided yet
        assert sorted(one.seen) == sorted(many.seen)
        assert sorted(one.statuses) == sorted(many.statuses)


TRANSFERS = st.lists(
    st.one_of(st.builds(lambda size: ("write", size), st.integers(0, 70)), st.just(("read", 4)), st.just(("remove", 0))), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(TRANSFERS, st.lists(st.integers(1, 40), max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_files_go_on_as_they_come_and_nothing_gets_into_their_packets(
    wanted: list[tuple[str, int]], sizes: list[int], deciding: list[int]
) -> None:
    """Bytes in pieces of any size, decisions about other requests at any moment: both sides get whole packets, and all of them."""
    conversation = Conversation(lambda operation: None if "remove" in operation.title else ALLOW)
    conversation.pieces = 7
    conversation.client(opening("/srv/x", codec.FOR_READ | codec.FOR_WRITE))
    sent, at = [], 0
    for number, (what, size) in enumerate(wanted, 2):
        if what == "write":
            sent.append(writing(number, b"h1", at, bytes((number,)) * size))
            at += size
        elif what == "read":
            sent.append(reading(number, b"h1", 0, size))
        else:
            sent.append(codec.packet(codec.REMOVE, pack("!I", number) + codec.string(b"/srv/%d" % number)))
    whole, begin = b"".join(sent), 0
    for turn, size in enumerate([*sizes, len(whole)]):
        conversation.client(whole[begin : begin + size])
        begin += size
        if turn in deciding:
            conversation.settle(turn)
    conversation.settle(0)
    assert not conversation.refused
    assert conversation.streams == {CLIENT: b"", SERVER: b""}
    removed = [packet for number, packet in enumerate(sent, 2) if packet[4] == codec.REMOVE and number not in conversation.denied]
    straight = [packet for packet in sent if packet[4] != codec.REMOVE]
    assert [packet for packet in conversation.seen[2:] if packet[4] != codec.REMOVE] == straight
    assert sorted(packet for packet in conversation.seen[2:] if packet[4] == codec.REMOVE) == sorted(removed)
    assert sorted(packet[5:9] for packet in conversation.answers[1:]) == [packet[5:9] for packet in sent]
