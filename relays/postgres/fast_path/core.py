"""Statements that were judged before, on their way past everything else: whole transactions recognised in the bytes, counted, recorded.

A statement that only reads, that the rules in force allow with nothing to hide in its answer, and that a session repeats, need not be
judged, decided and described again: `learn` and `admit` are told of it, and from then on `client` and `server` know its messages by
themselves. Whatever is not exactly such a transaction, in either direction, they leave alone: None, nothing taken, nothing changed, and
the relay goes its usual way with what `take_pending` hands over.

`relays.postgres.fast_path._core` does the same, compiled; both run under the same tests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final

from relays.postgres.fast_path.binds import SHOWN_TEXT, binary, bind_ends, values_shown

__all__ = ["CUT", "LONGEST_TEXT", "MOST_ENTRIES", "RECORD_BYTES", "SHOWN_TEXT", "Core", "Entry", "readable", "row_shown", "runs_of"]

LONGEST_TEXT: Final = 2_000  # bytes of a Query that is looked up, its NUL included
MOST_ENTRIES: Final = 512
MOST_PENDING: Final = 2_000  # transactions that are not answered
RECORD_BYTES: Final = 64 << 10  # of messages for the recording, before `full` is called
CUT: Final = b"\n[cut]\n"

_RUN: Final = re.compile(rb"(?<=[ =<>(,\t\n])[0-9]{1,9}(?=[ ;),\t\n]|\Z)")  # digits that are a token of their own, and fit an int4
_INT32: Final = Struct("!i").unpack_from
_QUERY, _BIND, _DESCRIPTION, _NO_DATA, _ROW, _COMPLETE, _SUSPENDED = b"QBTnDCs"
_DESCRIBE_PORTAL: Final = b"D\0\0\0\x06P\0"
_EXECUTE: Final = b"E\0\0\0\x09\0"
_SYNC: Final = b"S\0\0\0\x04"
_BIND_COMPLETE: Final = b"2\0\0\0\x04"
_READY: Final = b"Z\0\0\0\x05"
_LIMIT_AND_SYNC: Final = 9  # an int4 and a Sync


def readable(value: bytes) -> bytes:
    """A value for the recording: as it is where it is text, else in hex."""
    if value.isascii() and b"\0" not in value:
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return b"\\x" + value.hex().encode()
    return value if text.isprintable() else b"\\x" + value.hex().encode()


def runs_of(text: bytes) -> list[tuple[int, int]]:
    """Where the runs of digits are that may stand for others: (start, end)."""
    return [found.span() for found in _RUN.finditer(text)]


class Entry:
    """A statement that may pass. `learned` is the relay's own; `count` how often it has passed since that was last asked.

    `text` is what the recording shows before the bound values, and `show` gives all of it for the body of a Bind message with values in
    binary format. `description` is the RowDescription that its answer had, as a whole
    message (None: it had none); with `exact`, an answer with another one does not pass.
    """

    __slots__ = ("count", "description", "exact", "generation", "learned", "show", "text")

    def __init__(
        self,
        learned: Any,
        text: bytes,
        description: bytes | None = None,
        exact: bool = False,
        show: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.learned = learned
        self.text = text
        self.show = show
        self.description = description
        self.exact = exact
        self.generation = self.count = 0


type Passed = tuple[Entry, bool, bool, Any]  # the client asked for a description; we did in its place; the prepared statement or None


class Core:
    """The statements that one session may pass, and what has passed.

    `renew` gives the time.monotonic() until which statements may pass without another question, 0.0 for not at all; `full` is called
    when `take_record` is due; `suspects` says whether an answer may hold a known secret. `head` is how many bytes of a result the
    recording has. `statements` are the session's prepared statements by name, each with its entry as `fast`.
    """

    def __init__(
        self,
        statements: Mapping[bytes, Any],
        renew: Callable[[], float],
        full: Callable[[], None],
        suspects: Callable[[bytes], bool] | None = None,
        head: int = 0,
    ) -> None:
        self._statements = statements
        self._renew, self._full, self._suspects, self._head = renew, full, suspects, head
        self._skeletons: dict[bytes, bytes] = {}
        self._entries: dict[bytes, Entry] = {}
        self._counted: list[Entry] = []
        self._record: list[bytes] = []
        self._recorded = 0
        self.pending: list[Passed] = []
        self.open = False  # the session stands where statements may pass: nothing else is under way
        self.status = 0x49  # of the last ReadyForQuery
        self.until = 0.0
        self.generation = 0
        # since the relay last reset them:
        self.transactions = self.rows = self.bytes = 0
        self.ended = False  # some transaction
        self.bound = False  # the unnamed portal was
        self.last: Entry | None = None  # what was answered last
        # since `take_record`:
        self.messages = 0
        self.first = 0.0
        self._outlets: Any = None

    # --- in the place of the legs

    def stand_between(
        self, outlets: Any, client: Callable[[bytes], None], server: Callable[[bytes], None], failed: Callable[[Exception], None]
    ) -> None:
        """Let `from_client` and `from_server` work: what passes goes to `outlets.to_server` and `outlets.to_client`, as they are then; what
        does not goes to `client` and `server`, to which nothing has happened yet; and what is raised to `failed`.
        """
        self._outlets, self._otherwise, self._failed = outlets, (client, server), failed

    def from_client(self, data: bytes) -> None:
        """Bytes as the client's transport gives them."""
        try:
            out = self.client(data) if self.open else None
            (self._otherwise[0] if out is None else self._outlets.to_server)(data if out is None else out)
        except Exception as error:
            self._failed(error)

    def from_server(self, data: bytes) -> None:
        """Bytes as the server's transport gives them."""
        try:
            out = self.server(data) if self.open else None
            (self._otherwise[1] if out is None else self._outlets.to_client)(data if out is None else out)
        except Exception as error:
            self._failed(error)

    # --- what is known

    def forget(self) -> None:
        """Nothing that was learned counts any more."""
        self.generation += 1
        self._skeletons.clear()
        self._entries.clear()

    def admit(self, entry: Entry) -> Entry:
        """Let the prepared statement pass whose `fast` this becomes."""
        entry.generation = self.generation
        return entry

    def learn(self, text: bytes, free: bytes, entry: Entry) -> None:
        """Let the simple query `text` pass, and every other that differs in its free runs of digits alone (a byte of 0 or 1 for each)."""
        if len(self._entries) >= MOST_ENTRIES:
            self._skeletons.clear()
            self._entries.clear()
        self._skeletons[_RUN.sub(b"\0", text)] = free
        entry.generation = self.generation
        self._entries[_blanked(text, free)] = entry

    def _find(self, text: bytes) -> Entry | None:
        skeleton = _RUN.sub(b"\0", text)
        free = self._skeletons.get(skeleton)
        if free is None:
            return None
        return self._entries.get(_blanked(text, free) if 0 in free else skeleton)

    # --- from the client

    def client(self, data: bytes) -> bytes | None:
        """What goes to the server for these bytes of the client's; None: they are not all known transactions."""
        if not self.open or not data or len(self.pending) >= MOST_PENDING:
            return None
        if time.monotonic() >= self.until:
            self.until = self._renew()
            if not self.open or self.until <= 0.0:
                return None
        taken: list[tuple[Passed, int, int]] = []  # with the ends of the first message and of all
        at = 0
        while at < len(data):
            if at + 5 > len(data):
                return None
            length: int = _INT32(data, at + 1)[0]
            stop = at + 1 + length
            if length < 4 or stop > len(data):
                return None
            if data[at] == _QUERY:
                entry = self._query(data[at + 5 : stop])
                found = None if entry is None else ((entry, False, False, None), stop)
            elif data[at] == _BIND:
                found = self._extended(data, at, stop)
            else:
                found = None
            if found is None:
                return None
            taken.append((found[0], stop, found[1]))
            at = found[1]
        return self._pass(data, taken)

    def _query(self, text: bytes) -> Entry | None:
        if not 1 < len(text) <= LONGEST_TEXT or text.find(0) != len(text) - 1:
            return None
        return self._find(text[:-1])

    def _extended(self, data: bytes, bind: int, stop: int) -> tuple[Passed, int] | None:
        """Bind, perhaps Describe, Execute and Sync of the unnamed portal."""
        if data[bind + 5 : bind + 6] != b"\0" or (end := data.find(0, bind + 6, stop)) < 0:
            return None
        statement = self._statements.get(data[bind + 6 : end])
        entry = None if statement is None else statement.fast
        if entry is None or entry.generation != self.generation or bind_ends(data, end + 1, stop) != stop:
            return None
        at = stop
        described = data.startswith(_DESCRIBE_PORTAL, at)
        at += 7 if described else 0
        if not data.startswith(_EXECUTE, at) or len(data) < at + 15 or _INT32(data, at + 6)[0] < 0:
            return None
        if not data.startswith(_SYNC, at + 10):
            return None
        if entry.show is None and binary(data, end + 1):
            return None
        return (entry, described, not described and entry.exact, statement), at + 15

    def _pass(self, data: bytes, taken: list[tuple[Passed, int, int]]) -> bytes:
        now = time.time()
        at = 0
        out: list[bytes] = []
        for one, stop, after in taken:
            entry, _, injected, statement = one
            if statement is None:
                self._say(True, data[at + 5 : stop - 1], now)
            else:
                shown = values_shown(data, at, stop)
                self._say(True, entry.show(data[at + 5 : stop]) if shown is None else entry.text + shown, now)
                self.bound = True
            out += (data[at:stop], _DESCRIBE_PORTAL if injected else b"", data[stop:after])
            if not entry.count:
                self._counted.append(entry)
            entry.count += 1
            self.pending.append(one)
            at = after
        if self._recorded >= RECORD_BYTES:
            self._full()
        return data if not any(one[2] for one, _, _ in taken) else b"".join(out)

    # --- from the server

    def server(self, data: bytes) -> bytes | None:
        """What goes to the client for these bytes of the server's; None: they are not all whole answers as they are known."""
        if not data or not self.pending or (self._suspects is not None and self._suspects(data)):
            return None
        answers = []
        at = 0
        for one in self.pending:
            if at == len(data):
                break
            answer = self._answer(data, at, one)
            if answer is None:
                return None
            answers.append(answer)
            at = answer[0]
        if at != len(data):
            return None
        now = time.time()
        for _, shown, rows, status, _ in answers:
            self._say(False, shown, now)
            self.rows += rows
            self.status = status
            self.ended = self.ended or status == 0x49
        self.transactions += len(answers)
        self.bytes += len(data)
        self.last = self.pending[len(answers) - 1][0]
        del self.pending[: len(answers)]
        return b"".join(answer[4] for answer in answers)

    def _answer(self, data: bytes, at: int, one: Passed) -> tuple[int, bytes, int, int, bytes] | None:
        """One whole answer: where it ends, what the recording shows, its rows, the status, and what the client gets."""
        entry, asked, injected, statement = one
        extended, described = statement is not None, asked or injected
        start = at
        given = b""
        if extended:
            if not data.startswith(_BIND_COMPLETE, at):
                return None
            at += 5
        kind = data[at] if at + 5 <= len(data) else 0
        if kind in (_DESCRIPTION, _NO_DATA):
            stop = at + 1 + int(_INT32(data, at + 1)[0])
            if (extended and not described) or stop < at + 5 or stop > len(data) or (kind == _NO_DATA and not extended):
                return None
            if entry.exact and entry.description != (None if kind == _NO_DATA else data[at:stop]):
                return None
            if injected:
                given, start = data[start:at], stop
            at = stop
        elif (extended and described) or (not extended and entry.exact and entry.description is not None):
            return None
        shown: list[bytes] = []
        rows, left = 0, self._head
        while at + 5 <= len(data) and data[at] == _ROW:
            stop = at + 1 + int(_INT32(data, at + 1)[0])
            if stop < at + 7 or stop > len(data):
                return None
            if left:
                line = row_shown(data[at + 5 : stop])
                shown.append(line if len(line) <= left else line[:left] + CUT)
                left = max(0, left - len(line)) if len(line) <= left else 0
            rows += 1
            at = stop
        if at + 5 > len(data) or (stop := at + 1 + int(_INT32(data, at + 1)[0])) > len(data) or stop < at + 5:
            return None
        if data[at] == _COMPLETE and stop >= at + 6:
            shown.append(data[at + 5 : stop - 1])
        elif data[at] == _SUSPENDED and extended:
            shown.append(b"(suspended)")
        else:
            return None
        if not data.startswith(_READY, stop) or data[stop + 5 : stop + 6] not in (b"I", b"T"):
            return None
        after = stop + 6
        return after, b"".join(shown), rows, data[stop + 5], given + data[start:after]

    # --- what was passed

    def _say(self, client: bool, text: bytes, now: float) -> None:
        """Add one message to the record: a tnetstring list of whether the client said it, what, and when."""
        if not self.messages:
            self.first = now
        clock = b"%.6f" % now
        body = b"%b%d:%b,%d:%b^" % (b"4:true!" if client else b"5:false!", len(text), text, len(clock), clock)
        self._record.append(b"%d:%b]" % (len(body), body))
        self._recorded += len(body)
        self.messages += 1

    def take_record(self) -> tuple[bytes, int, float]:
        """The messages for the recording since the last time, as hopgate.flow_format writes them; how many; when the first was."""
        record, self._record, self._recorded = b"".join(self._record), [], 0
        count, self.messages = self.messages, 0
        return record, count, self.first

    def take_counts(self) -> list[tuple[Entry, int]]:
        """How often each statement has passed since the last time."""
        counted, self._counted = self._counted, []
        found = [(entry, entry.count) for entry in counted]
        for entry in counted:
            entry.count = 0
        return found

    def take_pending(self) -> list[Passed]:
        """What was passed and is not answered: from here on somebody else waits for it."""
        found, self.pending = self.pending, []
        return found


def _blanked(text: bytes, free: bytes) -> bytes:
    number = -1

    def blank(found: re.Match[bytes]) -> bytes:
        nonlocal number
        number += 1
        return b"\0" if number < len(free) and free[number] == 1 else found.group()

    return _RUN.sub(blank, text)


def row_shown(body: bytes) -> bytes:
    """The values of a row, tab between them; NULL as \\N, what is no text in hex."""
    found = []
    at, end = 2, len(body)
    while at + 4 <= end:
        length: int = _INT32(body, at)[0]
        at += 4
        if length < 0:
            found.append(b"\\N")
            continue
        found.append(readable(body[at : at + length]))
        at += length
    return b"\t".join(found) + b"\n"
