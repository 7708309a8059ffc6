"""Whatever either side sends: commands or the end of the channel, never an exception, and nothing unjudged at the target."""

from __future__ import annotations

from struct import pack

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relays.commands import CLIENT, SERVER
from relays.ssh.sftp import codec
from rules.model import Operation
from tests.relays.ssh.sftp.conversation import ALLOW, DENY, Conversation, packets
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
        for packet in conversation.answers:
            assert packets(packet)


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
