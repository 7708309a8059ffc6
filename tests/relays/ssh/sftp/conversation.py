"""A client, the filter, and a target that answers everything: what the tests of SFTP are written with."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from struct import pack, unpack_from

from relays.commands import CLIENT, SERVER, Side
from relays.ssh.sftp import codec
from relays.ssh.sftp.commands import Command, End, Forward, Judge, Record, Refuse, Tell
from relays.ssh.sftp.filter import SftpFilter
from rules.model import Decision, Operation

ALLOW = Decision("allow")
DENY = Decision("deny", rules=("no",), message="not here")
OPENSSH = (
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"limits@openssh.com", b"1"),
    (b"version-select", b"6"),
    (b"md5-hash@x", b"1"),
)
NO_ATTRIBUTES = pack("!I", 0)
FIRST_OWN_ID = 0xFFFF_0000  # the gateway's requests have ids from the top


def text(value: bytes | str) -> bytes:
    return codec.string(value.encode() if isinstance(value, str) else value)


def request(kind: int, number: int, *fields: bytes) -> bytes:
    return codec.packet(kind, pack("!I", number) + b"".join(fields))


def opening(path: str, flags: int, number: int = 1, attributes: bytes = NO_ATTRIBUTES) -> bytes:
    return request(codec.OPEN, number, text(path), pack("!I", flags), attributes)


def extended(name: str, number: int, *fields: bytes) -> bytes:
    return request(codec.EXTENDED, number, text(name), *fields)


def writing(number: int, handle: bytes, offset: int, data: bytes) -> bytes:
    return request(codec.WRITE, number, text(handle), pack("!Q", offset), text(data))


def reading(number: int, handle: bytes, offset: int, length: int) -> bytes:
    return request(codec.READ, number, text(handle), pack("!QI", offset, length))


def name_of(number: int, path: bytes) -> bytes:
    return request(codec.NAME, number, pack("!I", 1), text(path), text(path), NO_ATTRIBUTES)


def packets(stream: bytearray) -> list[bytes]:
    """Takes the whole packets from the front of what has come."""
    found = []
    while len(stream) >= 4 and len(stream) >= (size := 4 + unpack_from("!I", stream)[0]):
        found.append(bytes(stream[:size]))
        del stream[:size]
    return found


class Conversation:
    """Both ends. `decide` may answer None: the test then calls `decided` itself. `links` are directories that lead elsewhere."""

    def __init__(
        self,
        decide: Callable[[Operation], Decision | None] = lambda operation: ALLOW,
        links: Mapping[str, str] | None = None,
        extensions: tuple[tuple[bytes, bytes], ...] = OPENSSH,
        begun: bool = True,
    ) -> None:
        self.filter = SftpFilter()
        self.decide = decide
        self.links = links or {}
        self.extensions = extensions
        self.operations: list[Operation] = []
        self.tokens: list[int] = []
        self.seen: list[bytes] = []  # what the target got, without what the gateway itself asked
        self.answers: list[bytes] = []  # what the client got
        self.records: list[str] = []
        self.told: list[str] = []
        self.ended: list[Side] = []
        self.refused = ""
        self.answering = True
        self.pieces = 1 << 20  # bytes of the target's in one piece
        self.denied: set[int] = set()  # ids, by `settle`
        self.streams: dict[Side, bytearray] = {CLIENT: bytearray(), SERVER: bytearray()}  # what a side got and is no whole packet yet
        self._handles = 0
        if begun:
            self.client(codec.packet(codec.INIT, pack("!I", 3)))
            self.answers.clear()

    def client(self, data: bytes) -> None:
        self._do(self.filter.receive(CLIENT, data))

    def target(self, data: bytes) -> None:
        self._do(self.filter.receive(SERVER, data))

    def decided(self, token: int, decision: Decision) -> None:
        self._do(self.filter.decided(token, decision))

    def settle(self, turn: int) -> None:
        """Decide all that waits, every second way."""
        tokens, self.tokens = self.tokens, []
        for token in tokens:
            waiting = self.filter._asked.get(token)
            if waiting is not None:
                if (token + turn) % 2:
                    self.denied.add(waiting.id)
                self.decided(token, DENY if (token + turn) % 2 else ALLOW)

    def eof(self, side: Side) -> None:
        self._do(self.filter.eof(side))

    @property
    def statuses(self) -> list[tuple[int, int]]:
        """Request ids and codes of the answers that are STATUS."""
        return [unpack_from("!II", packet, 5) for packet in self.answers if packet[4] == codec.STATUS]  # type: ignore[misc]

    def _do(self, commands: list[Command]) -> None:
        for command in commands:
            assert not self.refused, "something follows the end"
            match command:
                case Forward(side=side, data=data) if side == SERVER:
                    self.streams[SERVER] += data
                    for packet in packets(self.streams[SERVER]):
                        self._at_target(packet)
                case Forward(data=data):
                    self.streams[CLIENT] += data
                    self.answers += packets(self.streams[CLIENT])
                case Judge(token=token, operation=operation):
                    self.operations.append(operation)
                    self.tokens.append(token)
                    decision = self.decide(operation)
                    if decision is not None:
                        self.decided(token, decision)
                case Record(text=line):
                    self.records.append(line)
                case Tell(text=line):
                    self.told.append(line)
                case End(side=side):
                    self.ended.append(side)
                case Refuse(reason=reason):
                    self.refused = reason

    def _at_target(self, packet: bytes) -> None:
        kind = packet[4]
        if kind == codec.INIT:
            self.seen.append(packet)
            self.target(codec.version(self.extensions))
            return
        (number,) = unpack_from("!I", packet, 5)
        if number >= FIRST_OWN_ID:
            assert kind == codec.REALPATH
            self.target(name_of(number, self._resolved(codec.Fields(packet, at=9).string())))
            return
        self.seen.append(packet)
        if self.answering:
            answer = self._answer(kind, number, packet)
            for at in range(0, len(answer), self.pieces):
                self.target(answer[at : at + self.pieces])

    def _resolved(self, path: bytes) -> bytes:
        found = posixpath.normpath(posixpath.join("/home/u", path.decode("utf-8", "surrogateescape")))
        for link, leads in self.links.items():
            if found == link or found.startswith(link + "/"):
                found = posixpath.normpath(leads + found[len(link) :])
        return found.encode("utf-8", "surrogateescape")

    def _answer(self, kind: int, number: int, packet: bytes) -> bytes:
        match codec.REPLIES.get(kind):
            case codec.HANDLE:
                self._handles += 1
                return request(codec.HANDLE, number, text(f"h{self._handles}"))
            case codec.DATA:
                return request(codec.DATA, number, text("data"))
            case codec.NAME:
                return name_of(number, b"/x")
            case codec.ATTRS:
                return request(codec.ATTRS, number, NO_ATTRIBUTES)
        return codec.status(number, codec.OK, "")
