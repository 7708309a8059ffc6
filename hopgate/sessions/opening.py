"""Opening a session, told as an operation that rules can judge."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rules.model import Connection, Exact, Operation

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class SessionFacts:
    """The facts of `on: session`: kind, connection, peer (an IP address), and, in the configured zone, weekday (`monday` …) and hour."""

    __slots__ = ("_facts",)

    def __init__(self, connection: Connection, peer: str, moment: datetime) -> None:
        self._facts = {
            "kind": connection.kind,
            "connection": connection.name,
            "peer": peer,
            "hour": moment.hour,
            "weekday": _DAYS[moment.weekday()],
        }

    def get(self, name: str) -> Any:
        return self._facts[name]


def session_operation(connection: Connection, peer: str, moment: datetime) -> Operation:
    """The operation of opening a session on `connection` from `peer` at `moment`, which is in the configured time zone."""
    title = f"open {connection.name}"

    def exact() -> Exact:
        return Exact(
            title=title, text=f"open a session on {connection.name} ({connection.kind})", payload=f"session {connection.name}".encode()
        )

    return Operation("session", SessionFacts(connection, peer, moment), writes=True, exact=exact, title=title)
