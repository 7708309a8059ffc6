"""What the target still has to answer: one ordered queue, and the rules by which it skips."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from relays.postgres.copying import CopyMasker
from relays.postgres.masked_rows import RowMasker
from relays.postgres.masks import Judged
from relays.postgres.statements import Names, Portal, Reading, Statement
from relays.wire import RemoteProtocolError

IDLE: Final = b"I"
IN_TRANSACTION: Final = b"T"
FAILED: Final = b"E"


class Reply:
    """The answer that one forwarded message will have. `kind` is that message's type: Q, P, B, D, E, C or S."""

    # defaults of the class, not of each instance: most replies need few of them, and four are made for each transaction
    reading: Reading | None = None
    entry: Statement | Portal | None = None  # what is made, or described
    portal: Portal | None = None  # what is executed
    error = b""  # of a message that was put in place of a refused one: what its ErrorResponse becomes
    internal = False  # asked by the gateway: the client sees nothing of it
    judged: Judged | None = None  # what is masked in the answer; None: nothing
    operation = ""  # its id in the ledger
    openings = 0  # Names.openings when it had been sent
    failed = False
    index = 0  # which statement of a simple query is being answered
    ready = False  # `masker` is what it must be for the result that comes
    masker: RowMasker | None = None
    description: bytes | None = None  # the RowDescription that came, of a simple query
    plain = True  # nothing of what came had to be hidden
    copy_masker: CopyMasker | None = None

    def __init__(self, kind: str, segment: int, **more: Any) -> None:
        self.kind = kind
        self.segment = segment
        if more:
            self.__dict__.update(more)


class Pending:
    """The replies that are still to come, in order, and what the last ones left behind."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.queue: deque[Reply] = deque()
        self.status = IDLE  # of the last ReadyForQuery
        self.segment = 0  # counts Query and Sync messages sent
        self.unsynced = False  # extended messages were sent since the last of them
        self.skipping = False  # the target ignores what comes before the next Sync
        self._pieces: list[bytes] = []  # of a message that has not come whole
        self._have = self._need = 0
        self._skip = 0  # bytes of a message that is forwarded before it has come whole
        self.learned: Callable[[Reply], None] | None = None  # a statement was answered as a whole
        self.counted: Callable[[str, Mapping[str, int]], None] | None = None  # values were hidden in the answer to an operation

    @property
    def between(self) -> bool:
        """The client has been sent whole messages only: another one may be put in."""
        return not self._skip

    @property
    def partial(self) -> bool:
        """A message of the target's has not come whole."""
        return bool(self._skip or self._need or self._pieces)

    @property
    def idle(self) -> bool:
        """Nothing is unanswered, and nothing waits for a Sync."""
        return not self.queue and not self.unsynced and not self.skipping

    @property
    def copy_in(self) -> Reply | None:
        """The statement sent last, where it takes COPY data and is not answered to its end. Behind it is one Sync at most."""
        if not self.queue:
            return None
        last = self.queue[-1]
        if last.kind == "S" and len(self.queue) > 1:
            last = self.queue[-2]
        return last if last.reading is not None and last.reading.copies_in else None

    # --- what was sent

    def sent_query(self, reply: Reply) -> None:
        self.segment += 1
        self.unsynced = False
        self.queue.append(reply)

    def sent(self, reply: Reply) -> None:
        self.unsynced = True
        self.queue.append(reply)

    def sent_sync(self) -> None:
        self.queue.append(Reply("S", self.segment))
        self.segment += 1
        self.unsynced = self.skipping = False

    # --- what was answered

    def _front(self, kinds: str, what: str) -> Reply:
        if not self.queue or self.queue[0].kind not in kinds:
            raise RemoteProtocolError(f"the target sends {what} that nobody asked for")
        return self.queue[0]

    def _skip_to_sync(self) -> None:
        """After an error the target ignores everything up to the next Sync: none of it was made."""
        while self.queue and self.queue[0].kind != "S":
            dropped = self.queue.popleft()
            if dropped.entry is not None and dropped.kind in "PB":
                self.names.drop(dropped.entry)
        if not self.queue:
            self.skipping = True

    def _learn(self, reply: Reply, reading: Reading) -> None:
        """A statement has succeeded that may have given names: to prepared statements, or to cursors."""
        for name in reading.prepares:
            self.names.prepare(name, reading)
        if reading.declares and reply.judged is not None:
            self.names.declare(reading, reply.judged, reply.openings)

    def _end_masks(self, reply: Reply) -> None:
        """A result is over: tell how many values of it were hidden."""
        if reply.masker is None and reply.copy_masker is None:
            return
        for masker in (reply.masker, reply.copy_masker):
            if masker is not None and self.counted is not None and masker.counts:
                self.counted(reply.operation, masker.counts)
        reply.masker = reply.copy_masker = None
