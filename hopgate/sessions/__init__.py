"""Sessions: open -> authorize(operation) -> close. The one place where `rules.decide` is called."""

from __future__ import annotations

from hopgate.sessions.live import IDLE, SessionRefused, Sessions
from hopgate.sessions.opening import session_operation
from hopgate.sessions.session import CLOCK_SKEW, Session, judge

__all__ = ["CLOCK_SKEW", "IDLE", "Session", "SessionRefused", "Sessions", "judge", "session_operation"]
