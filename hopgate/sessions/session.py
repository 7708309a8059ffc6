"""A principal's use of a connection: open -> authorize(operation) -> close. The only caller of `rules.decide`.

Whatever goes wrong in here ends in a decision that denies: an adapter that gets anything but `allow` sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hopgate.errors import Denied, Expired, HopgateError, Unavailable
from hopgate.grants import SessionGrant, grant_session
from hopgate.sessions.limits import Allowance
from hopgate.sessions.peers import REDECIDE, Peers
from hopgate.sessions.permit import Passed, Permit
from hopgate.sessions.told import card_facts, decision_fields, refusal_of, session_row
from hopgate.store import SessionRow
from rules.decide import decide
from rules.explain import explain
from rules.model import Decision, Exact, Limits, Operation, Principal

if TYPE_CHECKING:
    from hopgate.config import Config, ConnectionConfig
    from hopgate.recordings import Recording
    from hopgate.sessions.live import Sessions
    from hopgate.store import Approval

CLOCK_SKEW = 30.0  # seconds that a token lives past its `exp`, the leeway of hopgate.identity

_log = logging.getLogger("hopgate.sessions")

judge = decide  # for `hopgate explain`, which decides offline


class Session:
    """One principal on one connection. Only `Sessions` makes these, after an allowed `session` operation."""

    def __init__(self, sessions: Sessions, principal: Principal, connection: ConnectionConfig, peer: str) -> None:
        self.id = f"s{int(sessions.clock() * 1000):011x}{secrets.token_hex(6)}"  # sorts by time; no counter to guess
        self.principal = principal
        self.connection = connection
        self.view = connection.rule_view
        self.peer = peer
        self.closed = ""  # why, once it is
        self.on_close: set[Callable[[str], None]] = set()  # an adapter's transports, dropped when the session is killed
        self.literals: tuple[bytes, ...] = ()  # injected secrets; never written anywhere
        self.opened_at = self.used_at = sessions.clock()
        self.allowance = Allowance(Limits(), sessions.monotonic)
        self._sessions = sessions
        self._rules = sessions.rules.current
        self._decided_at = self.opened_at
        self.peers = Peers(peer, sessions)
        self._operations = self._denied = self._held = 0
        self._saved = (0, 0.0)  # operations that the store knows of, and since when
        self.busy = 0  # operations being decided or waiting for a reviewer
        self._grant: SessionGrant | None = None
        self._recording: Recording | None = None
        self._permit: Permit | None = None

    @property
    def grant(self) -> SessionGrant:
        """The proof that this principal may reach this connection; the dialler and the credential store accept nothing else."""
        if self._grant is None or self.closed:
            raise Denied("the session is not open", session=self.id)
        return self._grant

    @property
    def recording(self) -> Recording:
        if self._recording is None:
            raise Unavailable("the session has no recording")
        return self._recording

    @property
    def config(self) -> Config:
        """Of the gateway."""
        return self._sessions.config

    # --- deciding

    async def authorize(
        self,
        operation: Operation,
        *,
        wait: float | None = None,
        outlives: bool = False,
        held: Callable[[Decision], None] | None = None,
        known: Decision | None = None,
    ) -> Decision:
        """Decide `operation`, waiting for reviewers where a rule holds it, and write the ledger.

        `wait` bounds the wait in seconds (None: until the approval's own deadline); what is undecided by then comes back as `hold`.
        `held` is told once reviewers have been asked, with the approval's id: a caller wants to know what it waits for. With `outlives`
        a pending approval stays when the caller goes away, and is spent by the repeated operation. `known` is as for `authorize_now`.
        Only `decision.allowed` permits anything. Raises CancelledError, nothing else.
        """
        self._settle()
        name = self.number(1)
        self.used_at = self._sessions.clock()
        self.busy += 1
        try:
            decision = self._decide(operation, known)
            if decision.effect == "hold":
                decision = await self._hold(operation, name, decision, wait, outlives, held)
            decision = decision.of(name)
            seq = self._write("decided", operation, decision)
            if operation.writes or decision.approval or decision.effect != "allow":
                await self._sessions.ledger.durable(seq)
        except asyncio.CancelledError:
            with contextlib.suppress(HopgateError):
                self._write("withdrawn", operation, Decision("deny", message="the caller went away", operation=name))
            raise
        except Exception as error:
            return await self._failed(operation, name, error)
        finally:
            self.busy -= 1
        self._sessions.metrics.decided(operation.kind, decision.effect)
        return decision

    def authorize_now(self, operation: Operation, known: Decision | None = None) -> Decision | None:
        """Decide without waiting; None means: call `authorize`. For adapters whose hot path cannot afford a task.

        Gives `allow` for an operation that writes nothing, after its ledger line is on the way, and nothing else. `known` is what this
        session decided for the very same operation before; it counts only while the rules that it was made with are in force.
        """
        if operation.writes:
            return None
        self.used_at = self._sessions.clock()
        try:
            decision = self._decide(operation, known)
            if decision.effect != "allow" or decision.approval:
                self.allowance.give_back()
                return None
            self._settle()
            decision = decision.of(self.number(1))
            self._write("decided", operation, decision)
        except Exception:
            return None  # `authorize` meets the same error, and tells it
        self._sessions.metrics.decided(operation.kind, "allow")
        return decision

    def permit(self, report: Callable[[], Iterable[Passed]]) -> Permit:
        """Leave for one adapter to pass what was decided before; `report` tells what has passed."""
        self._permit = permit = Permit(self, self._sessions, report)
        return permit

    def stands(self) -> bool:
        """Whether what was decided before may go on without being asked for one by one. Raises what `authorize` would tell."""
        self.used_at = self._sessions.clock()
        self._check()
        return self.allowance.unlimited and not self._rules.depends_on_time_or_peer

    def number(self, count: int) -> str:
        """Count `count` operations; the id of the first."""
        first = self._operations + 1
        self._operations += count
        return f"{self.id}.{first}"

    def _settle(self) -> None:
        """What passed before this comes before it in the ledger."""
        if self._permit is not None:
            with contextlib.suppress(HopgateError):  # the next line meets the same error, and its operation does not go on
                self._permit.settle()

    def foresee(self, operation: Operation) -> Decision:
        """What would be decided, without counting, waiting or writing: for what is only prepared here and decided again when it runs."""
        try:
            self.used_at = self._sessions.clock()
            self._check()
            return decide(operation, self.principal, self.view, self._sessions.rules.current)
        except Exception as error:
            return Decision("deny", message=error.message if isinstance(error, HopgateError) else "the operation could not be judged")

    @property
    def rules_version(self) -> str:
        """Of the rules that are in force now."""
        return self._sessions.rules.current.version

    def judge_response(self, operation: Operation, name: str) -> Decision:
        """Decide the response of the operation `name` before its first byte goes out. Effects: `allow` or `deny`, plus masks."""
        try:
            decision = decide(operation, self.principal, self.view, self._sessions.rules.current).of(name)
            if decision.effect != "allow":
                # the operation has been executed, which the ledger must say
                self._write("response_refused", operation, decision)
        except Exception as error:
            self._sessions.metrics.failed_closed("response")
            _log.error("response of %s refused: %s", name, type(error).__name__)
            return Decision("deny", message="the response could not be judged", operation=name)
        return decision

    def _decide(self, operation: Operation, known: Decision | None = None) -> Decision:
        self._check()
        if (refusal := self.allowance.take()) is not None:
            return refusal
        rules = self._sessions.rules.current
        current = known is not None and known.version == rules.version and not rules.depends_on_time_or_peer
        if known is not None and current and known.effect == "allow" and not known.approval:
            return known
        return decide(operation, self.principal, self.view, rules)

    def _check(self) -> None:
        """Raise unless the session still stands: token, locks, and the session rules of this moment."""
        sessions = self._sessions
        if self.closed:
            raise Expired(f"the session is closed: {self.closed}")
        now = self.used_at
        if now >= self.principal.expires_at + CLOCK_SKEW:
            self.end("the token has expired")
            raise Expired("the token has expired: get a new one")
        if (reason := sessions.locks.is_locked(self.principal, self.connection.name)) is not None:
            self.end(reason)
            raise Expired(reason)
        rules = sessions.rules.current
        if rules is not self._rules or (rules.depends_on_time and now - self._decided_at > REDECIDE):
            again = decide(sessions.opening(self.view, self.peer), self.principal, self.view, rules)
            if again.effect == "deny" or (again.effect == "hold" and rules is not self._rules):
                self.end("the session rules no longer allow it")
                raise Expired("the session rules have changed and no longer allow this session: open it again")
            self._rules, self._decided_at = rules, now
            self.allowance.limits = again.limits

    async def _hold(
        self,
        operation: Operation,
        name: str,
        decision: Decision,
        wait: float | None,
        outlives: bool,
        held: Callable[[Decision], None] | None,
    ) -> Decision:
        """Wait for reviewers; decide again with the rules, token and session of the moment of release."""
        if operation.exact is None:
            return replace(decision, effect="deny", message="a rule holds this, and it cannot be shown to a reviewer")
        exact = operation.exact()
        sessions = self._sessions
        until = None if wait is None else sessions.monotonic() + wait
        while True:
            spent = await sessions.approvals.spend(self.principal, self.view.name, exact, holds=decision.holds)
            if spent is not None:
                return replace(decision, effect="allow", approval=spent.id, message=f"approved ({spent.id})")
            approval = await self._request(operation, name, decision, exact, outlives)
            pending = replace(decision, approval=approval.id, message=f"{explain(decision, operation)}; waiting for a reviewer")
            if held is not None:
                held(pending)
            left = None if until is None else max(0.0, until - sessions.monotonic())
            sessions.metrics.holds.inc()
            try:
                approval = await sessions.approvals.wait(approval.id, left)
            finally:
                sessions.metrics.holds.dec()
            if approval.state == "pending":
                return pending
            if approval.state not in ("approved", "consumed"):
                return refusal_of(decision, approval)
            self.used_at = sessions.clock()
            self._check()
            decision = decide(operation, self.principal, self.view, sessions.rules.current)
            if decision.effect != "hold":
                return decision if decision.effect == "deny" else replace(decision, approval=approval.id)

    async def _request(self, operation: Operation, name: str, decision: Decision, exact: Exact, outlives: bool) -> Approval:
        sessions = self._sessions
        approval = await sessions.approvals.request(
            self.principal,
            self.id,
            self.view.name,
            decision.holds,
            exact,
            facts=card_facts(operation),
            rules_version=decision.version,
            outlives=outlives,
        )
        try:
            seq = self._write("held", operation, replace(decision, operation=name, approval=approval.id))
            await sessions.ledger.durable(seq)
        except BaseException:
            # nobody will wait for it: a card that stays would ask reviewers for nothing
            await asyncio.shield(sessions.approvals.withdraw(approval.id))
            raise
        return approval

    async def _failed(self, operation: Operation, name: str, error: Exception) -> Decision:
        message = error.message if isinstance(error, HopgateError) else "the operation could not be judged"
        rules = error.rules if isinstance(error, Denied) else ()
        decision = Decision("deny", rules=rules, message=message, operation=name)
        if not isinstance(error, HopgateError):
            # only the type: the text of an unexpected error may quote a secret
            _log.error("operation %s refused: %s", name, type(error).__name__)
        self._sessions.metrics.failed_closed("authorize")
        self._sessions.metrics.decided(operation.kind, "deny")
        try:
            await self._sessions.ledger.durable(self._write("decided", operation, decision))
        except Exception:
            self.end("the ledger cannot be written")
        return decision

    # --- remembering

    def _write(self, event: str, operation: Operation, decision: Decision) -> int:
        if event == "held":
            self._held += 1
        elif decision.effect == "deny":
            self._denied += 1
        # a session that is refused never opens: this line alone says who asked
        who = self._who() if operation.kind == "session" else {}
        return self._sessions.ledger.append(event, session=self.id, **who, **decision_fields(operation, decision, self.literals))

    def _who(self) -> dict[str, str]:
        who = {"issuer": self.principal.issuer, "subject": self.principal.subject, "connection": self.view.name, "peer": self.peer}
        return {**who, "run": self.principal.run} if self.principal.run else who

    def masked(self, name: str, counts: Mapping[str, int]) -> None:
        """Note how many values each mask rule hid in the response of operation `name`. Raises Unavailable."""
        total = sum(counts.values())
        if total:
            self._sessions.ledger.append("masked", session=self.id, operation=name, counts=dict(counts))
            self._sessions.metrics.masked(total)

    def account(self, *, bytes: int = 0, rows: int = 0) -> None:
        """Count what the target gave back against the session's limits; the next operation finds them spent."""
        self.allowance.account(bytes, rows)

    def note(self, event: str, **fields: Any) -> None:
        """Write one more event about this session. Raises Unavailable."""
        self._sessions.ledger.append(event, session=self.id, **fields)

    # --- ending

    def end(self, reason: str) -> None:
        """Close at once for callers; the sweep writes the rest. Transports registered in `on_close` are dropped now."""
        if self.closed:
            return
        self.closed = reason
        if self._permit is not None:
            self._permit.end()
        if self._grant is not None:
            self._grant.end()
        for drop in tuple(self.on_close):
            try:
                drop(reason)
            except Exception as error:
                _log.error("a transport of session %s would not close: %s", self.id, type(error).__name__)
        self.on_close.clear()

    async def admit(self, decision: Decision) -> None:
        """Open the recording, tell ledger and store, and only then hand out the grant. Raises Unavailable."""
        if not decision.allowed:
            raise Denied("the session is not allowed", session=self.id)
        sessions = self._sessions
        self.allowance.limits = decision.limits
        who = {"session": self.id, "issuer": self.principal.issuer, "subject": self.principal.subject, "connection": self.view.name}
        run = {"run": self.principal.run} if self.principal.run else {}
        self._recording = sessions.recordings.open(self.id, {**who, **run, "kind": self.view.kind, "rules": decision.version})
        sessions.ledger.append("session_opened", **who, **run, peer=self.peer, token=self.principal.token_id[:16], rules=decision.rules)
        await sessions.ledger.durable()
        await sessions.store.save_session(self._row())
        self._grant = grant_session(self.id, self.principal, self.view.name)

    def _row(self) -> SessionRow:
        return session_row(self, self._sessions.ledger.process, (self._operations, self._denied, self._held))

    async def save(self, every: float = 0.0) -> None:
        """Let the store know what happened, at most once in `every` seconds. Raises Unavailable."""
        operations, since = self._saved
        now = self._sessions.clock()
        if self._recording is not None and operations != self._operations and now - since >= every:
            self._saved = (self._operations, now)
            await self._sessions.store.save_session(self._row())

    async def close(self, reason: str) -> None:
        """End the session, seal its recording, and tell ledger and store. Raises nothing: what fails is logged."""
        self.end(reason)
        sessions = self._sessions
        await sessions.forget(self)
        with contextlib.suppress(HopgateError):
            await self.save()
        recording, self._recording = self._recording, None
        try:
            if recording is not None:
                recording.close(reason)
            sessions.ledger.append("session_closed", session=self.id, reason=reason, operations=self._operations)
            await sessions.store.end_session(self.id, reason, sessions.clock())
        except HopgateError as error:
            _log.error("session %s ended without a closing line: %s", self.id, error)
