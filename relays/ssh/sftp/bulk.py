"""READ and WRITE, DATA and their STATUS: as little as possible for each packet. All others are taken whole, one by one.

A WRITE or DATA is known by its head, so its bytes go on as they come. Until its last byte nothing else may go to that side.
"""

from __future__ import annotations

from typing import Final

from relays.commands import CLIENT, OTHER, SERVER, Side
from relays.ssh.sftp import codec
from relays.ssh.sftp.commands import Forward
from relays.ssh.sftp.handles import Handle, Transfer
from relays.ssh.sftp.judging import NOT_PENDING, Judging
from relays.wire import RemoteProtocolError

MAX_WAITING: Final = 128  # requests being judged, held or carried out
MAX_OUTSTANDING: Final = 4096  # requests without an answer, READ and WRITE included
MAX_BACKLOG: Final = 8 << 20  # bytes of a client that goes on sending when nothing more is read of it

WHO: Final = {CLIENT: "the client", SERVER: "the target"}
_LEAST_ON_HANDLE: Final = 25  # bytes of a READ, less those of its handle

# phases
START, OPENING, HOME, READY, OVER = range(5)


class Bulk(Judging):
    """The bytes of both sides, cut into packets. What goes on as it is goes on in runs, uncopied where a run is all that came."""

    def __init__(self, context: bytes, resolve: bool) -> None:
        super().__init__(context, resolve)
        self._phase = START
        self._buffers = {CLIENT: bytearray(), SERVER: bytearray()}
        self._transfers: dict[Side, Transfer] = {}  # of what is on its way to a side

    @property
    def _full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING or len(self._pending) >= MAX_OUTSTANDING

    def _client(self, packet: bytes) -> None:
        """A whole packet of the client."""
        raise NotImplementedError

    def _server(self, packet: bytes) -> None:
        """A whole packet of the target."""
        raise NotImplementedError

    def _take(self, side: Side, data: bytes | memoryview) -> None:
        """Bytes of a side. Raises RemoteProtocolError."""
        buffer = self._buffers[side]
        if buffer:
            buffer += data
            self._rescan(side)
        else:
            taken = self._scan(side, data)
            if taken < len(data):
                buffer += data[taken:] if taken else data
        if len(buffer) > MAX_BACKLOG:
            raise RemoteProtocolError(f"{WHO[side]} sends more than is read of it")

    def _rescan(self, side: Side) -> None:
        buffer = self._buffers[side]
        taken = self._scan(side, buffer)
        if taken:
            del buffer[:taken]

    def _scan(self, side: Side, buffer: bytes | bytearray | memoryview) -> int:
        """Deal with the packets at the front; how many bytes they were."""
        fast, slow = (self._client_bulk, self._client) if side == CLIENT else (self._server_bulk, self._server)
        other, size = OTHER[side], len(buffer)
        at = run = 0
        with memoryview(buffer) as view:
            if self._rest[other]:
                at = self._go_on(other, view)
                if self._later[other] and not self._rest[other]:
                    later, self._later[other] = self._later[other], []
                    self._out += [Forward(other, bytes(view[:at])), *(Forward(other, packet) for packet in later)]
                    run = at
            while at < size and self._phase != OVER and not (side == CLIENT and self._full):
                stop = codec.packet_end(view, at, WHO[side])
                if stop is None:
                    break
                if fast(view, at, stop):
                    at = min(stop, size)
                    continue
                if stop > size:
                    break
                if run < at:
                    self._out.append(Forward(other, bytes(view[run:at])))
                slow(bytes(view[at:stop]))
                at = run = stop
            if run < at:
                whole = run == 0 and at == size and not isinstance(buffer, bytearray)
                self._out.append(Forward(other, buffer if whole else bytes(view[run:at])))  # type: ignore[arg-type]
        return at

    def _go_on(self, side: Side, view: memoryview) -> int:
        """More of the packet that is on its way to a side: how many bytes of it."""
        taken = min(self._rest[side], len(view))
        self._transfers[side].go_on(view[:taken])
        self._rest[side] -= taken
        return taken

    def _begun(self, side: Side, transfer: Transfer, rest: int) -> None:
        self._rest[side] = rest
        self._transfers[side] = transfer

    def _client_bulk(self, view: memoryview, at: int, stop: int) -> bool:
        """Whether a packet is a READ, or the beginning or all of a WRITE, and goes on as it is."""
        size = len(view)
        if size - at < _LEAST_ON_HANDLE:
            return False
        kind = view[at + 4]
        if kind != codec.WRITE and kind != codec.READ:
            return False
        _, _, request, length = codec.STRING_HEAD.unpack_from(view, at)
        tail = at + 13 + length
        if tail + 12 > size:
            return False
        handle = self._handles.get(bytes(view[at + 13 : tail]))
        if handle is None or request in self._pending:
            return False
        offset, length = codec.WRITE_TAIL.unpack_from(view, tail)
        if kind == codec.READ:
            if not handle.reads or tail + 12 != stop:
                return False
        else:
            if not handle.writes or tail + 12 + length != stop:
                return False
            written = handle.written
            written.add(written.bytes if handle.appends else offset, view[tail + 12 : stop])
            if stop > size:
                self._begun(SERVER, written, stop - size)
        self._pending[request] = (kind, handle, offset)
        return True

    def _server_bulk(self, view: memoryview, at: int, stop: int) -> bool:
        """Whether a packet is the answer to a WRITE, or the beginning or all of that to a READ, and goes on as it is."""
        size = len(view)
        if size - at < 13:
            return False
        kind = view[at + 4]
        if kind != codec.DATA and (kind != codec.STATUS or stop > size):
            return False
        _, _, request, value = codec.STRING_HEAD.unpack_from(view, at)
        asked, handle, offset = self._pending.get(request, NOT_PENDING)
        if asked == codec.READ and isinstance(handle, Handle):
            if kind == codec.DATA:
                if at + 13 + value != stop:
                    return False
                handle.read.add(offset, view[at + 13 : stop])
                if stop > size:
                    self._begun(CLIENT, handle.read, stop - size)
        elif asked == codec.WRITE and isinstance(handle, Handle) and kind == codec.STATUS:
            if value != codec.OK:
                handle.written.failed += 1
        else:
            return False
        del self._pending[request]
        return True
