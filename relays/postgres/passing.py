"""Which statements of a session may take the fast path, and what has to be made up for when it is left.

A statement is learned once it has gone the usual way: read, decided, described and answered with nothing to hide. It counts for as long
as the rules, the session's state and what is known of the catalogue stay what they were; and each answer is compared with the
description that was judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relays.commands import CLIENT, SERVER, Commands, Outlets, Side
from relays.postgres import recorded
from relays.postgres.codec import Bind
from relays.postgres.extended import Extended
from relays.postgres.fast_path import Core, Entry
from relays.postgres.fast_path.core import LONGEST_TEXT, runs_of
from relays.postgres.judging import CATALOG_SECONDS, NO_CHANGE
from relays.postgres.masks import Judged
from relays.postgres.pending import FAILED, Reply
from relays.postgres.statements import Portal, Reading
from rules.model import Decision, Operation
from rules.sql.constants import free_runs, with_others
from rules.sql.postgres import facts_of, is_small

if TYPE_CHECKING:
    from hopgate.sessions.permit import Permit


@dataclass(frozen=True, slots=True)
class Learned:
    """A statement that may pass."""

    reading: Reading
    decision: Decision
    judged: Judged | None


class Passing(Extended):
    """The part of PostgresRelay that enters and leaves the fast path."""

    _told: list[bytes]
    _partial: bool

    def __init__(self) -> None:
        super().__init__()
        self._permit: Permit | None = None
        self._core: Core | None = None
        self._rules_version = ""  # that everything in the core was learned under
        self._meaning = ""  # of the session's state, likewise

    def _begin_fast_path(self) -> None:
        """The session is open and its state known."""
        assert self.session is not None
        secrets = self.replies.secrets
        head = self.replies.head.bytes
        self._core = Core(self.names.statements, self._renew, self._record_passed, None if secrets is None else secrets.found_in, head)
        self._permit = self.session.permit(self._passed)
        self.replies.learned = self._learn_reply
        self._rules_version, self._meaning = self.session.rules_version, self.state.meaning

    def faster(
        self, outlets: Outlets, legs: Mapping[Side, Callable[[bytes], None]], failed: Callable[[Exception], None]
    ) -> Mapping[Side, Callable[[bytes], None]]:
        if self._core is None or legs.keys() != {CLIENT, SERVER}:
            return {}
        self._core.stand_between(outlets, legs[CLIENT], legs[SERVER], failed)
        return {CLIENT: self._core.from_client, SERVER: self._core.from_server}

    def stop(self) -> Commands:
        if self._core is not None:
            self._core.open = False  # nothing passes any more
        yield from super().stop()

    # --- in and out

    def _enter_fast_path(self) -> None:
        """The server is ready, and everything before has been answered: from here on statements that are known may pass."""
        core, replies = self._core, self.replies
        if core is None or core.open or replies.queue or replies.unsynced or replies.skipping or replies.status == FAILED:
            return
        if self._change != NO_CHANGE or self._transaction_changed or self._defined or self._dropping or self.client_busy or self.over:
            return
        if self._told or self._partial or not replies.between or replies.partial:
            return
        if self.state.meaning != self._meaning:
            self._meaning = self.state.meaning
            core.forget()
        core.status = replies.status[0]
        core.open = True

    def _leave_fast_path(self) -> None:
        """Something came that is not known: the relay is to be what it would be, had all gone the usual way."""
        core, replies = self._core, self.replies
        if core is None or not core.open:
            return
        core.open = False
        passed, core.transactions = core.transactions, 0
        pending = core.take_pending()
        if not passed and not pending:
            return
        self._record_passed()
        replies.copy_over = False
        replies.segment += passed
        replies.status = bytes([core.status])
        if core.ended:
            core.ended = False
            self.names.end_transaction(replies.segment - 1)
        if core.bound:
            core.bound = False
            self.names.portals.pop(b"", None)
        self._account_passed()
        if core.last is not None and core.last.learned.judged is not None:
            replies.judged = core.last.learned.judged
        for entry, asked, injected, statement in pending:
            self._await(entry.learned, asked, injected, statement)

    def _await(self, learned: Learned, asked: bool, injected: bool, statement: Any) -> None:
        """Wait for the answer to what has passed as if it had been sent the usual way."""
        replies, reading, judged = self.replies, learned.reading, learned.judged
        operation = learned.decision.operation
        if judged is not None:
            replies.judged = judged
        if statement is None:
            replies.sent_query(Reply("Q", replies.segment, reading=reading, judged=judged, operation=operation))
            return
        portal = Portal(b"", statement, Bind(b"", statement.name), reading.operation, learned.decision, replies.segment)
        portal.judged, portal.executed = judged, True
        self.names.portals[b""] = portal
        replies.sent(Reply("B", replies.segment, entry=portal))
        if asked or injected:
            replies.sent(Reply("D", replies.segment, entry=portal, internal=injected))
        replies.head.begin()
        replies.sent(Reply("E", replies.segment, reading=reading, portal=portal, judged=judged, operation=operation))
        replies.sent_sync()

    # --- what the core asks

    def _renew(self) -> float:
        core, session = self._core, self.session
        assert core is not None
        if self._permit is None or session is None or self.over:
            return 0.0
        until = self._permit.renew()
        if session.rules_version != self._rules_version:
            self._rules_version = session.rules_version
            core.forget()
        if self.masks.catalog is not None and session.used_at - self._catalog_at > CATALOG_SECONDS:
            core.forget()
        return until

    def _record_passed(self) -> None:
        assert self._core is not None
        messages, count, first = self._core.take_record()
        if count:
            self.record_encoded(messages, first)

    def _account_passed(self) -> None:
        core, session = self._core, self.session
        assert core is not None
        assert session is not None
        session.account(bytes=core.bytes, rows=core.rows)
        core.bytes = core.rows = 0

    def _passed(self) -> Iterable[tuple[Operation, Decision, int]]:
        """For the session's permit: what has passed since the last time."""
        core = self._core
        if core is None:
            return ()
        core.until = 0.0
        self._record_passed()
        self._account_passed()
        return [(entry.learned.reading.operation, entry.learned.decision, count) for entry, count in core.take_counts()]

    # --- learning

    def _forget_masks(self) -> None:
        self.masks.forget()
        if self._core is not None:
            self._core.forget()

    def _learn_reply(self, reply: Reply) -> None:
        """A statement has been answered as a whole: next time it may pass, if it is one that may."""
        reading, session, core = reply.reading, self.session, self._core
        if core is None or session is None or reading is None or not _repeats(reading) or reading.state.meaning != self.state.meaning:
            return
        decision = reading.known
        if decision is None or not decision.allowed or decision.approval or decision.version != session.rules_version:
            return
        if self._rules_version != session.rules_version or self._meaning != self.state.meaning:
            return  # nothing that is learned now would be found again
        if bool(decision.masks) != (reply.judged is not None) or (reply.judged is not None and reply.judged.masking.by_form):
            return  # detectors and paths have to see every value
        if reply.judged is not None and reply.judged.masking is not self.masks.masking(decision.masks):
            return  # it was masked by the rules of its Bind; these have changed since
        if reply.kind == "Q":
            self._learn_query(core, reply, Learned(reading, decision, reply.judged))
        elif reply.portal is not None:
            self._learn_statement(core, reply.portal, Learned(reading, decision, reply.judged))

    def _learn_query(self, core: Core, reply: Reply, learned: Learned) -> None:
        text = learned.reading.text
        if not reply.plain or reply.index != 1 or len(text) >= LONGEST_TEXT or not is_small(text):
            return
        core.learn(text, self._free(learned), Entry(learned, b"", reply.description, learned.judged is not None))

    def _learn_statement(self, core: Core, portal: Portal, learned: Learned) -> None:
        statement = portal.statement
        if not statement.confirmed or self.names.statements.get(statement.name) is not statement or portal.name:
            return
        if statement.fast is not None and statement.fast.generation == core.generation:
            return
        if learned.judged is not None and portal.columns is not None and learned.judged.rows(0, portal.columns) is not None:
            return
        text = learned.reading.text

        def shown(body: bytes) -> bytes:
            return recorded.statement(text, Bind.parse(body), statement.types)

        statement.fast = core.admit(Entry(learned, text, portal.description, learned.judged is not None, shown))

    def _free(self, learned: Learned) -> bytes:
        """Which runs of digits of a text may be others: those that nothing depends on, seen by trying others."""
        reading = learned.reading
        text = reading.text
        runs = runs_of(text)
        free = free_runs(text, runs)
        if 1 not in free:
            return free
        other = with_others(text, runs, free)
        same = [one.as_dict() for one in facts_of(other, reading.state)] == [one.as_dict() for one in facts_of(text, reading.state)]
        if same and learned.judged is not None:
            judged = self.masks.judge(other, learned.decision.masks, reading.state)
            same = judged.refusal is None and judged.lineages == learned.judged.lineages
        return free if same else bytes(len(free))


_REPEATING: Final = frozenset({"select", "show", "begin", "commit", "rollback"})


def _repeats(reading: Reading) -> bool:
    """Whether a statement means the same each time, and leaves nothing behind that later ones depend on. (What FETCH and EXECUTE mean
    depends on what was declared and prepared.)
    """
    operation = reading.operation
    if operation.parts or operation.writes or not operation.complete or not _REPEATING.issuperset(operation.facts.get("verbs")):
        return False
    return not (reading.changes or reading.copies_in or reading.reuses or reading.cursors or reading.defines)
