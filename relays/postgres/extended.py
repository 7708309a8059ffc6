"""The extended query protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync (PostgreSQL documentation, section 54.2.3).

A statement is looked at when it is prepared, where only what would be denied with any values is refused, and is decided when it is
bound: then its values are known, and it may be held. Execute is decided again when the rules have changed since.
"""

from __future__ import annotations

from typing import Any

from relays.commands import CLIENT, SERVER, Commands, Conversation, Send, Turn
from relays.postgres import codec, params, recorded, reports
from relays.postgres.codec import HEADER
from relays.postgres.judging import Judging, Refused
from relays.postgres.pending import Reply
from relays.postgres.statements import INLINE, MAX_NAMES, Portal, Reading, Statement, bound, read
from relays.wire import RemoteProtocolError
from rules.sql.postgres import is_small

_KINDS = _P, _B, _D, _E, _C = b"PBDEC"


class Extended(Judging):
    """The part of PostgresRelay that speaks the extended protocol."""

    def _pass_extended(self, kind: int, data: bytes, at: int, stop: int) -> bool | bytes | None:
        """As `PostgresRelay._pass`, for the messages of this protocol."""
        body = data[at + HEADER : stop]
        if kind == _B:
            return self._pass_bind(body)
        if kind == _E:
            return self._pass_execute(body)
        if kind == _P:
            return self._pass_parse(body)
        if kind == _D:
            return self._pass_describe(body)
        if kind == _C:
            return self._pass_close(body)
        return None

    def _think_extended(self, kind: int, raw: bytes) -> Commands:
        """As `PostgresRelay._think`."""
        if kind not in _KINDS:
            raise RemoteProtocolError(f"a message {chr(kind)!r} has no place here", "08P01")
        body = raw[HEADER:]
        self._refusals.judging(self._text_of(kind, body))
        yield from self._settle()
        if kind == _P:
            yield from self._think_parse(raw, codec.Parse.parse(body))
        elif kind == _B:
            yield from self._think_bind(raw, codec.Bind.parse(body))
        elif kind == _E:
            yield from self._think_execute(raw, codec.Execute.parse(body))
        else:
            if kind == _D:
                what, name = _parts(codec.Describe.parse(body))
                if what == b"S" or name not in self.names.cursors:
                    yield from self._known(what, name)
            if not self.replies.skipping:
                verdict = self._pass_extended(kind, raw, 0, len(raw))
                assert verdict, "what was waited for is there"
                yield Send(SERVER, raw)

    def _text_of(self, kind: int, body: bytes) -> bytes:
        """What is run by a message, or would be, for the recording."""
        if kind == _P:
            return codec.Parse.parse(body).sql
        if kind == _B:
            bind = codec.Bind.parse(body)
            statement = self.names.statements.get(bind.statement)
            return b"" if statement is None else recorded.statement(statement.reading.text, bind, statement.types)
        if kind == _E:
            portal = self.names.portals.get(codec.Execute.parse(body).portal)
            return b"" if portal is None else recorded.statement(portal.statement.reading.text, portal.bind, portal.statement.types)
        return b""

    def _pass_sync(self) -> bool | bytes:
        if self.replies.copying == "in" and not self.replies.copy_over:
            return b""  # the target ignores it (section 54.2.6)
        self.replies.sent_sync()
        return True

    # --- names

    def _usable(self, one: Statement | Portal) -> bool:
        return one.confirmed or one.segment == self.replies.segment

    def _named(self, what: bytes, name: bytes) -> Statement | Portal | None:
        # the tables are looked up each time: what is waited for may replace them
        return self.names.statements.get(name) if what == b"S" else self.names.portals.get(name)

    def _certain(self, what: bytes, name: bytes) -> Conversation[Statement | Portal | None]:
        """The statement (S) or portal (P) of that name, once it is certain which it is, and whether it is."""
        while (one := self._named(what, name)) is not None and not self._usable(one):
            # made by a message before the last Sync, and not confirmed: until it is, the name may be another's
            if self.replies.unsynced:
                yield Send(SERVER, codec.FLUSH)
            self._turn = turn = Turn()
            yield turn
        return one

    def _known(self, what: bytes, name: bytes) -> Conversation[Statement | Portal]:
        """As `_certain`. Raises Refused where we know none."""
        one: Statement | Portal | None = yield from self._certain(what, name)
        if one is None:
            shown = name.decode("utf-8", "replace")
            if what == b"S":
                raise Refused(reports.error(reports.NO_STATEMENT, f'prepared statement "{shown}" does not exist'))
            raise Refused(reports.error(reports.NO_PORTAL, f'portal "{shown}" does not exist'))
        return one

    # --- Parse

    def _pass_parse(self, body: bytes) -> bool | None:
        message = codec.Parse.parse(body)
        if message.name and message.name in self.names.statements:
            return None
        reading = self.readings.get(message.sql, self.state)
        if reading is None:
            if len(message.sql) > INLINE or not is_small(message.sql):
                return None
            reading = read(message.sql, self.state)
            self.readings.keep(reading)
        if not self._may_be_prepared(reading):
            return None
        self._sent_parse(message, reading)
        return True

    def _may_be_prepared(self, reading: Reading) -> bool:
        assert self.session is not None
        known = reading.known
        if known is not None and known.version == self.session.rules_version and known.allowed:
            return True
        decision = self.session.foresee(reading.operation)
        if decision.allowed:
            reading.known = decision
        # where rules could not know the values, Bind decides; what is held is held there, with its values on the card
        return decision.effect != "deny" or (reading.has_params and bool(decision.unknown))

    def _think_parse(self, raw: bytes, message: codec.Parse) -> Commands:
        if message.name and (yield from self._certain(b"S", message.name)) is not None:
            # not left to the server: where code has taken the name away unseen, it would run this text for the one that is known
            shown = message.name.decode("utf-8", "replace")
            raise Refused(reports.error(reports.DUPLICATE_STATEMENT, f'prepared statement "{shown}" already exists'))
        reading = yield from self._read(message.sql)
        if not self._may_be_prepared(reading):
            try:
                yield from self._decide(reading.operation)
            except Refused as refused:
                yield from self._refuse_extended(refused, message.name)
                return
        if not self.replies.skipping:
            self._sent_parse(message, reading)
            yield Send(SERVER, raw)

    def _sent_parse(self, message: codec.Parse, reading: Reading) -> None:
        replies, names = self.replies, self.names
        statement = Statement(message.name, reading, message.types, replies.segment)
        if len(names.statements) >= MAX_NAMES:
            raise RemoteProtocolError("too many prepared statements in one session", "54000")
        names.statements.pop(message.name, None)
        names.check_room(len(message.sql))
        names.statements[message.name] = statement
        names.epoch += bool(message.name)
        replies.sent(Reply("P", replies.segment, entry=statement))

    # --- Bind

    def _pass_bind(self, body: bytes) -> bool | None:
        message = codec.Bind.parse(body)
        statement = self.names.statements.get(message.statement)
        if statement is None or not self._usable(statement):
            return None
        reading = statement.reading
        if reading.state is not self.state and reading.state.meaning != self.state.meaning:
            return None
        if reading.reuses or (reading.has_params and reading.known is None) or self._may_run_late(reading):
            return None
        decision = self._decide_now(reading.operation, reading.known)
        if decision is None:
            return None
        reading.known = decision
        self._sent_bind(message, statement, reading.operation, decision)
        return True

    def _think_bind(self, raw: bytes, message: codec.Bind) -> Commands:
        statement = yield from self._known(b"S", message.statement)
        assert isinstance(statement, Statement)
        reading = statement.reading
        if reading.state.meaning != self.state.meaning or reading.reuses:
            # names in it may mean other things now: read again, and keep what the client has prepared
            reading = statement.reading = yield from self._read(reading.text)
        operation = reading.operation
        if not self._decided_early(operation):  # what may run whatever its values are is not decided again with them
            if reading.known is None and message.values:
                yield from self._learn_types(statement)
                if self.replies.skipping:
                    return
            if reading.has_params or message.values:
                types = statement.types
                utf8 = self.state.client_encoding.upper() == "UTF8"
                operation = bound(reading, params.decode(message, types, utf8=utf8), raw, lambda: recorded.values(message, types))
        decision = yield from self._decide(operation)
        judged = yield from self._check_masks(reading, decision)
        self._check_late(reading)
        if self.replies.skipping:
            return  # an earlier message has failed meanwhile: the server would ignore it
        portal = self._sent_bind(message, statement, operation, decision)
        portal.judged = judged
        yield Send(SERVER, raw)
        if judged is not None:
            # rows without a description cannot be masked, and the client need not ask for one
            self.replies.sent(Reply("D", self.replies.segment, entry=portal, internal=True))
            yield Send(SERVER, codec.Describe(b"P", message.portal).build())

    def _learn_types(self, statement: Statement) -> Conversation[None]:
        """Ask the server for the types of the parameters that the client has left to it: rules compare values, not their spelling."""
        if statement.described or (statement.types and all(statement.types)):
            return
        self.replies.sent(Reply("D", self.replies.segment, entry=statement, internal=True))
        yield Send(SERVER, codec.Describe(b"S", statement.name).build() + codec.FLUSH)
        self._turn = turn = Turn()
        yield turn

    def _sent_bind(self, message: codec.Bind, statement: Statement, operation: Any, decision: Any) -> Portal:
        replies, names = self.replies, self.names
        portal = Portal(message.portal, statement, message, operation, decision, replies.segment, self._epoch)
        # One of that name may be gone at the server, with a transaction or a savepoint, before we hear of it. Where it is not, the server
        # refuses this one and skips what follows: whatever runs under the name from here on is this portal.
        if len(names.portals) >= MAX_NAMES:
            raise RemoteProtocolError("too many portals in one session", "54000")
        names.portals.pop(message.portal, None)
        names.check_room(sum(len(value) for value in message.values if value is not None))
        if message.portal:
            names.opens_portal(message.portal, statement.reading)
            if statement.reading.late:
                names.late, names.late_segment = names.late or portal.epoch, replies.segment
        names.portals[message.portal] = portal
        replies.sent(Reply("B", replies.segment, entry=portal))
        return portal

    # --- Execute, Describe, Close

    def _as_judged(self, portal: Portal) -> bool:
        """Whether a portal runs what it was judged by. What Bind plans is settled there; a utility statement looks names up as it runs."""
        return portal.executed or not portal.statement.reading.late or portal.epoch == self._epoch

    def _pass_execute(self, body: bytes) -> bool | None:
        end = body.find(0)
        if end + 5 != len(body):
            codec.Execute.parse(body)  # says what is wrong
        portal = self.names.portals.get(body[:end])
        if portal is None or not self._usable(portal):
            return None
        assert self.session is not None
        if portal.decision.version != self.session.rules_version or not self._as_judged(portal):
            return None
        self._sent_execute(portal)
        return True

    def _think_execute(self, raw: bytes, message: codec.Execute) -> Commands:
        portal = yield from self._known(b"P", message.portal)
        assert isinstance(portal, Portal)
        assert self.session is not None
        if not self._as_judged(portal):
            raise Refused(
                reports.error(reports.UNSUPPORTED, "names in this portal may mean something else by now: bind the statement again")
            )
        if portal.decision.version != self.session.rules_version:
            portal.decision = yield from self._decide(portal.operation)
            judged = yield from self._check_masks(portal.statement.reading, portal.decision)
            if judged is not None and portal.judged is None:
                raise Refused(reports.error(reports.DENIED, "columns are masked now: bind the statement again"))
            portal.judged = judged
        if not self.replies.skipping:
            self._sent_execute(portal)
            yield Send(SERVER, raw)

    def _sent_execute(self, portal: Portal) -> None:
        reading = portal.statement.reading
        if not portal.executed:
            portal.executed = True
            text = recorded.statement(reading.text, portal.bind, portal.statement.types)
            self.record(CLIENT, text if portal.judged is None else portal.judged.shown(text))
            self._sent(reading)
            if reading.cursors:
                # the portal that runs stays
                self.names.portals[portal.name] = portal
        self.replies.head.begin()
        judged, operation = portal.judged, portal.decision.operation
        if judged is not None:
            self.replies.judged = judged
        reply = Reply("E", self.replies.segment, reading=reading, portal=portal, judged=judged, operation=operation)
        if reading.declares:
            reply.openings = self.names.openings
        self.replies.sent(reply)

    def _pass_describe(self, body: bytes) -> bool | None:
        what, name = body[:1], body[1:-1]
        if what not in (b"S", b"P") or body.find(0) != len(body) - 1:
            codec.Describe.parse(body)  # says what is wrong
        table: dict[bytes, Any] = self.names.statements if what == b"S" else self.names.portals
        one = table.get(name)
        if one is None and what == b"P" and name in self.names.cursors:
            self.replies.sent(Reply("D", self.replies.segment))
            return True
        if one is None or not self._usable(one):
            return None
        self.replies.sent(Reply("D", self.replies.segment, entry=one))
        return True

    def _pass_close(self, body: bytes) -> bool:
        message = codec.CloseTarget.parse(body)
        if message.what == b"S":
            self.names.forget(message.name)
        else:
            self.names.portals.pop(message.name, None)
        self.replies.sent(Reply("C", self.replies.segment))
        return True


def _parts(message: codec.Describe) -> tuple[bytes, bytes]:
    return message.what, message.name
