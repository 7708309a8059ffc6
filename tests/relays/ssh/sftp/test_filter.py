"""The SFTP filter: what each packet is judged as, what each side sees of it, and what ends the channel."""

from __future__ import annotations

import hashlib
from struct import pack

import pytest

from relays.commands import CLIENT, SERVER
from relays.ssh.sftp import bulk, codec
from relays.ssh.sftp.bulk import MAX_WAITING
from rules.model import UNKNOWN, Decision, Operation
from tests.relays.ssh.sftp.conversation import (
    ALLOW,
    DENY,
    NO_ATTRIBUTES,
    Conversation,
    extended,
    name_of,
    opening,
    packets,
    reading,
    request,
    text,
    writing,
)  # fmt: skip

MODE_4755 = pack("!II", 4, 0o104755)
SIZE_0 = pack("!IQ", 1, 0)
READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32

JUDGED: list[tuple[bytes, list[str], list[str]]] = [
    (opening("/srv/x", READ), ["read"], ["/srv/x"]),
    (opening("/srv/x", 0), ["read"], ["/srv/x"]),
    (opening("/srv/x", WRITE | CREATE | TRUNCATE), ["write"], ["/srv/x"]),
    (opening("/srv/x", CREATE), ["read", "write"], ["/srv/x"]),
    (opening("/srv/x", TRUNCATE), ["read", "write"], ["/srv/x"]),
    (opening("/srv/x", READ | WRITE), ["read", "write"], ["/srv/x"]),
    (opening("/srv/x", WRITE | APPEND | CREATE), ["append"], ["/srv/x"]),
    (opening("/srv/x", APPEND), ["append"], ["/srv/x"]),
    (opening("/srv/x", WRITE | APPEND | TRUNCATE), ["append", "write"], ["/srv/x"]),
    (opening("/srv/x", READ | APPEND), ["read", "append"], ["/srv/x"]),
    (opening("/srv/x", WRITE | CREATE | EXCLUSIVE), ["write"], ["/srv/x"]),
    (opening("/srv/x", WRITE | CREATE, attributes=MODE_4755), ["write", "setstat"], ["/srv/x"]),
    (opening("x", READ), ["read"], ["/home/u/x"]),
    (opening("", READ), ["read"], ["/home/u"]),
    (opening("/srv/../etc//./shadow", READ), ["read"], ["/etc/shadow"]),
    (opening("../v/x", READ), ["read"], ["/home/v/x"]),
    (opening("/data/x", READ), ["read"], ["/data/x", "/mnt/x"]),
    (opening("/data/../x", READ), ["read"], ["/x"]),
    (request(codec.LSTAT, 1, text("/data")), ["stat"], ["/data"]),
    (request(codec.LSTAT, 1, text("/data/x")), ["stat"], ["/data/x", "/mnt/x"]),
    (request(codec.STAT, 1, text("/data")), ["stat"], ["/data", "/mnt"]),
    (request(codec.SETSTAT, 1, text("/data"), MODE_4755), ["setstat"], ["/data", "/mnt"]),
    (request(codec.SETSTAT, 1, text("/srv/x"), pack("!IQ", 1, 0)), ["setstat", "write"], ["/srv/x"]),
    (request(codec.OPENDIR, 1, text("/data/")), ["list"], ["/data", "/mnt"]),
    (request(codec.REMOVE, 1, text("/data/x")), ["remove"], ["/data/x", "/mnt/x"]),
    (request(codec.REMOVE, 1, text("/data")), ["remove"], ["/data"]),
    (request(codec.MKDIR, 1, text("/srv/x"), NO_ATTRIBUTES), ["mkdir"], ["/srv/x"]),
    (request(codec.MKDIR, 1, text("/srv/x"), MODE_4755), ["mkdir", "setstat"], ["/srv/x"]),
    (request(codec.RMDIR, 1, text("/srv/x/")), ["rmdir"], ["/srv/x"]),
    (request(codec.REALPATH, 1, text(".")), ["realpath"], ["/home/u"]),
    (request(codec.REALPATH, 1, text("/data/..")), ["realpath"], ["/"]),
    (request(codec.RENAME, 1, text("/data/a"), text("/srv/b")), ["rename"], ["/data/a", "/srv/b", "/mnt/a"]),
    (request(codec.READLINK, 1, text("/data")), ["readlink"], ["/data"]),
    (request(codec.SYMLINK, 1, text("/etc/passwd"), text("/srv/l")), ["symlink"], ["/srv/l", "/etc/passwd"]),
    (request(codec.SYMLINK, 1, text("../etc"), text("/srv/a/l")), ["symlink"], ["/srv/a/l", "/srv/etc"]),
    (request(codec.SYMLINK, 1, text("x"), text("l")), ["symlink"], ["/home/u/l", "/home/u/x"]),
    (request(codec.SYMLINK, 1, text("../data/x"), text("/srv/l")), ["symlink"], ["/srv/l", "/data/x", "/mnt/x"]),
    (extended("posix-rename@openssh.com", 1, text("/a"), text("/b")), ["rename"], ["/a", "/b"]),
    (extended("hardlink@openssh.com", 1, text("/etc/shadow"), text("/srv/l")), ["hardlink"], ["/etc/shadow", "/srv/l"]),
    (extended("statvfs@openssh.com", 1, text("/data")), ["stat"], ["/data", "/mnt"]),
    (extended("lsetstat@openssh.com", 1, text("/data"), MODE_4755), ["setstat"], ["/data"]),
    (extended("expand-path@openssh.com", 1, text("~/x")), ["realpath"], ["/home/u/x"]),
    (extended("expand-path@openssh.com", 1, text("~")), ["realpath"], ["/home/u"]),
    (extended("users-groups-by-id@openssh.com", 1, text(pack("!I", 0)), text(b"")), ["extended"], []),
]
LINKS = {"/data": "/mnt"}


def ops(operation: Operation) -> list[str]:
    return [part.facts.get("op") for part in operation.parts or (operation,)]


@pytest.mark.parametrize(("packet", "judged_as", "paths"), JUDGED)
def test_what_a_packet_is_judged_as(packet: bytes, judged_as: list[str], paths: list[str]) -> None:
    """Whole, byte by byte, and with another packet behind: the target sees the very bytes, once it may."""
    trailing = request(codec.STAT, 9, text("/other"))
    for pieces in ([packet], [bytes((byte,)) for byte in packet], [packet + trailing]):
        conversation = Conversation(links=LINKS)
        for piece in pieces:
            conversation.client(piece)
        first = conversation.operations[0]
        assert ops(first) == judged_as
        assert list(first.facts.get("paths")) == paths
        assert first.complete
        assert conversation.seen[1:2] == [packet]
        assert (trailing in conversation.seen) is (pieces == [packet + trailing])
        assert conversation.answers
        assert not conversation.refused


@pytest.mark.parametrize(("packet", "judged_as", "paths"), JUDGED)
def test_what_is_denied_is_not_seen(packet: bytes, judged_as: list[str], paths: list[str]) -> None:
    for decision in (DENY, Decision("hold", message="waiting"), Decision("deny")):
        conversation = Conversation(lambda operation, decision=decision: decision, LINKS)  # type: ignore[misc]
        conversation.client(packet)
        assert conversation.seen[1:] == []
        assert conversation.statuses == [(1, codec.PERMISSION_DENIED)]
        assert len(conversation.told) == 1
        assert "denied" in conversation.records[0]
        assert not conversation.refused


def test_the_fingerprint_covers_what_is_sent() -> None:
    different = [packet for packet, _, _ in JUDGED] + [request(codec.SETSTAT, 1, text("/data"), SIZE_0)]
    found = set()
    for packet in different:
        conversation = Conversation(links=LINKS)
        conversation.client(packet)
        assert conversation.operations[0].exact is not None
        found.add(conversation.operations[0].exact().payload)
    assert len(found) == len(different)


def test_the_id_is_no_part_of_the_fingerprint() -> None:
    payloads = set()
    for number in (1, 2):
        conversation = Conversation()
        conversation.client(opening("/x", READ, number))
        assert conversation.operations[0].exact is not None
        payloads.add(conversation.operations[0].exact().payload)
    assert len(payloads) == 1


UNSUPPORTED = [
    opening("/x", 0x40),
    extended("check-file", 1, text("/x")),
    extended("text-seek", 1),
    extended("expand-path@openssh.com", 1, text("~root/x")),
    extended("", 1),
]


@pytest.mark.parametrize("packet", UNSUPPORTED)
def test_what_no_table_knows_is_refused(packet: bytes) -> None:
    conversation = Conversation()
    conversation.client(packet)
    assert conversation.statuses == [(1, codec.OP_UNSUPPORTED)]
    assert conversation.seen[1:] == conversation.operations == []
    assert not conversation.refused


def test_the_client_hears_of_no_extension_that_is_refused() -> None:
    conversation = Conversation(begun=False)
    conversation.client(codec.packet(codec.INIT, pack("!I", 6) + text("newline@vandyke.com") + text("\n")))
    assert conversation.seen == [codec.init()]
    number, extensions = codec.opening(conversation.answers[0])
    assert number == 3
    assert [name for name, _ in extensions] == [b"posix-rename@openssh.com", b"statvfs@openssh.com", b"limits@openssh.com"]


ENDS: list[tuple[bytes, str]] = [
    (pack("!I", 0), "a packet of no bytes"),
    (pack("!I", 4) + b"\3abc", "a packet without an id"),
    (pack("!I", codec.MAX_PACKET + 1), "a packet that is too long"),
    (b"SSH-2.0-x\r\n", "something else"),
    (codec.packet(codec.INIT, pack("!I", 3)), "INIT again"),
    (codec.packet(99, pack("!I", 1)), "a type that there is not"),
    (codec.packet(codec.STATUS, pack("!III", 1, 0, 0)), "an answer"),
    (codec.packet(21, pack("!I", 1)), "LINK of version 6"),
    (request(codec.REMOVE, 1), "a request without its path"),
    (request(codec.REMOVE, 1, text("/x"), b"\0"), "a request with more than its fields"),
    (request(codec.REMOVE, 1, pack("!I", 99) + b"/x"), "a string longer than its packet"),
    (request(codec.SETSTAT, 1, text("/x"), pack("!I", 0x100)), "attributes of version 6"),
    (request(codec.SETSTAT, 1, text("/x"), pack("!I", 4)), "attributes cut short"),
    (request(codec.SETSTAT, 1, text("/x"), pack("!II", 0x80000000, 1 << 30)), "more attributes than there are"),
    (request(codec.READ, 1, text("h1")), "READ without its offset"),
    (request(codec.WRITE, 1, text("h1"), pack("!QI", 0, 9), b"short"), "WRITE cut short"),
    (request(codec.WRITE, 1, text("h1"), pack("!QI", 0, 1), b"xx"), "WRITE with a wrong length"),
    (request(codec.WRITE, 1, pack("!I", 0xFFFFFFFF), b"h1" * 20), "a handle longer than its packet"),
    (extended("fsync@openssh.com", 1), "fsync without a handle"),
    (extended("limits@openssh.com", 1, b"x"), "limits of something"),
    (extended("users-groups-by-id@openssh.com", 1, text("abc"), text("")), "numbers cut short"),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "what"), ENDS, ids=[what for _, what in ENDS])
def test_what_ends_the_channel(packet: bytes, what: str) -> None:
    for pieces in ([packet], [bytes((byte,)) for byte in packet]):
        conversation = Conversation()
        conversation.client(opening("/x", READ | WRITE, 5))
        seen = list(conversation.seen)
        for piece in pieces:
            conversation.client(piece)
        assert conversation.refused, what
        assert conversation.seen == seen
        conversation.client(opening("/y", READ, 6))
        assert conversation.seen == seen
        assert conversation.filter.refused == conversation.refused


@pytest.mark.parametrize(
    "packet",
    [
        opening("/x", READ),
        codec.packet(codec.INIT, pack("!I", 2)),
        codec.packet(codec.INIT, b""),
        codec.packet(codec.VERSION, pack("!I", 3)),
    ],
)
def test_what_is_no_beginning(packet: bytes) -> None:
    conversation = Conversation(begun=False)
    conversation.client(packet)
    assert conversation.refused
    assert conversation.seen == []


@pytest.mark.parametrize(
    "packet",
    [
        codec.packet(codec.VERSION, pack("!I", 6)),
        codec.packet(codec.VERSION, pack("!I", 2)),
        codec.packet(codec.VERSION, b"\0\0\0\3" + text("a" * 200) + text("")),
        codec.packet(codec.VERSION, b"\0\0\0\3" + (text("a") + text("")) * 100),
        codec.packet(codec.STATUS, pack("!III", 1, 0, 0)),
        b"Welcome to the host, this is what a login script prints\n",
        pack("!I", 0),
    ],
)
def test_targets_that_do_not_begin_well(packet: bytes) -> None:
    conversation = Conversation(begun=False)
    conversation.extensions = ()
    answers = conversation.answers
    conversation._at_target = conversation.seen.append  # type: ignore[method-assign]
    conversation.client(codec.packet(codec.INIT, pack("!I", 3)))
    conversation.target(packet)
    assert conversation.refused
    assert answers == []


def test_nothing_is_taken_before_the_versions_are_agreed_on() -> None:
    conversation = Conversation(begun=False)
    conversation._at_target = conversation.seen.append  # type: ignore[method-assign]
    conversation.client(codec.packet(codec.INIT, pack("!I", 3)) + opening("/x", READ))
    assert conversation.refused
    assert conversation.seen == [codec.init()]


def test_a_target_that_speaks_first() -> None:
    conversation = Conversation(begun=False)
    conversation.target(codec.version(()))
    assert conversation.refused


def open_file(flags: int, **given: object) -> Conversation:
    conversation = Conversation(**given)  # type: ignore[arg-type]
    conversation.client(opening("/srv/x", flags))
    assert conversation.seen[-1] == opening("/srv/x", flags)
    return conversation


def test_an_upload_is_counted_and_hashed() -> None:
    conversation = open_file(WRITE | CREATE | TRUNCATE)
    pieces = [b"a" * 32768, b"b" * 32768, b"c" * 10]
    sent = [writing(2 + number, b"h1", number * 32768, piece) for number, piece in enumerate(pieces)]
    joined = b"".join(sent)
    for at in range(0, len(joined), 10_000):  # packets of the channel are not those of SFTP
        conversation.client(joined[at : at + 10_000])
    conversation.client(request(codec.CLOSE, 9, text("h1")))
    assert conversation.seen[2:5] == sent
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert conversation.records == [f"sftp write /srv/x: 65546 bytes, sha256 {digest}"]
    assert len(conversation.operations) == 1


def test_a_download_is_counted_and_hashed() -> None:
    conversation = open_file(READ)
    conversation.client(reading(2, b"h1", 0, 4) + reading(3, b"h1", 4, 4))
    conversation.client(request(codec.CLOSE, 9, text("h1")))
    assert conversation.records == [f"sftp read /srv/x: 8 bytes, sha256 {hashlib.sha256(b'datadata').hexdigest()}"]


def test_bytes_out_of_order_have_no_digest() -> None:
    conversation = open_file(WRITE)
    conversation.client(writing(2, b"h1", 4, b"data") + writing(3, b"h1", 0, b"data"))
    conversation.client(request(codec.CLOSE, 9, text("h1")))
    assert conversation.records == ["sftp write /srv/x: 8 bytes, not in order"]


def test_appended_bytes_are_in_order_wherever_they_are_said_to_go() -> None:
    conversation = open_file(WRITE | APPEND)
    conversation.client(writing(2, b"h1", 77, b"data") + request(codec.CLOSE, 9, text("h1")))
    assert conversation.records == [f"sftp append /srv/x: 4 bytes, sha256 {hashlib.sha256(b'data').hexdigest()}"]


def test_writes_that_the_target_refuses_are_told() -> None:
    conversation = open_file(WRITE)
    conversation.answering = False
    conversation.client(writing(2, b"h1", 0, b"data"))
    conversation.target(codec.status(2, codec.FAILURE, "no space"))
    conversation.client(request(codec.CLOSE, 9, text("h1")))
    conversation.target(codec.status(9, codec.OK, ""))
    assert conversation.records == ["sftp write /srv/x: 4 bytes, 1 of 1 writes failed"]


def test_a_write_goes_on_before_it_is_whole() -> None:
    conversation = open_file(WRITE)
    packet = writing(2, b"h1", 0, b"data" * 10)
    head, rest = memoryview(packet)[:30], packet[30:]
    commands = conversation.filter.receive(CLIENT, head)
    assert [getattr(command, "data", None) for command in commands] == [head]
    assert commands[0].data is head  # type: ignore[attr-defined]
    assert [getattr(command, "data", None) for command in conversation.filter.receive(CLIENT, rest)] == [rest]


@pytest.mark.parametrize("held", [ALLOW, DENY])
def test_nothing_gets_into_a_packet_that_is_on_its_way(held: Decision) -> None:
    conversation = Conversation(lambda operation: None if "remove" in operation.title else ALLOW)
    conversation.client(opening("/srv/x", READ | WRITE) + request(codec.REMOVE, 7, text("/srv/y")))
    conversation.answering = False
    conversation.client(reading(2, b"h1", 0, 4) + writing(3, b"h1", 0, b"data")[:-2])
    conversation.target(request(codec.DATA, 2, text("data"))[:-1])
    seen, answers = len(conversation.seen), len(conversation.answers)
    conversation.decided(conversation.tokens[-1], held)
    assert (len(conversation.seen), len(conversation.answers)) == (seen, answers)
    conversation.client(b"ta" + reading(4, b"h1", 0, 4))
    conversation.target(b"a")
    allowed = held is ALLOW
    assert [packet[8] for packet in conversation.seen[seen:]] == ([3, 7, 4] if allowed else [3, 4])
    assert [packet[8] for packet in conversation.answers[answers:]] == ([2] if allowed else [2, 7])
    assert conversation.streams == {CLIENT: b"", SERVER: b""}


def test_a_write_that_is_cut_off_has_no_digest() -> None:
    conversation = open_file(WRITE)
    conversation.client(writing(2, b"h1", 0, b"data" * 10)[:-3])
    told = [command.text for command in conversation.filter.finish() if hasattr(command, "text")]
    assert told == ["sftp write /srv/x: 37 bytes, cut off, not closed"]


def test_files_that_are_open_at_the_end() -> None:
    conversation = open_file(READ | WRITE)
    told = [command.text for command in conversation.filter.finish() if hasattr(command, "text")]
    assert [line.partition(",")[0] for line in told] == ["sftp read /srv/x: 0 bytes", "sftp write /srv/x: 0 bytes"]
    assert all(line.endswith("not closed") for line in told)
    assert conversation.filter.receive(CLIENT, opening("/x", READ)) == []


@pytest.mark.parametrize(
    ("flags", "packet", "code"),
    [
        (READ, writing(2, b"h1", 0, b"x"), codec.PERMISSION_DENIED),
        (WRITE, reading(2, b"h1", 0, 9), codec.PERMISSION_DENIED),
        (READ, request(codec.READDIR, 2, text("h1")), codec.PERMISSION_DENIED),
        (READ, reading(2, b"h2", 0, 9), codec.FAILURE),
        (READ, writing(2, b"", 0, b"x"), codec.FAILURE),
        (READ, request(codec.CLOSE, 2, text("h2")), codec.FAILURE),
        (READ, request(codec.FSTAT, 2, text("h2")), codec.FAILURE),
        (READ, request(codec.FSETSTAT, 2, text("h2"), SIZE_0), codec.FAILURE),
        (READ, extended("fsync@openssh.com", 2, text("h2")), codec.FAILURE),
        (READ, extended("copy-data", 2, text("h1"), pack("!QQ", 0, 0), text("h1"), pack("!Q", 0)), codec.PERMISSION_DENIED),
        (READ, extended("copy-data", 2, text("h2"), pack("!QQ", 0, 0), text("h1"), pack("!Q", 0)), codec.PERMISSION_DENIED),
    ],
)
def test_handles_are_good_for_what_they_were_opened_for(flags: int, packet: bytes, code: int) -> None:
    conversation = open_file(flags)
    seen = len(conversation.seen)
    conversation.client(packet)
    assert conversation.statuses == [(2, code)]
    assert len(conversation.seen) == seen
    assert not conversation.refused


@pytest.mark.parametrize(
    "packet",
    [
        request(codec.FSTAT, 2, text("h1")),
        request(codec.CLOSE, 2, text("h1")),
        extended("fsync@openssh.com", 2, text("h1")),
        extended("fstatvfs@openssh.com", 2, text("h1")),
        extended("limits@openssh.com", 2),
        extended("copy-data", 2, text("h1"), pack("!QQ", 0, 0), text("h1"), pack("!Q", 0)),
    ],
)
def test_what_follows_from_the_open(packet: bytes) -> None:
    conversation = open_file(READ | WRITE)
    conversation.client(packet)
    assert conversation.seen[-1] == packet
    assert len(conversation.operations) == 1


def test_a_closed_handle_is_gone_and_may_come_again() -> None:
    conversation = open_file(READ)
    conversation.client(request(codec.CLOSE, 2, text("h1")) + reading(3, b"h1", 0, 1))
    assert conversation.statuses == [(2, codec.OK), (3, codec.FAILURE)]
    conversation._handles = 0
    conversation.client(opening("/y", READ, 4))
    conversation.client(reading(5, b"h1", 0, 1))
    assert conversation.answers[-1][4] == codec.DATA


def test_a_directory_is_listed() -> None:
    conversation = Conversation()
    conversation.client(request(codec.OPENDIR, 1, text("/srv")))
    conversation.client(request(codec.READDIR, 2, text("h1")))
    assert conversation.answers[-1][4] == codec.NAME
    assert conversation.records == ["sftp list /srv: done"]


def test_fsetstat_is_judged_by_the_path_of_its_handle() -> None:
    conversation = open_file(WRITE)
    conversation.client(request(codec.FSETSTAT, 2, text("h1"), MODE_4755))
    assert ops(conversation.operations[-1]) == ["setstat"]
    assert conversation.operations[-1].facts.get("paths") == ("/srv/x",)
    assert conversation.operations[-1].exact is not None
    assert "mode 4755" in conversation.operations[-1].exact().text


def test_paths_that_cannot_be_named_are_asked_as_incomplete() -> None:
    for path in ("/a\0b", "/" + "a" * 5000):
        conversation = Conversation(lambda operation: ALLOW if operation.complete else DENY)
        conversation.client(opening(path, READ))
        assert conversation.operations[0].facts.get("paths") is UNKNOWN
        assert conversation.statuses == [(1, codec.PERMISSION_DENIED)]
        assert conversation.seen[1:] == []


def test_no_home_no_relative_paths() -> None:
    conversation = Conversation(begun=False)
    conversation._at_target = conversation.seen.append  # type: ignore[method-assign]
    conversation.client(codec.packet(codec.INIT, pack("!I", 3)))
    conversation.target(codec.version(()))
    conversation.target(codec.status(0xFFFFFFFF, codec.FAILURE, ""))
    conversation.client(opening("x", READ))
    assert not conversation.operations[0].complete


def test_links_on_servers_that_read_the_paths_in_the_order_of_the_draft() -> None:
    conversation = Conversation(extensions=())
    conversation.client(request(codec.SYMLINK, 1, text(".ssh/rc"), text("/srv/l")))
    assert conversation.operations[0].facts.get("paths") == ("/srv/l", "/srv/.ssh/rc", "/home/u/.ssh/rc")


def test_a_held_request_waits_while_others_go_on() -> None:
    conversation = Conversation(lambda operation: None if "remove" in operation.title else ALLOW)
    conversation.client(request(codec.REMOVE, 1, text("/srv/a")) + request(codec.STAT, 2, text("/srv/b")))
    conversation.client(request(codec.STAT, 3, text("/srv/a")))  # concerns what is held
    conversation.client(request(codec.OPENDIR, 4, text("/srv")))  # holds it
    conversation.client(request(codec.STAT, 5, text("/srv/ab")))
    assert [packet[8] for packet in conversation.seen[1:]] == [2, 5]
    assert [packet[8] for packet in conversation.answers] == [2, 5]
    conversation.decided(conversation.tokens[0], ALLOW)
    assert [packet[8] for packet in conversation.seen[1:]] == [2, 5, 1, 3, 4]
    conversation.decided(conversation.tokens[0], ALLOW)  # twice: once is enough
    assert len(conversation.seen) == 6


def test_what_changes_a_path_is_answered_before_what_uses_it_is_resolved() -> None:
    conversation = Conversation()
    conversation.answering = False
    conversation.client(request(codec.RENAME, 1, text("/srv/a"), text("/srv/b")) + opening("/srv/b/x", READ, 2))
    assert len(conversation.operations) == 1
    conversation.links = {"/srv/b": "/etc"}  # that is where it leads now
    conversation.target(codec.status(1, codec.OK, ""))
    assert conversation.operations[1].facts.get("paths") == ("/srv/b/x", "/etc/x")


def test_requests_are_bounded_and_go_on_when_there_is_room() -> None:
    conversation = Conversation(lambda operation: None)
    whole = b"".join(request(codec.STAT, number, text(f"/{number}")) for number in range(1, MAX_WAITING + 51))
    conversation.client(whole)
    assert len(conversation.tokens) == MAX_WAITING
    assert conversation.filter.backlog
    for token in range(1, MAX_WAITING + 51):
        conversation.decided(token, DENY)
    assert len(conversation.statuses) == MAX_WAITING + 50
    assert conversation.filter.backlog == 0


def test_outstanding_reads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_OUTSTANDING", 10)
    conversation = open_file(READ)
    conversation.answering = False
    conversation.client(b"".join(reading(number, b"h1", 0, 4) for number in range(2, 32)))
    assert len(conversation.seen) == 12
    conversation.target(b"".join(request(codec.DATA, number, text("data")) for number in range(2, 12)))
    assert len(conversation.seen) == 22
    assert conversation.filter.backlog


def test_a_client_that_goes_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_OUTSTANDING", 1)
    conversation = open_file(READ)
    conversation.answering = False
    conversation.client(reading(2, b"h1", 0, 4))
    for _ in range(10):
        conversation.client(b"x" * (1 << 20))
    assert conversation.refused


HOSTILE = [
    request(codec.HANDLE, 3, text("h9")),
    codec.status(3, codec.OK, ""),
    request(codec.DATA, 3, text("x")),
    request(codec.DATA, 1, text("x")),
    request(codec.NAME, 1, pack("!I", 0)),
    request(codec.HANDLE, 1, text("")),
    request(codec.HANDLE, 1, text("h" * 300)),
    request(codec.HANDLE, 1, text("h1") + b"x"),
    request(codec.HANDLE, 1, text("open")),
    codec.packet(99, pack("!III", 1, 0, 0)),
    codec.packet(codec.STATUS, pack("!I", 1)),
    codec.packet(codec.VERSION, pack("!I", 3)),
    pack("!I", codec.MAX_PACKET + 1),
    pack("!I", 0),
]


@pytest.mark.parametrize("packet", HOSTILE)
def test_targets_that_answer_what_was_not_asked(packet: bytes) -> None:
    for pieces in ([packet], [bytes((byte,)) for byte in packet]):
        conversation = Conversation()
        conversation._handles = -1
        conversation.client(opening("/a", READ, 7))
        conversation.answering = False
        conversation.filter._handles[b"open"] = conversation.filter._handles[b"h0"]
        conversation.client(opening("/b", READ, 1))
        answers = len(conversation.answers)
        for piece in pieces:
            conversation.target(piece)
        assert conversation.refused
        assert len(conversation.answers) == answers


@pytest.mark.parametrize(
    "answer",
    [name_of(0xFFFFFFFE, b"relative"), request(codec.NAME, 0xFFFFFFFE, pack("!I", 2)), request(codec.DATA, 0xFFFFFFFE, text("x"))],
)
def test_targets_that_lie_about_paths(answer: bytes) -> None:
    conversation = Conversation()
    conversation._at_target = conversation.seen.append  # type: ignore[method-assign]
    conversation.client(opening("/a", READ))
    conversation.target(answer)
    assert conversation.refused
    assert conversation.operations == []


def test_an_answer_before_the_decision() -> None:
    conversation = Conversation(lambda operation: None)
    conversation.client(opening("/a", READ))
    conversation.target(request(codec.HANDLE, 1, text("h")))
    assert conversation.refused


def test_where_the_target_does_not_know_the_path_its_name_is_judged() -> None:
    conversation = Conversation()
    conversation._at_target = conversation.seen.append  # type: ignore[method-assign]
    conversation.client(opening("/a/b", READ))
    conversation.target(codec.status(0xFFFFFFFE, codec.NO_SUCH_FILE, ""))
    assert conversation.operations[0].facts.get("paths") == ("/a/b",)


def test_ids() -> None:
    conversation = Conversation(lambda operation: None)
    conversation.client(opening("/a", READ, 5))
    conversation.client(request(codec.STAT, 5, text("/b")))
    assert "id" in conversation.refused
    own = Conversation()
    own._at_target = own.seen.append  # type: ignore[method-assign]
    own.client(opening("/a", READ, 5) + opening("/b", READ, 0xFFFFFFFE))
    assert "id" in own.refused


def test_ends() -> None:
    conversation = Conversation(lambda operation: None)
    conversation.client(opening("/a", READ))
    conversation.eof(CLIENT)
    assert conversation.ended == []
    conversation.decided(conversation.tokens[0], ALLOW)
    assert conversation.ended == [CLIENT]
    conversation.eof(SERVER)
    assert conversation.ended == [CLIENT, SERVER]


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_ends_in_the_middle_of_a_packet(side: str) -> None:
    conversation = Conversation()
    conversation.client(opening("/a", WRITE))
    seen, answers = len(conversation.seen), len(conversation.answers)
    (conversation.client if side == CLIENT else conversation.target)(writing(2, b"h1", 0, b"data")[:-1])
    conversation.eof(side)  # type: ignore[arg-type]
    assert "middle" in conversation.refused
    assert (len(conversation.seen), len(conversation.answers)) == (seen, answers)


def test_an_exception_in_the_gateway_ends_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **named: object) -> Operation:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("relays.ssh.sftp.judging.sftp_operation", broken)
    conversation = Conversation()
    conversation.client(opening("/a", READ))
    assert conversation.refused == "the gateway could not read SFTP (ZeroDivisionError)"
    assert conversation.seen[1:] == []


def test_packets_of_a_run_go_on_in_one_piece() -> None:
    conversation = open_file(WRITE)
    whole = b"".join(writing(number, b"h1", 0, b"x" * 100) for number in range(2, 12))
    commands = conversation.filter.receive(CLIENT, whole)
    assert [getattr(command, "data", None) for command in commands] == [whole]
    assert commands[0].data is whole  # type: ignore[attr-defined]
    assert len(packets(bytearray(whole))) == 10
