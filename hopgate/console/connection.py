"""A connection that ends when no whole request comes on it: uvicorn waits for ever, and 600 silent ones are all that may be open."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE: Final = 15.0  # seconds; a request has one to two times as long to come whole


class Connection(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it. What is answered, an open stream too, may take as long as it takes."""

    _look: asyncio.TimerHandle | None = None
    _waited_for: tuple[object] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look = self.loop.call_later(PATIENCE, self._looked)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _looked(self) -> None:
        cycle: Any = self.cycle  # of the last request whose headers are there
        waiting = cycle is None or cycle.response_complete or cycle.more_body
        if waiting and self._waited_for is not None and self._waited_for[0] is cycle:
            self.transport.close()
            return
        self._waited_for = (cycle,) if waiting else None
        self._look = self.loop.call_later(PATIENCE, self._looked)
