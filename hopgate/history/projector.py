"""Follows the ledgers of a state directory and keeps the index up to date with them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hopgate.errors import HopgateError, Unavailable
from hopgate.history import ledgers
from hopgate.ledger_format import ledger_names
from hopgate.store.index import Index, LedgerEvent, Source
from hopgate.tasks import spawn

LOOK: Final = 0.25  # seconds between looks at the ledgers

_log = logging.getLogger("hopgate.history")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the index is. `behind` is in bytes of ledger; `at` the time of the youngest line; `problems` need somebody's eyes."""

    events: int = 0
    behind: int = 0
    at: float = 0.0
    problems: tuple[str, ...] = ()


class Projector:
    """Reads what the ledgers gained and puts it into the index. Several may run: each line gets in once."""

    def __init__(self, directory: Path, index: Index, called: Callable[[str], str] = str) -> None:
        """`called` gives the name under which the index knows a ledger: gateways of several machines may have one of the same name."""
        self._directory = directory
        self._called = called
        self._index = index
        self._sources: dict[str, Source] | None = None
        self._events = 0
        self._failed = ""
        self._busy = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the ledgers in a task of its own."""
        if self._following is None:
            self._following = spawn(self._follow(), name="follow the ledgers")

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def catch_up(self) -> int:
        """Index all that is signed by now; gives how many lines. Raises Unavailable."""
        total = 0
        async with self._busy:
            while True:
                number, more = await self._step()
                total += number
                if not more:
                    return total

    def progress(self) -> Progress:
        """How far the index is, without asking it."""
        sources = self._sources or {}
        behind = 0
        for name in ledger_names(self._directory):
            with contextlib.suppress(OSError):
                known = sources.get(self._called(name), Source(name))
                behind += max(0, os.stat(self._directory / f"{name}.ndjson").st_size - known.position)
        problems = [f"ledger {each.process} {each.problem}" for each in sources.values() if each.problem]
        at = max((each.t for each in sources.values()), default=0) / 1e9
        return Progress(self._events, behind, at, tuple([self._failed] * bool(self._failed) + sorted(problems)))

    async def _follow(self) -> None:
        while True:
            try:
                await self.catch_up()
                self._failed = ""
            except Exception as error:
                told = error.message if isinstance(error, HopgateError) else f"the ledgers cannot be indexed: {type(error).__name__}"
                if told != self._failed:
                    _log.error("%s", told)
                self._failed = told
                self._sources = None
            await asyncio.sleep(LOOK)

    async def _step(self) -> tuple[int, bool]:
        """One batch: how many events it had, and whether more is there to be read at once."""
        if self._sources is None:
            self._sources, self._events = await self._index.sources(), await self._index.count_events()
        changed = [name for name in ledger_names(self._directory) if self._has_changed(name)]
        if not changed:
            return 0, False
        sources = {name: self._sources.get(self._called(name), Source(self._called(name))) for name in changed}
        events, moves, more = await asyncio.to_thread(self._read, sources)
        if not moves:
            return 0, False
        if await self._index.apply(events, [before for before, _ in moves], [after for _, after in moves]):
            self._sources.update({after.process: after for _, after in moves})
            self._events = await self._index.count_events()
        else:
            self._sources = None  # somebody else was faster: look where the index is now
            more = True
        return len(events), more

    def _has_changed(self, name: str) -> bool:
        source = (self._sources or {}).get(self._called(name))
        try:
            size = os.stat(self._directory / f"{name}.ndjson").st_size
        except OSError:
            return False
        return source is None or size != source.position

    def _read(self, sources: Mapping[str, Source]) -> tuple[list[LedgerEvent], list[tuple[Source, Source]], bool]:
        """In a thread. A ledger that cannot be read stops the rest: events would be missing without a word."""
        reaches = []
        for name, source in sources.items():
            try:
                reaches.append(ledgers.read(self._directory / f"{name}.ndjson", source))
            except OSError as error:
                raise Unavailable(f"ledger {name} cannot be read: {error.strerror or type(error).__name__}") from None
        events, moves = ledgers.merge(reaches)
        return events, moves, any(each.more for each in reaches)
