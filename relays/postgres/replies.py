"""What the target still has to answer, and its bytes on the way to the client.

Every message that goes to the target and has an answer is a `Reply` in one ordered queue. The stream of answers is scanned header by
header; what needs no change is forwarded in whole buffers. A message that the queue does not foresee ends the conversation: whoever
speaks out of turn may not be the server that we think.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from relays.postgres import codec
from relays.postgres.codec import BACKEND_LIMITS, HEADER, check_header, unpack_header
from relays.postgres.masks import Judged
from relays.postgres.pending import IDLE, Pending, Reply
from relays.postgres.results import Head
from relays.postgres.secrets_in_results import Secrets
from relays.postgres.statements import Names, Portal, Statement
from relays.wire import RemoteProtocolError

try:
    from relays.postgres._frames import skip_rows
except ImportError:  # not compiled
    from relays.postgres.rows import skip_rows


MAX_MASKED: Final = 256 << 20  # bytes of one row, where something in it might have to be hidden

_D: Final = ord("D")
_COPY_DATA: Final = ord("d")
_ERROR: Final = ord("E")
_STREAMED: Final = frozenset({_D, _COPY_DATA})


class Replies(Pending):
    """The queue, and the scanner of the target's bytes."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self.copy_over = False  # a COPY has ended that the client may still be sending data for
        self.copy_ahead = False  # the client has ended its data before the target asked for them
        self.fatal = False  # the target has said its last word
        self.copying = ""  # "in" while the target takes CopyData, "out" while it sends some
        self.parameters: dict[bytes, bytes] = {}
        self.rows = 0  # since `account` was last called
        self.bytes = 0
        self.state_row = b""  # answer to a query of our own
        self.internal_failed = False
        self.ready = False  # a ReadyForQuery has come in the buffer that was scanned last
        self.head = Head()
        self.secrets: Secrets | None = None  # what must not come back, whatever the rules say
        self.judged: Judged | None = None  # of the last statement with masks: what comes later may still be about it
        self.changed: Callable[[bytes, bytes], None] | None = None  # a ParameterStatus
        self._suspicious = False  # some spelling of a secret stands in what is scanned
        self._handlers: dict[int, Callable[[bytes, int, int], bytes | None]] = {
            ord("1"): self._made,
            ord("2"): self._made,
            ord("3"): self._closed,
            ord("t"): self._parameters_described,
            ord("T"): self._described,
            ord("n"): self._no_data,
            ord("C"): self._complete,
            ord("I"): self._empty,
            ord("s"): self._suspended,
            ord("E"): self._error,
            ord("Z"): self._ready,
            ord("N"): self._notice,
            ord("A"): self._notification,
            ord("S"): self._status,
            ord("G"): self._copy_in,
            ord("H"): self._copy_out,
            ord("c"): self._copy_done,
        }

    # --- what comes

    def scan(self, data: bytes) -> bytes:
        """What the client gets for these bytes of the target's. Raises RemoteProtocolError."""
        out: list[bytes] = []
        at = start = 0
        self.ready = False
        secrets, limits = self.secrets, BACKEND_LIMITS
        if self._skip:
            at = min(self._skip, len(data))
            self._skip -= at
        elif self._need:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return b""
            data = b"".join(self._pieces)
            self._pieces, self._have, self._need = [], 0, 0
        end = len(data)
        self.bytes += end
        self._suspicious = secrets is not None and secrets.found_in(data)
        while at + HEADER <= end:
            kind, length = unpack_header(data, at)
            if kind == _D and self.queue:
                after, passed = self._rows(data, at, length, out, start)
                if after > at:
                    if not passed:
                        start = after
                    at = after
                    continue
            if not 4 <= length <= limits.get(kind, 0):
                check_header(kind, length, BACKEND_LIMITS)
            stop = at + 1 + length
            if stop > end:
                if kind in _STREAMED and self._streams(kind, length):
                    self._skip = stop - end
                    self.rows += 1
                    at = end
                else:
                    self._need = stop - at
                break
            if kind == _COPY_DATA:
                changed = self._copied(data, at, stop)
            elif (one := self._handlers.get(kind)) is not None:
                changed = one(data, at, stop)
            else:
                raise RemoteProtocolError(f"the target sends a message that is not relayed: {chr(kind)!r}")
            if changed is not None:
                if start < at:
                    out.append(data[start:at])
                if changed:
                    out.append(changed)
                start = stop
            at = stop
        if at < end:
            self._pieces, self._have = [data[at:]], end - at
            self._need = self._need or HEADER
            self.bytes -= self._have
        if start < at:
            out.append(data[start:at])
        return out[0] if len(out) == 1 else b"".join(out)

    def _rows(self, data: bytes, at: int, length: int, out: list[bytes], start: int) -> tuple[int, bool]:
        """Take the whole DataRow messages that begin at `at`: where they end, and whether they pass as they are. Others go to `out`."""
        reply = self.queue[0]
        if reply.kind not in "QE":
            raise RemoteProtocolError("the target sends rows that nobody asked for")
        if reply.internal:
            stop = at + 1 + length
            if stop > len(data):
                return at, False
            self.state_row = data[at + HEADER : stop]
            return stop, False
        if not reply.ready:
            self._prepare(reply)
        masker = reply.masker
        if masker is None and self._suspicious and self.secrets is not None:
            masker = reply.masker = self.secrets.rows(data, at)
        if masker is None:
            return self._walk(data, at, len(data)), True
        masked, after = masker.feed(data, at, suspicious=self._suspicious)
        if after > at:
            if start < at:
                out.append(data[start:at])
            out.append(masked)
            self._walk(masked, 0, len(masked))
        return after, False

    def _prepare(self, reply: Reply) -> None:
        """The rows of an Execute begin: their description came with the answer to a Describe of ours."""
        reply.ready = True
        if reply.judged is not None and reply.portal is not None:
            if reply.portal.columns is None:
                raise RemoteProtocolError("the target sends rows that it has not described")
            reply.masker = reply.judged.rows(0, reply.portal.columns)

    def _copied(self, data: bytes, at: int, stop: int) -> bytes | None:
        """One CopyData message of the target; what stands in its place, if it does not pass."""
        if self.copying != "out":
            raise RemoteProtocolError("the target sends COPY data that nobody asked for")
        self.rows += 1
        masker = self.queue[0].copy_masker
        if masker is None and not self._suspicious:
            if self.head.left:
                self.head.copy(data[at + HEADER : stop])
            return None
        payload = data[at + HEADER : stop]
        if masker is not None:
            payload = masker.feed(payload)
        elif self.secrets is not None:
            payload = self.secrets.text(payload)
        if self.head.left:
            self.head.copy(payload)
        return codec.message(b"d", payload)

    def _walk(self, data: bytes, at: int, end: int) -> int:
        rows, head = 0, self.head
        if not head.left and end == len(data):
            at, rows = skip_rows(data, at)
            self.rows += rows
            return at
        while at + HEADER <= end and data[at] == _D:
            length = int.from_bytes(data[at + 1 : at + HEADER], "big")
            stop = at + 1 + length
            if length < 4 or stop > end:
                break
            if head.left:
                head.row(data[at + HEADER : stop])
            rows += 1
            at = stop
        self.rows += rows
        return at

    def _streams(self, kind: int, length: int) -> bool:
        """Whether a message may go on before it has come whole: not where something in it might have to be hidden."""
        if kind == _COPY_DATA:
            if self.copying != "out":
                raise RemoteProtocolError("the target sends COPY data that nobody asked for")
            reply = self.queue[0]
        else:
            reply = self._front("QE", "rows")
        if self.secrets is None and reply.judged is None and not reply.internal:
            return True
        if length > MAX_MASKED:
            raise RemoteProtocolError(f"a row is longer than the {MAX_MASKED >> 20} MiB that can be looked through", "54000")
        return False

    # --- one message each: None leaves it as it is, b"" drops it, anything else replaces it

    def _made(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("P" if data[at] == 0x31 else "B", "a confirmation")
        if reply.error:
            raise RemoteProtocolError("the target takes what no server takes")
        self.queue.popleft()
        if reply.entry is not None:
            self.names.confirm(reply.entry)
        return b"" if reply.internal else None

    def _closed(self, data: bytes, at: int, stop: int) -> bytes | None:
        self._front("C", "a confirmation")
        reply = self.queue.popleft()
        return b"" if reply.internal else None

    def _parameters_described(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("D", "a description")
        if isinstance(reply.entry, Statement):
            reply.entry.types = codec.ParameterDescription.parse(data[at + HEADER : stop]).types
            reply.entry.described = True
        return b"" if reply.internal else None

    def _described(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("QD", "a description")
        if reply.kind == "D":
            self.queue.popleft()
            target = reply.entry
            if isinstance(target, Portal) and target.judged is not None:
                target.columns = codec.RowDescription.parse(data[at + HEADER : stop]).columns
                target.description = data[at:stop]
            return b"" if reply.internal else None
        if reply.internal:
            return b""
        self.head.begin()
        reply.ready = True
        self._end_masks(reply)
        if reply.judged is not None:
            reply.masker = reply.judged.rows(reply.index, codec.RowDescription.parse(data[at + HEADER : stop]).columns)
        reply.plain = reply.plain and reply.masker is None and reply.description is None
        reply.description = data[at:stop]
        return None

    def _no_data(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("D", "a description")
        self.queue.popleft()
        return b"" if reply.internal else None

    def _complete(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("QE", "a completion")
        if reply.kind == "E":
            self.queue.popleft()
            if reply.reading is not None:
                self._learn(reply, reply.reading)
        self.copying = ""
        self._end_masks(reply)
        reply.index += 1
        if reply.kind == "E" and self.learned is not None:
            self.learned(reply)
        if reply.internal:
            return b""
        self.head.end(data[at + HEADER : stop - 1])
        return None

    def _empty(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("QE", "a completion")
        if reply.kind == "E":
            self.queue.popleft()
        return b"" if reply.internal else None

    def _suspended(self, data: bytes, at: int, stop: int) -> bytes | None:
        self._front("E", "a pause")
        self.queue.popleft()
        self.head.end(b"(suspended)")
        return None

    def _error(self, data: bytes, at: int, stop: int) -> bytes | None:
        report = codec.Report.parse(data[at + HEADER : stop])
        reply = self.queue[0] if self.queue else None
        self.copying = ""
        self.fatal = fatal = report.get(b"V") in (b"FATAL", b"PANIC")
        if reply is not None and reply.reading is not None and reply.reading.copies_in:
            self.copy_over = True
        if reply is not None and reply.kind not in "QS" and not fatal:
            self._skip_to_sync()
        if reply is None:
            return self._told(None, report, data, at, stop)
        self._end_masks(reply)
        reply.failed = True
        if reply.internal:
            self.internal_failed = True
            return b"" if not fatal else None
        if reply.error and not fatal:
            self.head.end(b"(refused)")
            return reply.error
        self.head.failed(report)
        return self._told(reply, report, data, at, stop)

    def _told(self, reply: Reply | None, report: codec.Report, data: bytes, at: int, stop: int, kind: bytes = b"E") -> bytes | None:
        """What of an error or notice may be told: it can quote values that are masked."""
        told = report
        if reply is not None and reply.judged is not None:
            told = reply.judged.report(told, reply.index if reply.kind == "Q" else 0)
        elif self.judged is not None:
            # a constraint that was deferred fails at the end, a notice comes at any time
            told = self.judged.report(told)
        if self._suspicious and self.secrets is not None:
            told = self.secrets.report(told)
        return None if told is report else told.build(kind)

    def _ready(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("QS", "a readiness")
        self.status = codec.ReadyForQuery.parse(data[at + HEADER : stop]).status
        self.queue.popleft()
        self.copying = ""
        if self.status == IDLE:
            self.names.end_transaction(reply.segment)
        self.ready = True
        if reply.internal:
            return b""
        if reply.kind == "Q" and reply.reading is not None and not reply.failed:
            self._learn(reply, reply.reading)
            if self.learned is not None:
                self.learned(reply)
        return None

    def _notice(self, data: bytes, at: int, stop: int) -> bytes | None:
        report = codec.Report.parse(data[at + HEADER : stop])
        return self._told(self.queue[0] if self.queue else None, report, data, at, stop, b"N")

    def _notification(self, data: bytes, at: int, stop: int) -> bytes | None:
        """Whoever sent it may have read what this session may not: its payload is looked through as a text of a result is."""
        told = codec.NotificationResponse.parse(data[at + HEADER : stop])
        payload = told.payload
        if self._suspicious and self.secrets is not None:
            payload = self.secrets.text(payload)
        if self.judged is not None:
            payload = self.judged.masking.plan.text(payload).data
        return None if payload is told.payload else replace(told, payload=payload).build()

    def _status(self, data: bytes, at: int, stop: int) -> bytes | None:
        status = codec.ParameterStatus.parse(data[at + HEADER : stop])
        self.parameters[status.name] = status.value
        if self.changed is not None:
            self.changed(status.name, status.value)
        return None

    def _copy_in(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("QE", "the start of a COPY")
        if reply.reading is None or not reply.reading.copies_in:
            raise RemoteProtocolError("the target wants COPY data that nobody offered")
        self.copying = "in"
        self.copy_over, self.copy_ahead = self.copy_ahead, False
        return None

    def _copy_out(self, data: bytes, at: int, stop: int) -> bytes | None:
        reply = self._front("QE", "the start of a COPY")
        if reply.internal:
            raise RemoteProtocolError("the target answers a query with a COPY")
        self.copying = "out"
        if reply.judged is not None:
            reply.copy_masker = reply.judged.copy(reply.index if reply.kind == "Q" else 0)
        self.head.begin()
        return None

    def _copy_done(self, data: bytes, at: int, stop: int) -> bytes | None:
        if self.copying != "out":
            raise RemoteProtocolError("the target ends a COPY that is not there")
        return None
