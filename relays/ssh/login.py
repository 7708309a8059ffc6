"""Who came in by SSH, where to, and what their key lets them do at most."""

from __future__ import annotations

from dataclasses import dataclass

from rules.model import Principal


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the proof of identity permits at most, whatever rules say. Only certificates set any (OpenSSH PROTOCOL.certkeys, extensions)."""

    pty: bool = True
    port_forwarding: bool = True
    agent: bool = True
    x11: bool = True
    force_command: bytes | None = None  # the one command that may run, whatever was asked for


@dataclass(frozen=True, slots=True)
class Login:
    """A client that has proved who it is. `expires_at` (seconds since the epoch) is when its connection ends."""

    principal: Principal
    connection: str  # the user name; nobody has looked yet whether there is one
    peer: str  # IP address
    expires_at: float
    ceilings: Ceilings = Ceilings()
