"""What the gateway itself says to an SSH client: single lines on standard error, and the exit statuses that go with them."""

from __future__ import annotations

from typing import Final

from rules.explain import explain
from rules.model import Decision, Operation
from rules.printable import visible

DENIED: Final = 126  # as shells say "found and not executed"
LOST: Final = 255  # as ssh says that the connection failed
TARGET_LOST: Final = "the target closed the connection"
FAILED: Final = "the gateway failed to relay this"


def line(text: str, *, terminal: bool = False) -> bytes:
    """One line of ours. A terminal in raw mode needs its carriage return."""
    return f"hopgate: {visible(text)}".encode() + (b"\r\n" if terminal else b"\n")


def denied(decision: Decision, operation: Operation) -> str:
    """Why an operation may not be, and where the ledger has it."""
    sentence = decision.message if decision.approval and decision.message else explain(decision, operation)
    return f"{sentence} (operation {decision.operation})" if decision.operation else sentence


def held(decision: Decision) -> str:
    """What a caller waits for, and what a reviewer does about it."""
    return f"{decision.message} (hopgate approvals approve {decision.approval})"
