"""Short conversations with the target beside a session, each on a connection of its own."""

from __future__ import annotations

from relays.commands import SERVER, Close, Conversation, Send
from relays.postgres import codec, login
from relays.postgres.startup import CancelRequest
from relays.relay import Relay


class SideQuery(Relay):
    """Asks the target one query on a connection of its own, logged in as the session is. Its result is the body of the one row."""

    kind = "postgres"

    def __init__(self, sql: bytes, database: str) -> None:
        super().__init__()
        self._sql = sql
        self._database = database

    def conversation(self) -> Conversation[bytes]:
        target = yield from login.log_in(self, self._database, {})
        row = yield from login.one_row(target.wire, self._sql)
        yield Send(SERVER, codec.TERMINATE)
        return row


class Canceller(Relay):
    """Tells the target to stop what a session does, on a connection of its own (section 54.2.8)."""

    kind = "postgres"

    def __init__(self, request: CancelRequest) -> None:
        super().__init__()
        self._request = request

    def conversation(self) -> Conversation[None]:
        yield from login.connect(self)
        yield Send(SERVER, self._request.build())
        yield Close()
