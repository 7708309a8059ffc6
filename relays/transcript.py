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
from hopgate.flow_format import TcpConnection, decode_tcp_messages, encode_tcp_flow, encode_tcp_message
from relays.commands import CLIENT, Message, Side
from rules.masking import compile_plan
from rules.masking.literals import Literals, literals_of

if TYPE_CHECKING:
    from hopgate.sessions import Session

FLUSH_BYTES: Final = 128 << 10
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
        self._messages: list[bytes] = []
        self._first = 0.0  # when the first of them was
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._secrets: Literals | None = None  # known once the credential has been leased

    def add(self, side: Side, text: bytes) -> None:
        """Remember one readable message; it is written within half a second, or with 128 KiB of others."""
        now = time.time()
        self.add_encoded(encode_tcp_message(side == CLIENT, text, now), now)

    def add_encoded(self, messages: bytes, first: float) -> None:
        """Remember messages as hopgate.flow_format writes them; `first` is when the first of them was, in seconds since the epoch."""
        if not self._messages:
            self._first = first
        self._messages.append(messages)
        self._size += len(messages)
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
            self._session.recording.append(self._encoded(self._without_secrets(messages)))
        except HopgateError as error:
            self._failed(error.message)

    def _without_secrets(self, messages: list[bytes]) -> list[bytes]:
        """The credentials that the gateway adds: somebody who has one from elsewhere may say it."""
        if self._secrets is None and self._session.literals:
            self._secrets = literals_of(self._session.literals)
            self._plan = compile_plan((), secrets=self._session.literals)
        if self._secrets is None or not any(self._secrets.found_in(some) for some in messages):
            return messages
        return [
            encode_tcp_message(from_client, self._plan.text(text).data, at)
            for some in messages
            for from_client, text, at in decode_tcp_messages(some)
        ]

    def _encoded(self, messages: list[bytes]) -> bytes:
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
            created=self._first,
            metadata=metadata,
            comment=f"{session.principal} on {session.view.name}: segment {self._number}",
        )
