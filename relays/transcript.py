"""What a relay says was said, on its way into the session's recording.

Messages are gathered and written as one mitmproxy TCPFlow: a record a statement would cost more than the statement.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from hopgate.errors import HopgateError
from hopgate.flow_format import TcpConnection, encode_tcp_flow
from relays.commands import CLIENT, Message, Side

if TYPE_CHECKING:
    from hopgate.sessions import Session

FLUSH_BYTES: Final = 64 << 10
FLUSH_SECONDS: Final = 0.5


class Transcript:
    """One session's messages since the last record. `add` is for the hot path; a failure to write ends the session."""

    def __init__(
        self, session: Session, connection: TcpConnection, failed: Callable[[str], None], metadata: Mapping[str, Any] | None = None
    ) -> None:
        """`metadata` is put into each record besides what all have."""
        self._session = session
        self._metadata = metadata or {}
        self.connection = connection
        self._failed = failed
        self._messages: list[tuple[bool, bytes, float]] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0

    def add(self, side: Side, text: bytes) -> None:
        """Remember one readable message; it is written within half a second, or with 64 KiB of others."""
        self._messages.append((side == CLIENT, text, time.time()))
        self._size += len(text)
        if self._size >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def extend(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.add(message.side, message.text)

    def flush(self) -> None:
        """Write what has been gathered. Raises nothing: `failed` is called, and ends the session."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        messages, self._messages, self._size = self._messages, [], 0
        if not messages:
            return
        self._number += 1
        try:
            self._session.recording.append(self._encoded(messages))
        except HopgateError as error:
            self._failed(error.message)

    def _encoded(self, messages: list[tuple[bool, bytes, float]]) -> bytes:
        session = self._session
        metadata = {
            "session": session.id,
            "connection": session.view.name,
            "principal": str(session.principal),
            "kind": session.view.kind,
            "segment": self._number,
            **self._metadata,
        }
        return encode_tcp_flow(
            self.connection,
            messages,
            flow_id=str(uuid.uuid4()),
            created=messages[0][2],
            metadata=metadata,
            comment=f"{session.principal} on {session.view.name}: segment {self._number}",
        )
