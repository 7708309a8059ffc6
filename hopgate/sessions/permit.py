"""Leave for an adapter to pass, for a moment at a time, what its session decided before: the hot path of reads that repeat.

Within `PERMIT_SECONDS` nothing else is asked; then the session is looked at again (token, locks, rules): whatever ends a session or
changes the rules is in force that much later at the most. Every `SETTLE_SECONDS`, and before anything else that the session writes, what
has passed is put into the ledger, one line for all operations of a kind with their number as `count`. Those lines were never waited for
where an operation only reads; at a line for each leave they cost as much as the statements.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from hopgate.errors import HopgateError
from hopgate.sessions.told import decision_fields
from rules.model import Decision, Operation

if TYPE_CHECKING:
    from hopgate.sessions.live import Sessions
    from hopgate.sessions.session import Session

PERMIT_SECONDS: Final = 0.05
SETTLE_SECONDS: Final = 0.25

_log = logging.getLogger("hopgate.sessions")

type Passed = tuple[Operation, Decision, int]  # what passed, what had been decided of it, how often


class Permit:
    """One adapter's leave in one session. `report` gives what passed since it was last called; it must not fail."""

    def __init__(self, session: Session, sessions: Sessions, report: Callable[[], Iterable[Passed]]) -> None:
        self._session = session
        self._sessions = sessions
        self._report = report
        self._timer: asyncio.TimerHandle | None = None

    def renew(self) -> float:
        """Until which time.monotonic() operations may pass; 0.0: each must be asked for. Never raises."""
        session = self._session
        try:
            if not session.stands() or self._sessions.ledger.failed is not None:
                return 0.0
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._over)
        except Exception:
            return 0.0  # `authorize` meets the same error, and tells it
        return self._sessions.monotonic() + PERMIT_SECONDS

    def settle(self) -> None:
        """Write what has passed to the ledger. Raises Unavailable: then nothing more may pass."""
        session, ledger = self._session, self._sessions.ledger
        for operation, decision, count in self._report():
            fields = decision_fields(operation, decision.of(session.number(count)), session.literals)
            ledger.append("decided", session=session.id, **fields, count=count)
            self._sessions.metrics.decided(operation.kind, decision.effect, count)

    def end(self) -> None:
        """Settle for the last time. Raises nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self.settle()
        except HopgateError as error:
            _log.error("session %s ended without all of its lines: %s", self._session.id, error)

    def _over(self) -> None:
        self._timer = None
        try:
            self.settle()
        except HopgateError as error:
            self._session.end(error.message)
