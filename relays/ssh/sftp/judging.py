"""The judging half of the SFTP filter: a request is named, resolved by the target, judged, and then sent on or refused."""

from __future__ import annotations

from typing import Final

from relays.commands import CLIENT, SERVER, Side
from relays.ssh.sftp import codec
from relays.ssh.sftp.commands import Command, Forward, Judge, Record, Tell
from relays.ssh.sftp.handles import Handle
from relays.ssh.sftp.requests import Judged, Unsupported, judged
from relays.ssh.sftp.waiting import Resolution, Waiting, resolutions
from relays.wire import RemoteProtocolError
from rules.explain import explain
from rules.model import Decision
from rules.remote_paths import AmbiguousPath, absolute
from rules.ssh import sftp_operation

OWN: Final = -1  # in the place of a request's kind: a REALPATH of the gateway itself
_LAST_ID: Final = 0xFFFF_FFFF

type Pending = tuple[int, Handle | Waiting | Resolution | None, int]  # kind of request, what it is about, offset of a READ

NOT_PENDING: Final[Pending] = (0, None, 0)


class Judging:
    """Requests without an answer, open handles, and every question about them. `_out` collects what is to be done."""

    def __init__(self, context: bytes, resolve: bool) -> None:
        self._context = context
        self._resolves = resolve
        self._pending: dict[int, Pending] = {}
        self._waiting: dict[int, Waiting] = {}  # by request id, in the order of arrival
        self._asked: dict[int, Waiting] = {}  # by token
        self._handles: dict[bytes, Handle] = {}
        self._tokens = 0
        self._own = _LAST_ID
        self._home: bytes | None = None  # where relative paths start
        self._openssh = False
        self._out: list[Command] = []
        self._rest = {CLIENT: 0, SERVER: 0}  # bytes to come of the packet that is on its way to a side
        self._later: dict[Side, list[bytes]] = {CLIENT: [], SERVER: []}  # what goes to the side behind that packet

    def _forward(self, side: Side, packet: bytes) -> None:
        """Send a side a whole packet, though not into the middle of another."""
        if self._rest[side]:
            self._later[side].append(packet)
        else:
            self._out.append(Forward(side, packet))

    def _reply(self, request: int, code: int, message: str) -> None:
        self._forward(CLIENT, codec.status(request, code, message))

    def _judge(self, kind: int, request: int, packet: bytes) -> None:
        try:
            found = judged(kind, packet)
        except Unsupported as error:
            self._reply(request, codec.OP_UNSUPPORTED, f"not supported by this gateway: {error}")
            self._out.append(Record(f"sftp request refused: {error}"))
            return
        waiting = Waiting(request, kind, packet, found)
        if found.handle:
            handle = self._handles.get(found.handle)
            if handle is None:
                self._reply(request, codec.FAILURE, "there is no such handle")
                return
            waiting.paths = list(handle.paths)
        else:
            self._name(waiting, found)
        self._pending[request] = (kind, waiting, 0)
        self._waiting[request] = waiting
        if not self._blocked(waiting):
            self._start(waiting)

    def _name(self, waiting: Waiting, found: Judged) -> None:
        """The paths as the client means them."""
        try:
            waiting.name(found.names, self._home)
            if waiting.kind == codec.SYMLINK and not self._openssh:
                # a server that reads the two paths in the draft's order would make the link where the target is
                waiting.add(absolute(found.names[1].raw, self._home))
        except AmbiguousPath as error:
            waiting.reason = str(error)

    def _blocked(self, waiting: Waiting) -> bool:
        """Whether a request that came before concerns the same path, and one of the two changes something."""
        for other in self._waiting.values():
            if other is waiting:
                return False
            if (other.writes or waiting.writes) and other.concerns(waiting):
                return True
        return False

    def _start(self, waiting: Waiting) -> None:
        """Ask the target where the paths lead; then ask whether the request may be."""
        waiting.started = True
        found = [] if waiting.reason or not self._resolves else resolutions(waiting)
        waiting.unresolved = len(found)
        for one in found:
            self._forward(SERVER, codec.realpath(self._own_request(one), one.path))
        if not found:
            self._ask(waiting)

    def _own_request(self, about: Resolution | None) -> int:
        """An id for a request of the gateway itself, which no request under way has."""
        while self._own in self._pending:
            self._own = self._own - 1 or _LAST_ID
        request, self._own = self._own, self._own - 1 or _LAST_ID
        self._pending[request] = (OWN, about, 0)
        return request

    def _resolved(self, about: Resolution, packet: bytes) -> None:
        waiting = about.waiting
        if packet[4] == codec.NAME:
            path = codec.only_name(packet)
            if path[:1] != b"/":
                raise RemoteProtocolError("the target named a path that is not absolute")
            try:
                waiting.add(absolute(path + b"/" + about.last, None))
            except AmbiguousPath as error:
                waiting.reason = str(error)
        waiting.unresolved -= 1
        if not waiting.unresolved:
            self._ask(waiting)

    def _ask(self, waiting: Waiting) -> None:
        found = waiting.request
        self._tokens += 1
        waiting.operation = sftp_operation(
            found.ops,
            None if waiting.reason else waiting.paths,
            detail=found.detail,
            payload=found.payload,
            extension=found.extension,
            reason=waiting.reason,
            context=self._context,
        )
        self._asked[self._tokens] = waiting
        self._out.append(Judge(self._tokens, waiting.operation))

    def _answered(self, token: int, decision: Decision) -> None:
        waiting = self._asked.pop(token, None)
        if waiting is None or waiting.operation is None:
            return
        if decision.allowed:
            waiting.sent = True
            self._forward(SERVER, waiting.packet)
            waiting.packet = b""
        else:
            title, sentence = waiting.operation.title, explain(decision, waiting.operation)
            self._reply(waiting.id, codec.PERMISSION_DENIED, sentence)
            self._out += [Tell(f"{title}: {sentence}"), Record(f"{title}: denied: {sentence}")]
            self._done(waiting)

    def _done(self, waiting: Waiting) -> None:
        """Let those go on that waited for this one."""
        del self._waiting[waiting.id], self._pending[waiting.id]
        for other in [each for each in self._waiting.values() if not each.started]:
            if not self._blocked(other):
                self._start(other)
