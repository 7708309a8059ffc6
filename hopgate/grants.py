"""The proof that a principal may reach a connection. The dialler and the credential store accept nothing else.

Only `hopgate.sessions` calls `grant_session`, after an allowed `session` operation; a test reads the sources for others.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from rules.model import Principal

_KEY: Final = object()


class SessionGrant:
    """One open session: whose, and where to. Cannot be made, copied, changed or stored by anybody else."""

    __slots__ = ("__weakref__", "_ended", "connection", "principal", "session")

    session: str
    principal: Principal
    connection: str
    _ended: bool

    def __init__(self, session: str, principal: Principal, connection: str, *, key: object = None) -> None:
        if key is not _KEY:
            raise TypeError("only a session that was allowed has a grant")
        for name, value in (("session", session), ("principal", principal), ("connection", connection), ("_ended", False)):
            object.__setattr__(self, name, value)

    @property
    def ended(self) -> bool:
        """Whether the session is over: then the grant proves nothing any more."""
        return self._ended

    def end(self) -> None:
        """Make the grant worthless. Called when its session closes."""
        object.__setattr__(self, "_ended", True)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a grant does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a grant does not change")

    def __init_subclass__(cls, **_: Any) -> NoReturn:
        raise TypeError("a grant has no kinds")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a grant is not copied or stored")

    def __repr__(self) -> str:
        return f"SessionGrant({self.session!r}, {str(self.principal)!r}, {self.connection!r}{', ended' if self._ended else ''})"


def grant_session(session: str, principal: Principal, connection: str) -> SessionGrant:
    """The grant of an open session. For `hopgate.sessions` only."""
    return SessionGrant(session, principal, connection, key=_KEY)
