"""What the addons of one process share: the configuration, and the services once they have started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hopgate.errors import Unavailable

if TYPE_CHECKING:
    from hopgate.config import Config
    from hopgate.services import Services


class Gate:
    """Until the services are there every gate refuses: the port is open before they are."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._services: Services | None = None
        self.hash_key = b""  # of the mask strategy `hash`

    @property
    def services(self) -> Services:
        if self._services is None:
            raise Unavailable("the gateway is starting or stopping: try again in a moment")
        return self._services

    @services.setter
    def services(self, services: Services | None) -> None:
        self._services = services

    @property
    def shut(self) -> str:
        """Why nothing can be let through now; "" when something may be."""
        if self._services is None:
            return "the gateway is starting or stopping: try again in a moment"
        # it stays so until a restart, and the supervisor's probe is how anybody hears of it
        return "" if self._services.ledger.failed is None else "the gateway cannot write its ledger"

    @property
    def ready(self) -> bool:
        return self._services is not None
