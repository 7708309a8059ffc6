"""How much a session may take: `limits:` of the rules that let it start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rules.model import Decision, Limits


class Allowance:
    """What is left of a session's limits. Operations are counted over the minute that is running, bytes and rows over the session."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self._monotonic = monotonic
        self.bytes = 0
        self._rows = 0
        self._minute = 0.0
        self._operations = 0

    def account(self, bytes: int, rows: int = 0) -> None:
        self.bytes += bytes
        self._rows += rows

    @property
    def unlimited(self) -> bool:
        """Whether nothing has to be counted before it is given."""
        return self.limits == _NO_LIMITS

    @property
    def overdrawn(self) -> str:
        """Which limit the result that is being read has gone beyond; "" while it has not."""
        limits = self.limits
        if limits.rows is not None and self._rows > limits.rows:
            return f"the session may read {limits.rows} rows, and this is beyond"
        if limits.bytes is not None and self.bytes > limits.bytes:
            return f"the session may read {limits.bytes} bytes, and this is beyond"
        return ""

    def take(self) -> Decision | None:
        """Count one operation. Gives the refusal when a limit is reached."""
        limits = self.limits
        if limits.bytes is not None and self.bytes >= limits.bytes:
            return _spent(f"the session has read its {limits.bytes} bytes")
        if limits.rows is not None and self._rows >= limits.rows:
            return _spent(f"the session has read its {limits.rows} rows")
        if limits.operations_per_minute is not None:
            now = self._monotonic()
            if now - self._minute >= 60.0:
                self._minute, self._operations = now, 0
            if self._operations >= limits.operations_per_minute:
                return _spent(
                    f"more than {limits.operations_per_minute} operations in a minute: try again in {60 - int(now - self._minute)} s"
                )
            self._operations += 1
        return None

    def give_back(self) -> None:
        """Uncount the operation that was taken last: it will be asked for again."""
        self._operations = max(0, self._operations - 1)


_NO_LIMITS: Final = Limits()


def _spent(message: str) -> Decision:
    return Decision("deny", rules=("limits",), message=message)
