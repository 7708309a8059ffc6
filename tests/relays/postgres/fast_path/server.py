"""A server that knows as much of PostgreSQL as a conversation needs: transactions, names, errors that skip to the next Sync."""

from __future__ import annotations

from relays.postgres import codec, state
from tests.relays.postgres.harness import STATE_ANSWER

DESCRIPTION = codec.RowDescription((codec.Column(b"a"),)).build()
ROW = codec.DataRow((b"1",)).build()
DONE = codec.CommandComplete(b"SELECT 1").build()
ERROR = codec.report(b"ERROR", b"22012", "division by zero").build()


class Server:
    """`answer` gives what comes back for bytes that a relay sent."""

    def __init__(self) -> None:
        self.status = b"I"
        self.statements: set[bytes] = set()
        self.portals: set[bytes] = set()
        self.skipping = False

    def answer(self, data: bytes) -> bytes:
        return b"".join(self._one(chr(kind), body) for kind, body in codec.split(data, codec.FRONTEND_LIMITS))

    def _one(self, kind: str, body: bytes) -> bytes:
        if kind == "Q":
            return self._query(body[:-1])
        if kind == "S":
            self.skipping = False
            if self.status == b"I":
                self.portals.clear()
            return codec.ReadyForQuery(self.status).build()
        if self.skipping or kind in "HX":
            return b""
        found = self._extended(kind, body)
        if found == ERROR:
            self.skipping = True
            self._failed()
        return found

    def _query(self, text: bytes) -> bytes:
        self.skipping = False
        self.statements.discard(b"")
        self.portals.discard(b"")
        ready = codec.ReadyForQuery(self.status).build
        if text == state.SQL:
            return STATE_ANSWER + codec.ReadyForQuery(self.status).build()
        if text in (b"COMMIT", b"ROLLBACK"):
            self.status = b"I"
            self.portals.clear()
            return codec.CommandComplete(text).build() + codec.ReadyForQuery(b"I").build()
        if self.status == b"E" or not text.startswith((b"SELECT", b"BEGIN")) or b"/" in text:
            self._failed()
            return ERROR + codec.ReadyForQuery(self.status).build()
        if text == b"BEGIN":
            self.status = b"T"
            return codec.CommandComplete(text).build() + codec.ReadyForQuery(b"T").build()
        return DESCRIPTION + ROW + DONE + ready()

    def _failed(self) -> None:
        self.status = b"I" if self.status == b"I" else b"E"

    def _extended(self, kind: str, body: bytes) -> bytes:
        if self.status == b"E":
            return ERROR
        if kind == "P":
            parse = codec.Parse.parse(body)
            if (parse.name and parse.name in self.statements) or not parse.sql.startswith(b"SELECT") or b"/" in parse.sql:
                return ERROR
            self.statements.add(parse.name)
            return codec.PARSE_COMPLETE
        if kind == "B":
            bind = codec.Bind.parse(body)
            if bind.statement not in self.statements or (bind.portal and bind.portal in self.portals):
                return ERROR
            self.portals.add(bind.portal)
            return codec.BIND_COMPLETE
        if kind == "C":
            close = codec.CloseTarget.parse(body)
            (self.statements if close.what == b"S" else self.portals).discard(close.name)
            return codec.CLOSE_COMPLETE
        if kind == "D":
            describe = codec.Describe.parse(body)
            if describe.what == b"S":
                if describe.name not in self.statements:
                    return ERROR
                return codec.ParameterDescription((23,)).build() + DESCRIPTION
            return DESCRIPTION if describe.name in self.portals else ERROR
        return ROW + DONE if codec.Execute.parse(body).portal in self.portals else ERROR
