"""The commands of one session: what is read of their bytes, and what was decided of the same bytes before."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from rules.model import Decision, Operation
from rules.shell.command import operation_of

if TYPE_CHECKING:
    from hopgate.sessions import Session
    from relays.workers import Workers

INLINE: Final = 512  # bytes of a command that is read on the event loop: the worst that is that long takes 20 ms of everybody's
KEPT: Final = 4 << 10  # bytes of a command that is remembered, and the decision about it
_REMEMBERED: Final = 1024  # commands of the process
_KNOWN: Final = 256  # decisions of a session

_read = lru_cache(maxsize=_REMEMBERED)(operation_of)  # an operation is the same for whoever asks: it holds no decision


class Commands:
    """Reads and decides for one session. `shell` is what `shell:` of its connection says."""

    def __init__(self, session: Session, workers: Workers, shell: str) -> None:
        self._session = session
        self._workers = workers
        self._shell = shell
        self._known: dict[tuple[bytes, bytes], Decision] = {}

    async def read(self, command: bytes, context: bytes, stdin: bytes | None = None) -> Operation:
        """The operation of an exec; see `rules.shell.command.operation_of`."""
        if stdin is None and len(command) <= INLINE:
            return _read(command, self._shell, context)
        if stdin is None and len(command) <= KEPT:
            kept: Operation = await self._workers.run(lambda: _read(command, self._shell, context))
            return kept
        found: Operation = await self._workers.run(lambda: operation_of(command, self._shell, context, stdin))
        return found

    async def authorize(self, operation: Operation, command: bytes, context: bytes, held: Callable[[Decision], None]) -> Decision:
        """Decide it. What was allowed of the same bytes in the same context stays so while the rules do."""
        key = (command, context)
        known = self._known.get(key)
        decision = await self._session.authorize(operation, held=held, known=known)
        if decision.allowed and not decision.approval and known is None and len(command) <= KEPT:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = decision
        elif known is not None and decision.version != known.version:
            self._known.pop(key, None)
        return decision


def packed(*fields: bytes) -> bytes:
    """Fields as bytes that only these fields give."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)
