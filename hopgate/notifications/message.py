"""What a channel is told of an approval: enough to know whether to look, nothing that a chat or a mailbox must not keep.

Never the text, headers or parameters of the operation: a channel is read by more people than the console, and kept for longer.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hopgate.store import Approval
from rules.masking.detectors import find

_LONGEST: Final = 160
_TOLD: Final = ("http", "sql", "session")  # their titles are made of names: method and path, verbs and tables
_SHOWN: Final = {"<": "‹", ">": "›", "@": "＠", "`": "'", "|": "¦"}
HIDDEN: Final = "[hidden]"


@dataclass(frozen=True, slots=True)
class Message:
    """A redacted summary. `url` leads to the card, which takes signing in: it is no capability."""

    approval: str
    operation: str
    requester: str
    connection: str
    rules: tuple[str, ...]
    reviewers: tuple[str, ...]
    asked_at: float
    deadline: float
    url: str

    @property
    def title(self) -> str:
        return f"Approval wanted: {self.operation} on {self.connection}"

    @property
    def body(self) -> str:
        """Plain text, a line for each fact."""
        until = datetime.fromtimestamp(self.deadline, UTC)
        lines = [
            f"{self.requester} asks for: {self.operation}",
            f"Connection: {self.connection}",
            f"Rule: {', '.join(self.rules)}",
            f"Reviewers: {', '.join(self.reviewers)}",
            f"Until: {until:%Y-%m-%d %H:%M:%S} UTC",
        ]
        return "\n".join([*lines, f"Decide: {self.url}"] if self.url else [*lines, f"Decide: hopgate approvals show {self.approval[:12]}"])

    def data(self) -> dict[str, Any]:
        """The same as JSON values, times in RFC 3339."""
        return {
            "approval": self.approval,
            "operation": self.operation,
            "requester": self.requester,
            "connection": self.connection,
            "rules": list(self.rules),
            "reviewers": list(self.reviewers),
            "asked_at": rfc3339(self.asked_at),
            "deadline": rfc3339(self.deadline),
            "url": self.url,
        }


def message_of(approval: Approval, console: str) -> Message:
    """What may be told of `approval`; `console` is the console's URL, empty where there is none."""
    return Message(
        approval=approval.id,
        operation=_operation(approval),
        requester=_plain(approval.requester),
        connection=_plain(approval.connection),
        rules=tuple(each.rule for each in approval.requirements),
        reviewers=tuple(sorted({group for each in approval.requirements for group in each.reviewers})),
        asked_at=approval.created_at,
        deadline=approval.deadline,
        url=f"{console.rstrip('/')}/approvals/{approval.id}" if console else "",
    )


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _operation(approval: Approval) -> str:
    title, kind = approval.title, approval.facts.get("kind")
    if kind not in _TOLD:
        # a command line may hold a password anywhere: its first word tells what it is about
        first, _, rest = title.strip().partition(" ")
        title = HIDDEN if "=" in first else f"{first} …" if rest else first
    elif kind == "http":
        title = title.partition("?")[0]
    for start, end, _ in reversed(find(title)):
        title = title[:start] + HIDDEN + title[end:]
    return _plain(title)


def _plain(text: str) -> str:
    """One line in which nothing is invisible, turns direction, or speaks to a chat's markup or its members."""
    shown = "".join("?" if unicodedata.category(each)[0] == "C" else _SHOWN.get(each, each) for each in text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
