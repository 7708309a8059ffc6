"""What a PostgreSQL session has become, and whether what a client wants next may be: the judging half of the relay.

What a statement means depends on the session that it finds. After a statement that may have changed the session nothing is judged
until the server has said what it is now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hopgate.mask_key import mask_key
from relays.commands import CLIENT, SERVER, Commands, Conversation, ReadSql, Run, Send, Turn, Withdrawn, Work
from relays.postgres import catalog, codec, recorded, reports, state
from relays.postgres.beside import SideQuery
from relays.postgres.codec import HEADER
from relays.postgres.masks import Judged, SessionMasks
from relays.postgres.pending import FAILED, IDLE, Reply
from relays.postgres.replies import Replies
from relays.postgres.secrets_in_results import secrets_of
from relays.postgres.statements import INLINE, MAX_NAMES, Names, Reading, Readings, read, reading_of
from relays.relay import Relay
from relays.wire import RemoteProtocolError
from rules.model import Decision, Mask, Operation
from rules.sql.postgres import is_small
from rules.sql.session import SessionState

if TYPE_CHECKING:
    from hopgate.sessions import Session

# what stands in the place of a refused statement: it is no SQL, so the server refuses it before it looks at anything
REFUSED: Final = b"hopgate refused this statement"

CATALOG_SECONDS: Final = 60.0  # after which the server's catalogue is asked again: others change it, too
COPY_SECONDS: Final = 1.0  # for COPY TO, whose data say of no column where it comes from

NO_CHANGE: Final = 0
SENT: Final = 1  # a statement is under way after which the session may be another
ASKED: Final = 2  # the server has been asked what the session is now
UNKNOWN: Final = 3  # it cannot be asked before the failed transaction ends


class Refused(Exception):
    """A message may not go on. `report` is the ErrorResponse that the client gets for it, `masks` are those of the decision."""

    def __init__(self, report: bytes, masks: tuple[Mask, ...] = ()) -> None:
        super().__init__()
        self.report = report
        self.masks = masks


class Judging(Relay):
    """The state of a session, and every question about it."""

    kind = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.replies = Replies(self.names)
        self.readings = Readings()
        self.state = SessionState(prepared=self.names.prepared)
        self.masks = SessionMasks()
        self._change = NO_CHANGE
        self._transaction_changed = False  # by a statement whose effect ends with the transaction, or is undone by it
        self._defined = False  # the schema may have changed in this transaction
        self._catalog_at = 0.0
        self._turn: Turn | None = None  # the client's strand waits for the server
        self._early: tuple[Operation, Decision] | None = None
        self._passing: Reading | None = None  # the text that was looked at last, and needs thought
        self._refusals = recorded.Refusals()
        self._dropping = False  # what comes before the next Sync is not sent: the server would skip it

    # --- the session

    def _prepare_masks(self, session: Session) -> Conversation[None]:
        config = session.config
        if config.recordings.results != "full":
            self.replies.head.size(config.recordings.head_bytes if config.recordings.results == "head" else 0)
        secrets = secrets_of(session.literals)
        self.replies.secrets = secrets if secrets else None
        hash_key = yield Work(lambda: mask_key(config.state))
        self.masks = SessionMasks(secrets=session.literals, hash_key=hash_key, cursors=self.names.declared)

    def _account(self) -> None:
        """Tell the session what the client is about to be given. Raises RemoteProtocolError when that is beyond its limits."""
        session, replies = self.session, self.replies
        assert session is not None
        session.account(bytes=replies.bytes, rows=replies.rows)
        replies.bytes = replies.rows = 0
        if sentence := session.allowance.overdrawn:
            raise RemoteProtocolError(sentence, reports.LIMIT.decode())

    def _after_ready(self) -> Commands:
        """The server is ready: ask what the session has become, if the last statement may have changed it."""
        replies = self.replies
        if self._defined and replies.status == IDLE:
            self._defined = False
            self._forget_masks()
        if self._change == ASKED and not replies.queue:
            self._change = NO_CHANGE
            if replies.internal_failed:
                raise RemoteProtocolError("the target does not tell its session's state", "08P01")
            self.state = state.parse_state(replies.state_row, self.names.prepared)
            self._transaction_changed = self._transaction_changed and replies.status != IDLE
        elif self._change in (SENT, UNKNOWN) and not replies.queue and not self._midway():
            yield from self._ask_state()

    def _midway(self) -> bool:
        """Whether the server has been sent a part of a message whose rest the client has still to send."""
        return False

    def _ask_state(self) -> Commands:
        """Ask what the session has become. The server must have been sent whole messages only."""
        replies = self.replies
        if replies.status == FAILED:
            self._change = UNKNOWN
            self.state = _unknown(self.state)
        else:
            self._transaction_changed = replies.status != IDLE
            self._change = ASKED
            replies.state_row, replies.internal_failed = b"", False
            replies.sent_query(Reply("Q", replies.segment, internal=True))
            yield Send(SERVER, state.QUERY)

    def _forget_masks(self) -> None:
        """The schema may have changed."""
        self.masks.forget()

    @property
    def _settled(self) -> bool:
        return not self.replies.queue and self._change in (NO_CHANGE, UNKNOWN)

    def _parameter_changed(self, name: bytes, value: bytes) -> None:
        """A setting that the server reports has another value: some decide how the next statement is read."""
        if name == b"standard_conforming_strings":
            self.state = _replaced(self.state, standard_conforming_strings=value == b"on")
        elif name == b"client_encoding" and value != b"UTF8":
            self.state = _replaced(self.state, client_encoding=value.decode("ascii", "replace"))

    def _sent(self, reading: Reading) -> None:
        """A statement is about to run: what of it concerns the statements after it."""
        self.replies.copy_over = self.replies.copy_ahead = False
        if reading.changes or self._transaction_changed or self._change == UNKNOWN:
            self._change = SENT
        if reading.defines:
            self._forget_masks()
            self._defined = True
            self.names.epoch += 1
        if reading.declares or reading.defines:
            self.names.opens(reading)
        if reading.cursors:
            self.names.portals.clear()
            if reading.forgets_all:
                self.names.forget_all()
            for name in reading.declares:
                if len(self.names.cursors) < MAX_NAMES:
                    self.names.cursors.add(name.encode("utf-8", "surrogateescape"))
            for name in reading.forgets:
                self.names.forget(name.encode("utf-8", "surrogateescape"))

    # --- what names mean

    @property
    def _epoch(self) -> tuple[str, int]:
        return self.state.meaning, self.names.epoch

    def _may_run_late(self, reading: Reading) -> bool:
        """Whether FETCH might run a portal that has not run yet, whose names may mean something else than when it was judged."""
        late = self.names.late
        return reading.fetches and late is not None and late != self._epoch

    def _check_late(self, reading: Reading) -> None:
        """Raises Refused."""
        if self._may_run_late(reading):
            sentence = "names in a portal that has not run may mean something else by now: end the transaction before FETCH"
            raise Refused(reports.error(reports.UNSUPPORTED, sentence))

    # --- deciding

    def _read(self, sql: bytes) -> Conversation[Reading]:
        """What a text means in this session; read elsewhere when it is long."""
        here = self.state
        passing, self._passing = self._passing, None
        if passing is not None and passing.text == sql and passing.state is here:
            return passing
        known = self.readings.get(sql, here)
        if known is not None:
            return known
        if len(sql) <= INLINE and is_small(sql):
            reading = read(sql, here)
        else:
            reading = reading_of((yield ReadSql(sql, here)), sql, here)
        self.readings.keep(reading)
        found: Reading = reading
        return found

    def _decide_now(self, operation: Operation, known: Decision | None) -> Decision | None:
        """An allowing decision that needs no waiting and hides nothing, or None."""
        assert self.session is not None
        decision = self.session.authorize_now(operation, known)
        if decision is not None and decision.masks:
            self._early = operation, decision  # what is masked needs thought, but is not to be decided twice
            return None
        return decision

    def _decided_early(self, operation: Operation) -> bool:
        return self._early is not None and self._early[0] is operation

    def _decide(self, operation: Operation, known: Decision | None = None) -> Conversation[Decision]:
        """Raises Refused with what to tell the client."""
        early, self._early = self._early, None
        if early is not None and early[0] is operation:  # thought may have ended before it came here, for another operation
            return early[1]
        try:
            decision: Decision = yield from self.decide(operation, known)
        except Withdrawn:
            raise Refused(reports.error(reports.CANCELED, "canceling statement due to user request")) from None
        if not decision.allowed:
            raise Refused(reports.denied(decision), decision.masks)
        return decision

    def _check_masks(self, reading: Reading, decision: Decision) -> Conversation[Judged | None]:
        """What is masked of a statement's results; None when nothing is. Raises Refused where masks forbid the statement."""
        if not decision.masks:
            return None
        assert self.session is not None
        old = COPY_SECONDS if reading.copies_out else CATALOG_SECONDS
        if self.session.used_at - self._catalog_at > old:
            self._forget_masks()
        if self.masks.needs_catalog(decision.masks):
            self._catalog_at = self.session.used_at
            row = yield Run(SideQuery(catalog.QUERY.encode(), self.state.database))
            try:
                self.masks.learn(row, self.state)
            except catalog.BadCatalog as error:
                raise Refused(reports.error(reports.DENIED, str(error))) from None
        text, here = reading.text, self.state
        if reading.changes and reading.operation.parts:
            here = _replaced(here, schemas=None)  # statements behind one that changes the search path find other relations
        again = self.names.prepared.values() if reading.reuses else ()
        if len(text) <= INLINE and is_small(text) and all(len(one.text) <= INLINE for one in again):
            judged: Judged = self.masks.judge(text, decision.masks, here)
        else:
            judged = yield Work(lambda: self.masks.judge(text, decision.masks, here))
        if judged.refusal is not None:
            self.session.note("mask_refused", operation=decision.operation, message=judged.refusal)
            detail = f"rules: {', '.join(dict.fromkeys(mask.rule for mask in decision.masks))}; operation: {decision.operation}"
            raise Refused(reports.error(reports.DENIED, judged.refusal, detail=detail), decision.masks)
        return judged

    def _settle(self) -> Conversation[None]:
        """Wait until the session is known to be what the next statement will find. Raises Refused where that would be for ever."""
        if self._change == SENT and self.replies.unsynced:
            sentence = "what changes the session must be followed by Sync before the next statement"
            raise Refused(reports.error(reports.UNSUPPORTED, sentence))
        while self._change in (SENT, ASKED):
            if self._change == SENT and not self.replies.queue:  # it was ready in the middle of a message of the client's
                yield from self._ask_state()
                continue
            self._turn = turn = Turn()
            yield turn

    # --- refusing

    def _record_refused(self, refused: Refused) -> None:
        """The text of what is refused, and directly behind it what the client is told: that no client can forge."""
        self._refusals.tell(lambda text: self.record(CLIENT, text), self.masks.masking(refused.masks).plan)
        self.record(SERVER, recorded.refusal(codec.Report.parse(refused.report[HEADER:])))

    def _record_held(self, decision: Decision) -> None:
        """It is recorded again if it runs; if it does not, whatever ends it, its text is there."""
        self._refusals.tell(lambda text: self.record(CLIENT, text), self.masks.masking(decision.masks).plan)
        self.record(SERVER, f"HELD {decision.approval}: {decision.message}".encode())

    def _refuse_query(self, refused: Refused) -> Commands:
        """A simple query may not run."""
        replies, report = self.replies, refused.report
        self._record_refused(refused)
        if replies.skipping:
            return
        if replies.idle and replies.status in (IDLE, FAILED):
            yield Send(CLIENT, report + codec.ReadyForQuery(replies.status).build())
            return
        replies.sent_query(Reply("Q", replies.segment, error=report))
        yield Send(SERVER, codec.Query(REFUSED).build())

    def _refuse_extended(self, refused: Refused, name: bytes) -> Commands:
        """Put a Parse in place of the message that must fail. Of the unnamed statement it also forgets what it was, as any Parse does."""
        self._record_refused(refused)
        if self.replies.skipping:
            return  # the client has been told of an earlier error, which is the only one it gets before its Sync
        if not name:
            self.names.forget(b"")
        self.replies.sent(Reply("P", self.replies.segment, error=refused.report))
        self._dropping = True
        yield Send(SERVER, codec.Parse(name, REFUSED).build())


def _replaced(found: SessionState, **changes: Any) -> SessionState:
    return replace(found, **changes)


def _unknown(found: SessionState) -> SessionState:
    """The state inside of a failed transaction that had changed it."""
    return _replaced(found, schemas=None)
