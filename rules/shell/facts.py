"""The facts of one simple command, as rules read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules.model import UNKNOWN
from rules.shell.transfers import Transfer


class ShellFacts:
    """What one command of an exec is. `programs` and `argv` are UNKNOWN where an expansion decides them.

    `transfer` is there where the whole command line is the far end of scp, rsync or git, and nothing else.
    """

    __slots__ = ("_values", "transfer")

    def __init__(self, values: Mapping[str, Any], transfer: Transfer | None = None) -> None:
        self._values = values
        self.transfer = transfer

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def as_dict(self) -> dict[str, Any]:
        """For the ledger, the card and `explain --json`: unknown facts as None."""
        return {
            name: None if value is UNKNOWN else list(value) if isinstance(value, tuple) else value for name, value in self._values.items()
        }


def shell_facts(
    programs: Any = (), argv: Any = "", facets: frozenset[str] = frozenset(), reason: str = "", transfer: Transfer | None = None
) -> ShellFacts:
    """Facts of an exec. `programs` is a tuple or UNKNOWN, `argv` text or UNKNOWN; `reason` says why they are not complete."""
    values = {
        "action": "exec",
        "programs": programs,
        "argv": argv,
        "facets": tuple(sorted(facets)) if facets else (),
        "complete": not reason,
        "reason": reason,
    }
    if transfer is not None:
        values["op"], values["paths"] = transfer.op, transfer.paths
    return ShellFacts(values, transfer)
