"""What drivers have in common: the services, worker threads and signals of this process, and which drivers there are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hopgate.parsing import SqlReader

if TYPE_CHECKING:
    from hopgate.services import Services
    from relays.signals import Signals
    from relays.workers import Workers


class Client(Protocol):
    """A client's connection and all that belongs to it: a driver, or an SSH server's transport."""

    closed: asyncio.Future[None]  # everything has ended, its session too

    def kill(self, reason: str) -> None:
        """End now: nothing more reaches the target, the client is told why."""
        ...


@dataclass(slots=True)
class Outside:
    """Built once by the process."""

    services: Services
    workers: Workers
    signals: Signals
    reader: SqlReader = field(default_factory=SqlReader)
    drivers: set[Client] = field(default_factory=set)
    starting: set[Client] = field(default_factory=set)  # of those, who has not got through start-up
