"""COPY FROM STDIN: the data of a client, and what may be sent beside them (PostgreSQL documentation, section 54.2.6)."""

from __future__ import annotations

from relays.commands import SERVER, Commands, Send, Turn
from relays.postgres import codec
from relays.postgres.passing import Passing
from relays.wire import RemoteProtocolError


class CopyData(Passing):
    """The part of PostgresRelay that passes COPY data on."""

    def __init__(self) -> None:
        super().__init__()
        self._listens = False  # the client's strand waits for anything that the server says

    def _takes_copy(self) -> bool:
        """Whether CopyData goes on; else its COPY has ended, and it is dropped. Raises RemoteProtocolError where there was none."""
        replies = self.replies
        if replies.copy_over:
            return False
        if replies.copying == "in" or replies.copy_in is not None:
            return True
        raise RemoteProtocolError("COPY data without a COPY", "08P01")

    def _pass_copy(self, kind: int) -> bool | bytes:
        if not self._takes_copy():
            return b""
        if kind != 0x64:
            self.replies.copy_over = True
            self.replies.copy_ahead = self.replies.copying != "in"
        return True

    def _waits_for_copy(self, kind: int) -> bool:
        """Whether a message cannot be sent before it is known what the server makes of a COPY FROM STDIN. While it takes data, it ignores
        Sync, without an answer, and ends the connection for others: each message that is sent must have the answer that we wait for.
        """
        replies = self.replies
        reply = replies.copy_in
        if reply is None:
            return False
        if kind != 0x53:
            return True
        if replies.copy_over:  # a query may have another COPY behind this one
            return reply.kind != "E" or replies.queue[-1] is not reply
        return replies.copying != "in"

    def _await_copy(self, kind: int) -> Commands:
        """Wait for as long as a message has to. Raises RemoteProtocolError for one that has no place in COPY data."""
        flushed = False
        while self._waits_for_copy(kind):
            replies = self.replies
            if replies.copying == "in" and not replies.copy_over:
                raise RemoteProtocolError(f"a message {chr(kind)!r} has no place in COPY data", "08P01")
            if replies.unsynced and not flushed:
                flushed = True
                yield Send(SERVER, codec.FLUSH)  # the end of the COPY is told now
            yield from self._listen()

    def _listen(self) -> Commands:
        """Until the server has said something."""
        self._listens = True
        self._turn = turn = Turn()
        yield turn
        self._listens = False
