"""What drivers have in common: the services, worker threads and signals of this process, and which drivers there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hopgate.parsing import SqlReader

if TYPE_CHECKING:
    from hopgate.services import Services
    from relays.driver import Driver
    from relays.signals import Signals
    from relays.workers import Workers


@dataclass(slots=True)
class Outside:
    """Built once by the process."""

    services: Services
    workers: Workers
    signals: Signals
    reader: SqlReader = field(default_factory=SqlReader)
    drivers: set[Driver] = field(default_factory=set)
    starting: set[Driver] = field(default_factory=set)  # of those, who has not got through start-up
