"""What the SFTP filter wants done, in this order. It never touches a channel, a clock or a task itself."""

from __future__ import annotations

from dataclasses import dataclass

from relays.commands import Side
from rules.model import Operation


class Command:
    """Base of all."""

    __slots__ = ()


@dataclass(slots=True)
class Forward(Command):
    """Write `data` to the side named: whole packets, or parts of a WRITE or DATA in order."""

    side: Side
    data: bytes | memoryview


@dataclass(slots=True)
class Judge(Command):
    """May this be? The answer goes to `SftpFilter.decided` with the token, whenever it is known; meanwhile all else goes on."""

    token: int
    operation: Operation


@dataclass(slots=True)
class Record(Command):
    """One line for the session's recording. It quotes no content."""

    text: str


@dataclass(slots=True)
class Tell(Command):
    """One line for the standard error of the client's channel: its programs show codes, not why something was refused."""

    text: str


@dataclass(slots=True)
class End(Command):
    """The side named sends no more, and all that it asked for is on its way: tell the other one."""

    side: Side


@dataclass(slots=True)
class Refuse(Command):
    """End the channel now, on both sides. Nothing follows."""

    reason: str
