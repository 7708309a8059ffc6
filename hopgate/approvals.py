"""Operations that wait for reviewers: request, wait, decide, spend.

pending -> approved -> consumed | expired | cancelled; pending -> denied | expired | withdrawn | cancelled. Every change is a
compare-and-set in one transaction, and its ledger line is written before it commits: what the ledger refuses does not happen.
An approved operation is still decided again by the rules of the moment when it is released.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from hopgate.errors import Conflict, Denied, Unavailable
from hopgate.reviewers import may_review, satisfied
from hopgate.scopes import common_scopes, fingerprint, scope_seconds
from hopgate.store import Approval, ApprovalState, ApprovalTransaction, Requirement, Store, Verdict, Vote
from hopgate.tasks import spawn
from hopgate.waiters import Waiters
from rules.model import Exact, Hold, Principal

MAX_PENDING: Final = 5  # a principal: more would bury the reviewers
UNUSED: Final = 600.0  # seconds within which an approval of one use must be used
MAX_COMMENT: Final = 2000
_ID_BYTES: Final = 16


class ApprovalSettings(Protocol):
    """`approvals:` of the configuration."""

    @property
    def reviewers(self) -> tuple[str, ...]: ...
    @property
    def timeout(self) -> float: ...
    @property
    def owners(self) -> Mapping[str, str]: ...


class LedgerEvent(Protocol):
    """Writes one line of the ledger; what it raises undoes the change that the line tells."""

    def __call__(self, event: str, /, **fields: Any) -> Any: ...


class Approvals:
    """The approvals that this process asks for, waits for, decides or spends. `start` before waiting."""

    def __init__(
        self,
        store: Store,
        settings: ApprovalSettings,
        clock: Callable[[], float] = time.time,
        ledger_event: LedgerEvent | None = None,
        *,
        process: str = "",
        epoch: str = "",
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._event = ledger_event
        self._process = process
        self._epoch = epoch
        self._waiters = Waiters(store, clock)

    async def start(self) -> None:
        """Follow the store, so that decisions made elsewhere wake who waits here. Raises Unavailable."""
        await self._waiters.start()

    async def close(self) -> None:
        await self._waiters.close()

    # --- asking

    async def request(
        self,
        principal: Principal,
        session: str,
        connection: str,
        holds: Iterable[Hold],
        exact: Exact,
        *,
        facts: Mapping[str, Any] | None = None,
        rules_version: str = "",
        outlives: bool = False,
    ) -> Approval:
        """Ask the reviewers of `holds`, or join the identical request that is pending already.

        Raises Denied when this principal has `MAX_PENDING` others pending, when the rules leave no common scope, or name no reviewer.
        """
        asked = self._approval(principal, session, connection, tuple(holds), exact, outlives)
        asked = replace(asked, facts=_storable_fact(dict(facts or {})), rules_version=rules_version)

        async def work(transaction: ApprovalTransaction) -> Approval:
            pending = await transaction.pending_of(principal.issuer, principal.subject)
            same = [other for other in pending if _alike(other, asked)]
            for other in same:
                if (other.requirements, other.scopes) == (asked.requirements, asked.scopes):
                    await transaction.add_waiters(other.id, 1)
                    return replace(other, waiters=other.waiters + 1)
                # the rules have changed meanwhile: the votes there answer another question
                await self._settle(transaction, other, "cancelled", by="system:rules")
            if len(pending) - len(same) >= MAX_PENDING:
                raise Denied(f"{MAX_PENDING} operations of {principal} wait for approval already: wait for those first")
            await transaction.insert(asked)
            _tell(transaction, "approval_requested", asked, rules=[each.rule for each in asked.requirements], deadline=asked.deadline)
            return asked

        await self.expire()
        mine: list[Approval] = []

        async def kept(transaction: ApprovalTransaction) -> Approval:
            mine.append(await work(transaction))
            return mine[0]

        try:
            return await self._change(kept)
        except asyncio.CancelledError:
            # the transaction goes on, and who asked will never hear which approval is his; the next one comes after it
            await asyncio.shield(
                spawn(self._change(lambda after: self._leave(after, mine[0].id if mine else "")), name="withdraw approval")
            )
            raise

    def _approval(
        self, principal: Principal, session: str, connection: str, holds: tuple[Hold, ...], exact: Exact, outlives: bool
    ) -> Approval:
        now = self._clock()
        requirements = self._requirements(holds)
        scopes = common_scopes(holds)
        if not holds or not scopes:
            raise Denied("the rules that hold this have no approval scope in common: nobody can be asked")
        timeouts = [self._settings.timeout if hold.timeout is None else hold.timeout for hold in holds]
        return Approval(
            id=secrets.token_hex(_ID_BYTES),
            state="pending",
            version=1,
            issuer=principal.issuer,
            subject=principal.subject,
            connection=connection,
            session=session,
            fingerprint=fingerprint(principal, connection, exact),
            title=_storable(exact.title),
            text=_storable(exact.text),
            headers={_storable(name): _storable(value) for name, value in exact.headers.items()},
            requirements=requirements,
            scopes=scopes,
            created_at=now,
            deadline=now + min(timeouts),
            groups=tuple(sorted(principal.groups)),
            actors=tuple(sorted(principal.actors)),
            run=principal.run,
            outlives=outlives,
            process=self._process,
            epoch=self._epoch,
        )

    def _requirements(self, holds: tuple[Hold, ...]) -> tuple[Requirement, ...]:
        found = tuple(
            Requirement(hold.rule, tuple(hold.reviewers or self._settings.reviewers), max(1, hold.quorum))
            for hold in sorted(holds, key=lambda hold: hold.rule)
        )
        for each in found:
            if not each.reviewers:
                raise Denied(f"rule `{each.rule}` holds this and names no reviewers: nobody can be asked", rules=(each.rule,))
        return found

    # --- waiting

    async def wait(self, approval: str, timeout: float | None = None) -> Approval:
        """Wait until reviewers have decided, the deadline has passed, or `timeout` seconds are over: look at `state`.

        When the waiter is cancelled, an approval that does not outlive its connection is withdrawn. Raises Unavailable.
        """
        try:
            found = await self._waiters.until_decided(approval, timeout, self.expire)
        except asyncio.CancelledError:
            await asyncio.shield(spawn(self.withdraw(approval), name="withdraw approval"))
            raise
        if found.pending and found.outlives:
            await self.withdraw(approval)
        return found

    async def withdraw(self, approval: str) -> None:
        """One who asked is gone. The last one takes the request with him, unless it outlives its connection. Raises Unavailable."""
        await self._change(lambda transaction: self._leave(transaction, approval))

    async def _leave(self, transaction: ApprovalTransaction, approval: str) -> None:
        found = await transaction.find(approval) if approval else None
        if found is None or found.state not in ("pending", "approved"):
            return
        await transaction.add_waiters(approval, -1 if found.waiters > 0 else 0)
        if found.waiters <= 1 and not found.outlives:
            await self._settle(transaction, found, "withdrawn", by="system:gone")

    # --- deciding

    async def decide(
        self,
        approval: str,
        reviewer: Principal,
        verdict: Verdict,
        *,
        scope: str = "once",
        comment: str = "",
        fingerprint: str | None = None,
        version: int | None = None,
    ) -> Approval:
        """Cast a reviewer's vote. One `deny` settles it; it is approved when each hold rule has its quorum of distinct people.

        `fingerprint` and `version` are what the reviewer saw. Raises Conflict when that has changed, when the approval is settled, or
        when he has voted already; Denied when he may not decide or `scope` is not offered.
        """
        if verdict not in ("approve", "deny"):
            raise Denied(f"{verdict!r} is no verdict; expected approve or deny")

        async def work(transaction: ApprovalTransaction) -> Approval:
            found = await transaction.find(approval)
            if found is None:
                raise Denied("there is no such approval")
            if not found.pending or found.deadline <= self._clock():
                raise Conflict(f"the approval is {'expired' if found.pending else found.state} already")
            await self._check_reviewer(transaction, found, reviewer)
            if fingerprint not in (None, found.fingerprint) or version not in (None, found.version):
                raise Conflict("the request has changed since it was shown: look at it again")
            if verdict == "approve" and scope not in found.scopes:
                raise Denied(f"the scope {scope!r} is not offered; expected {' or '.join(found.scopes)}")
            return await self._vote(transaction, found, reviewer, verdict, scope, _storable(comment[:MAX_COMMENT]))

        await self.expire()
        decided = await self._change(work)
        self._waiters.wake(approval)
        return decided

    async def _check_reviewer(self, transaction: ApprovalTransaction, found: Approval, reviewer: Principal) -> None:
        if reviewer.expires_at and reviewer.expires_at <= self._clock():
            raise Denied("the reviewer's token has expired: sign in again")
        if await transaction.is_barred((reviewer.token_id, str(reviewer.claims.get("jti"))), str(reviewer)):
            raise Denied("the reviewer is locked out, or his token was revoked")
        may_review(found, reviewer, self._settings.owners)
        if any((vote.issuer, vote.subject) == reviewer.identity for vote in found.votes):
            raise Conflict(f"{reviewer} has decided on this already")

    async def _vote(
        self, transaction: ApprovalTransaction, found: Approval, reviewer: Principal, verdict: Verdict, scope: str, comment: str
    ) -> Approval:
        now = self._clock()
        granted = scope if verdict == "approve" else ""
        vote = Vote(reviewer.issuer, reviewer.subject, reviewer.groups, verdict, granted, comment, now)
        await transaction.vote(found.id, vote)
        voted = replace(found, votes=(*found.votes, vote))
        _tell(transaction, "approval_voted", found, reviewer=str(reviewer), verdict=verdict, scope=granted)
        if verdict == "deny":
            return await self._settle(transaction, voted, "denied", by=str(reviewer), comment=comment)
        if not satisfied(voted, voted.requirements):
            if not await transaction.change(found):
                raise Conflict("somebody else has decided meanwhile: look at it again")
            return replace(voted, version=found.version + 1)
        votes = [each for each in voted.votes if each.verdict == "approve"]
        narrowest = min((each.scope for each in votes), key=scope_seconds)
        people = ", ".join(each.identity for each in votes)
        ends = now + (scope_seconds(narrowest) or UNUSED)
        return await self._settle(transaction, voted, "approved", by=people, comment=comment, scope=narrowest, ends_at=ends)

    # --- using

    async def spend(self, principal: Principal, connection: str, exact: Exact, *, holds: Iterable[Hold] | None = None) -> Approval | None:
        """Use an approval of this very operation, if there is one: `once` is gone then, whoever else tries at the same moment.

        `holds` are those of the rules of this moment: its votes are counted again for them, and its scope must still be offered.
        """
        wanted = None if holds is None else tuple(holds)
        identity = fingerprint(principal, connection, exact)

        async def work(transaction: ApprovalTransaction) -> Approval | None:
            await self._expire(transaction)
            found = await transaction.approved_for(principal.issuer, principal.subject, connection, identity, self._clock())
            for approval in sorted(found, key=lambda each: (each.scope == "once", each.created_at)):
                if self._covers(approval, wanted):
                    return await self._use(transaction, approval)
            return None

        return await self._change(work)

    def _covers(self, approval: Approval, holds: tuple[Hold, ...] | None) -> bool:
        if holds is None:
            return True
        return bool(holds) and approval.scope in common_scopes(holds) and satisfied(approval, self._requirements(holds))

    async def _use(self, transaction: ApprovalTransaction, approval: Approval) -> Approval:
        if approval.scope == "once":
            return await self._settle(transaction, approval, "consumed", by=approval.decided_by, uses=approval.uses + 1)
        if not await transaction.change(approval, uses=approval.uses + 1):
            raise Conflict("the approval has changed meanwhile")
        _tell(transaction, "approval_used", approval, scope=approval.scope, uses=approval.uses + 1)
        return replace(approval, uses=approval.uses + 1, version=approval.version + 1)

    async def revoke(self, approval: str, by: str) -> Approval:
        """Take back what was approved and not used up. Raises Conflict when there is nothing left to take back."""

        async def work(transaction: ApprovalTransaction) -> Approval:
            found = await transaction.find(approval)
            if found is None or found.state not in ("pending", "approved"):
                raise Conflict("there is nothing to take back")
            return await self._settle(transaction, found, "cancelled", by=by)

        return await self._change(work)

    # --- ending

    async def expire(self) -> int:
        """End what is past its time; gives how many. Who waits, decides or spends has it done; nothing past its time is used without it."""

        return await self._change(self._expire) if await self._store.has_overdue(self._clock()) else 0

    async def _expire(self, transaction: ApprovalTransaction) -> int:
        overdue = await transaction.overdue(self._clock())
        for each in overdue:
            await self._settle(transaction, each, "expired", by="system:timeout")
        return len(overdue)

    async def cancel_orphans(self, epoch: str, process: str = "") -> int:
        """At start: cancel what an earlier run (of `process`, or of any) waited for. What outlives its connection stays."""

        async def work(transaction: ApprovalTransaction) -> int:
            orphans = await transaction.orphaned(epoch, process)
            for each in orphans:
                if each.outlives:
                    await transaction.add_waiters(each.id, -each.waiters)
                else:
                    await self._settle(transaction, each, "cancelled", by="system:restart")
            return sum(not each.outlives for each in orphans)

        return await self._change(work)

    async def _settle(self, transaction: ApprovalTransaction, found: Approval, state: ApprovalState, *, by: str, **values: Any) -> Approval:
        """Change the state by compare-and-set, and write the ledger line, or neither."""
        values = {"state": state, "decided_by": by, **values}
        if state != "consumed":
            values["decided_at"] = self._clock()
        if not await transaction.change(found, **values):
            raise Conflict("somebody else has decided meanwhile: look at it again")
        settled = replace(found, version=found.version + 1, **values)
        _tell(transaction, f"approval_{state}", settled, by=by, scope=settled.scope, comment=settled.comment)
        return settled

    async def _change[T](self, work: Callable[[ApprovalTransaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction, and write its ledger lines as the last thing before it commits."""
        written: list[str] = []

        async def told(transaction: ApprovalTransaction) -> T:
            result = await work(transaction)
            for event, fields in transaction.events:
                if self._event is not None:
                    self._event(event, **fields)
                    written.append(event)
            return result

        try:
            return await self._store.change_approvals(told)
        except Exception:
            if written and self._event is not None:
                with contextlib.suppress(Unavailable):
                    self._event("approval_undone", events=written)
            raise


def _tell(transaction: ApprovalTransaction, event: str, approval: Approval, **fields: Any) -> None:
    subject = {"session": approval.session, "connection": approval.connection, "requester": approval.requester}
    transaction.events.append((event, {"approval": approval.id, "fingerprint": approval.fingerprint, **subject, **fields}))


def _alike(one: Approval, other: Approval) -> bool:
    return (one.connection, one.fingerprint, one.outlives) == (other.connection, other.fingerprint, other.outlives)


def _storable(text: str) -> str:
    """Lone surrogates, which stand for bytes that are no UTF-8, cannot be stored, nor can NUL in PostgreSQL: shown as what they are."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\u2400")


def _storable_fact(value: Any) -> Any:
    """A fact with every text in it made so: the path of a file may be any bytes."""
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_storable_fact(key): _storable_fact(each) for key, each in value.items()}
    return [_storable_fact(each) for each in value] if isinstance(value, list | tuple) else value
