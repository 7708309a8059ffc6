"""SFTP between a client and its target: parse, ask, pass on the very bytes that were judged. Sans-IO.

Versions are agreed on 3. Before a path is judged the target is asked where it leads (REALPATH), so that rules see both what the client
named and what its links make of it; between that answer and the request somebody else may still change a link. READ and WRITE follow
from the decision about the OPEN. Requests about one path keep their order; a held one keeps only those waiting that concern its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relays.commands import CLIENT, SERVER, Side
from relays.ssh.sftp import codec
from relays.ssh.sftp.bulk import HOME, OPENING, OVER, READY, START, Bulk
from relays.ssh.sftp.commands import Command, End, Record, Refuse
from relays.ssh.sftp.handles import MAX_HANDLES, Handle
from relays.ssh.sftp.judging import NOT_PENDING, OWN
from relays.ssh.sftp.requests import OF_HANDLES, OFFERED, UNJUDGED
from relays.ssh.sftp.waiting import Resolution, Waiting
from relays.wire import UINT32, RemoteProtocolError
from rules.model import Decision
from rules.remote_paths import absolute

_ON_HANDLES: Final = {codec.READ, codec.WRITE, codec.READDIR, codec.FSTAT, codec.CLOSE}


class SftpFilter(Bulk):
    """One SFTP channel. `context` is what else changes what a request means (account …), for the fingerprint of approvals."""

    def __init__(self, context: bytes = b"", *, resolve: bool = True) -> None:
        super().__init__(context, resolve)
        self.refused = ""  # why the channel was ended, once it was
        self._version = b""
        self._client_ended = False

    @property
    def backlog(self) -> int:
        """Bytes of the client that are not read yet because too much waits: give it no more window while this is not 0."""
        return len(self._buffers[CLIENT]) if self._full else 0

    def receive(self, side: Side, data: bytes | memoryview) -> list[Command]:
        """Bytes that came from a side, in pieces of any size. When all that is to be done is to pass on just these, then it is one
        `Forward` of `data` itself."""
        return self._guarded(lambda: self._received(side, data))

    def decided(self, token: int, decision: Decision) -> list[Command]:
        """The answer to a `Judge`. Anything but an allowing decision refuses the request; an unknown token is ignored."""
        return self._guarded(lambda: self._decided(token, decision))

    def eof(self, side: Side) -> list[Command]:
        """A side sends no more. `End` comes once what it asked for before has been decided."""
        return self._guarded(lambda: self._ended(side))

    def finish(self) -> list[Command]:
        """The channel is gone, for whatever reason: what the recording says of files that are still open."""
        self._phase = OVER
        for side, transfer in self._transfers.items():
            transfer.cut = self._rest[side] > 0
        handles, self._handles = self._handles, {}
        return [Record(text) for handle in handles.values() for text in handle.records(closed=False)]

    def _decided(self, token: int, decision: Decision) -> None:
        self._answered(token, decision)
        self._resume()

    # --- bytes

    def _guarded(self, work: Callable[[], None]) -> list[Command]:
        """What `work` put out. Whatever goes wrong in it ends the channel: what is not understood goes nowhere."""
        if self._phase == OVER:
            return []
        try:
            work()
        except RemoteProtocolError as error:
            self._refuse(error.message)
        except Exception as error:
            self._refuse(f"the gateway could not read SFTP ({type(error).__name__})")
        out, self._out = self._out, []
        return out

    def _refuse(self, reason: str) -> None:
        self._phase = OVER
        self.refused = reason
        self._out += [Record(f"sftp ended: {reason}"), Refuse(reason)]

    def _received(self, side: Side, data: bytes | memoryview) -> None:
        self._take(side, data)
        self._resume()

    def _resume(self) -> None:
        """Read on where too much waited."""
        if self._buffers[CLIENT] and self._phase == READY and not self._full:
            self._rescan(CLIENT)
        if not self._client_ended or self._full:
            return
        if self._buffers[CLIENT] or self._rest[SERVER]:
            raise RemoteProtocolError("the client ended in the middle of an SFTP packet")
        if all(waiting.sent for waiting in self._waiting.values()):
            self._client_ended = False
            self._out.append(End(CLIENT))

    def _ended(self, side: Side) -> None:
        if side == CLIENT:
            self._client_ended = True
            self._resume()
            return
        if self._buffers[SERVER] or self._rest[CLIENT]:
            raise RemoteProtocolError("the target ended in the middle of an SFTP packet")
        self._out.append(End(SERVER))

    # --- all other packets of the client

    def _client(self, packet: bytes) -> None:
        kind = packet[4]
        if self._phase == START:
            self._init(kind, packet)
            return
        if self._phase != READY:
            raise RemoteProtocolError("the client sent an SFTP request before the versions were agreed on")
        if kind not in codec.REQUESTS:
            raise RemoteProtocolError(f"the client sent an SFTP packet of the unknown type {kind}")
        if len(packet) < 9:
            raise RemoteProtocolError("an SFTP request without an id")
        (request,) = UINT32.unpack_from(packet, 5)
        if request in self._pending:
            raise RemoteProtocolError("the client used the id of an SFTP request that has no answer yet")
        if kind in _ON_HANDLES:
            self._on_handle(kind, request, packet)
        elif kind == codec.EXTENDED and (name := codec.Fields(packet, "SFTP request", 9).string()) in OF_HANDLES | UNJUDGED:
            self._extended(name, request, packet)
        else:
            self._judge(kind, request, packet)

    def _init(self, kind: int, packet: bytes) -> None:
        if kind != codec.INIT:
            raise RemoteProtocolError("the client does not begin with the version of SFTP that it speaks")
        number, _ = codec.opening(packet)
        if number < codec.VERSION_3:
            raise RemoteProtocolError(f"the client speaks version {number} of SFTP: version 3 is needed")
        self._phase = OPENING
        self._forward(SERVER, codec.init())

    def _on_handle(self, kind: int, request: int, packet: bytes) -> None:
        fields = codec.Fields(packet, "SFTP request", 9)
        name = fields.string()
        if kind in (codec.READ, codec.WRITE):
            fields.uint64()
            length = fields.uint32()
            if kind == codec.WRITE:
                fields.take(length)
        fields.finish()
        handle = self._handles.get(name)
        if handle is None:
            self._reply(request, codec.FAILURE, "there is no such handle")
            return
        allowed = {codec.READ: handle.reads, codec.WRITE: handle.writes, codec.READDIR: handle.lists}.get(kind, True)
        if not allowed:
            self._reply(request, codec.PERMISSION_DENIED, "the handle was not opened for this")
            return
        if kind == codec.CLOSE:
            del self._handles[name]
        self._pass(kind, request, packet, handle)

    def _extended(self, name: bytes, request: int, packet: bytes) -> None:
        """Extensions on handles, and those that only tell the target's bounds."""
        fields = codec.Fields(packet, "SFTP request", 9)
        fields.string()
        if name == b"copy-data":
            source = self._handles.get(fields.string())
            fields.take(16)
            target = self._handles.get(fields.string())
            fields.take(8)
            fields.finish()
            if source is None or target is None or not source.reads or not target.writes:
                self._reply(request, codec.PERMISSION_DENIED, "the handles were not opened for this")
                return
            target.written.in_order = False  # what the target itself copies is not seen here
        elif name in OF_HANDLES:
            if self._handles.get(fields.string()) is None:
                self._reply(request, codec.FAILURE, "there is no such handle")
                return
            fields.finish()
        else:
            fields.finish()
        self._pass(codec.EXTENDED, request, packet, None)

    def _pass(self, kind: int, request: int, packet: bytes, about: Handle | None) -> None:
        self._pending[request] = (kind, about, 0)
        self._forward(SERVER, packet)

    # --- all other packets of the target

    def _server(self, packet: bytes) -> None:
        kind = packet[4]
        if self._phase == START:
            raise RemoteProtocolError("the target spoke first, and not SFTP")
        if self._phase == OPENING:
            self._agreed(kind, packet)
            return
        if len(packet) < 9:
            raise RemoteProtocolError("the target sent an SFTP answer without an id")
        (request,) = UINT32.unpack_from(packet, 5)
        asked, about, _ = self._pending.get(request, NOT_PENDING)
        if asked == 0:
            raise RemoteProtocolError("the target answered an SFTP request that was not made")
        expected = codec.NAME if asked == OWN else codec.REPLIES.get(asked)
        if kind not in (codec.STATUS, expected) or len(packet) < 13:
            raise RemoteProtocolError("the target answered an SFTP request with what does not answer it")
        if asked == OWN:
            del self._pending[request]
            if isinstance(about, Resolution):
                self._resolved(about, packet)
            else:
                self._at_home(packet)
            return
        if isinstance(about, Waiting):
            self._carried_out(about, kind, packet)
        else:
            del self._pending[request]
            if asked == codec.CLOSE and isinstance(about, Handle):
                self._out += [Record(text) for text in about.records(closed=True)]
        self._forward(CLIENT, packet)

    def _agreed(self, kind: int, packet: bytes) -> None:
        if kind != codec.VERSION:
            raise RemoteProtocolError("the target does not begin with the version of SFTP that it speaks")
        number, extensions = codec.opening(packet)
        if number != codec.VERSION_3:
            raise RemoteProtocolError(f"the target speaks version {number} of SFTP, which was asked for version 3")
        self._openssh = any(name.endswith(b"@openssh.com") for name, _ in extensions)
        self._version = codec.version(pair for pair in extensions if pair[0] in OFFERED)
        self._phase = HOME
        self._forward(SERVER, codec.realpath(self._own_request(None), b"."))

    def _at_home(self, packet: bytes) -> None:
        """Where relative paths start. Unknown, they are refused one by one."""
        if packet[4] == codec.NAME:
            self._home = absolute(codec.only_name(packet), None)
        self._phase = READY
        self._forward(CLIENT, self._version)

    def _carried_out(self, waiting: Waiting, kind: int, packet: bytes) -> None:
        if not waiting.sent or waiting.operation is None:
            raise RemoteProtocolError("the target answered an SFTP request that was not made")
        (code,) = UINT32.unpack_from(packet, 9)
        if kind == codec.HANDLE:
            name = codec.handle_of(packet)
            if name in self._handles or len(self._handles) >= MAX_HANDLES:
                raise RemoteProtocolError("the target gave out a handle twice, or too many of them")
            self._handles[name] = Handle(waiting.request.ops, tuple(waiting.paths))
        if kind != codec.HANDLE or waiting.kind == codec.OPENDIR:
            failed = kind == codec.STATUS and code not in (codec.OK, codec.END_OF_FILE)
            self._out.append(Record(f"{waiting.operation.title}: {f'failed with status {code}' if failed else 'done'}"))
        self._done(waiting)
