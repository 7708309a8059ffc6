"""From where a session may be used: it was opened from one address, others are let in one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rules.model import Decision

if TYPE_CHECKING:
    from hopgate.sessions.live import Sessions

MOST_PEERS: Final = 256  # that a session remembers
REDECIDE: Final = 60.0  # seconds between session decisions where a session rule names the hour or the weekday


class Peers:
    """The addresses of one session's clients, and the rules by which each was let in."""

    def __init__(self, first: str, sessions: Sessions) -> None:
        self.first = first
        self._sessions = sessions
        self._others: dict[str, tuple[str, float]] = {}  # version of the rules, decided when

    def welcomes(self, peer: str) -> bool:
        """Whether the session may be used from `peer`, by the rules in force."""
        if peer == self.first:
            return True
        rules = self._sessions.rules.current
        known, at = self._others.get(peer, ("", 0.0))
        return known == rules.version and not (rules.depends_on_time and self._sessions.clock() - at > REDECIDE)

    def welcome(self, peer: str, decision: Decision) -> None:
        """Let `peer` in, whose `session` operation was allowed by `decision`."""
        if len(self._others) >= MOST_PEERS:
            self._others.clear()
        self._others[peer] = (decision.version, self._sessions.clock())
