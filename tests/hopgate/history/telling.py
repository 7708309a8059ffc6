"""Ledgers with made-up sessions, and the index over them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hopgate.history import Projector
from hopgate.ledger import Ledger, ledger_key
from hopgate.store.index import Index
from tests.hopgate.places import Place


@dataclass
class Told:
    """A state directory whose ledgers tests write by the line."""

    state: Path
    index: Index
    projector: Projector

    @contextlib.contextmanager
    def ledger(self, process: str = "http-0"):  # type: ignore[no-untyped-def]
        ledger = Ledger(self.state / "ledger", process, ledger_key(self.state), announce=False)
        try:
            yield ledger
        finally:
            ledger.close()

    def path(self, process: str = "http-0") -> Path:
        return self.state / "ledger" / f"{process}.ndjson"

    def session(self, id: str, *, process: str = "http-0", operations: list[dict[str, Any]], who: dict[str, str] | None = None) -> None:
        """A whole session: opened, `operations` decided (allowed where they do not say), closed."""
        names = {"issuer": "corp", "subject": "svc", "connection": "orders", "peer": "10.0.0.9", **(who or {})}
        with self.ledger(process) as ledger:
            opening = {"operation": f"{id}.1", "kind": "session", "title": "open", "effect": "allow", "rules": ["open"]}
            ledger.append("decided", session=id, **names, **opening)
            ledger.append("recording_opened", session=id, file=f"recordings/{id}.mitm", meta={"kind": "sql"})
            ledger.append("session_opened", session=id, **names, rules=["open"])
            for number, each in enumerate(operations, start=2):
                ledger.append(each.pop("event", "decided"), session=id, **operation(f"{id}.{number}", **each))
            ledger.append("session_closed", session=id, reason="done", operations=len(operations) + 1)


def operation(name: str, title: str = "SELECT 1", effect: str = "allow", rules: tuple[str, ...] = ("read",), **more: Any) -> dict[str, Any]:
    return {"operation": name, "kind": "sql", "title": title, "effect": effect, "rules": rules, **more}


@contextlib.asynccontextmanager
async def telling(state: Path, place: Place | None = None) -> AsyncIterator[Told]:
    """`state` has the ledgers; the index is there too, or in `place`."""
    index = await Index.open(place or state)
    try:
        yield Told(state, index, Projector(state / "ledger", index))
    finally:
        await index.close()
