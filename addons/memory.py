"""How much of requests and responses one caller may have in memory at once, over all of its connections and streams.

Each body has a bound (`body_size_limit`), their number has none: a thousand uploads that never end would fill the machine, and every
other caller's gateway with it.
"""

from __future__ import annotations

from typing import Any, Final

from mitmproxy import connection, http

from addons.exchange import Exchange, find
from addons.fail_closed import fail_closed

MAX_HELD: Final = 256 << 20  # bytes of a principal in one process; one body has 20 MB


class Memory:
    """Counts what is held for whom until the exchange is over. Runs last."""

    name = "hopgate_memory"

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], int] = {}
        self._open: dict[str, set[Exchange]] = {}  # client connection -> exchanges of which something is held

    def take(self, flow: http.HTTPFlow, exchange: Exchange, size: int) -> bool:
        """Whether `size` more bytes may be held for the caller of `flow`. Nothing is counted when not."""
        principal = exchange.principal
        if principal is None:
            return True  # refused before it sends a body, or at the token endpoint, whose forms are short
        held = self._held.get(principal.identity, 0) + size
        if held > MAX_HELD:
            return False
        self._held[principal.identity] = held
        exchange.held += size
        self._open.setdefault(flow.client_conn.id, set()).add(exchange)
        return True

    def _release(self, exchange: Exchange) -> None:
        principal, size, exchange.held = exchange.principal, exchange.held, 0
        if size and principal is not None:
            left = self._held.get(principal.identity, 0) - size
            if left > 0:
                self._held[principal.identity] = left
            else:
                self._held.pop(principal.identity, None)

    def _over(self, flow: Any) -> None:
        exchange = find(flow)
        if exchange is not None and exchange.held:
            self._release(exchange)
            self._open.get(flow.client_conn.id, set()).discard(exchange)

    @fail_closed
    def response(self, flow: http.HTTPFlow) -> None:
        self._over(flow)

    @fail_closed
    def error(self, flow: http.HTTPFlow) -> None:
        self._over(flow)

    @fail_closed
    def client_disconnected(self, client: connection.Client) -> None:
        for exchange in self._open.pop(client.id, ()):
            self._release(exchange)
