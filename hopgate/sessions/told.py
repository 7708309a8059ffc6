"""Decisions told: as fields of a ledger line, and as what a refused caller reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hopgate.store import Approval
from rules.model import Decision, Operation

_TITLE: Final = 512  # characters of an operation's title in the ledger
_ENDED: Final = {
    "denied": "a reviewer denied this",
    "expired": "nobody approved this in time",
    "withdrawn": "the request was withdrawn",
    "cancelled": "the request was cancelled",
}


def decision_fields(operation: Operation, decision: Decision, literals: tuple[bytes, ...]) -> dict[str, Any]:
    """What the ledger says of a decided operation. `literals` are secrets that were injected: a title that quotes one has it taken out."""
    title = operation.title
    for literal in literals:
        text = literal.decode("utf-8", "replace")
        if text and text in title:
            title = title.replace(text, "[redacted]")
    fields: dict[str, Any] = {
        "operation": decision.operation,
        "kind": operation.kind,
        "title": title[:_TITLE],
        "effect": decision.effect,
        "rules": decision.rules,
        "version": decision.version,
    }
    if decision.approval:
        fields["approval"] = decision.approval
    if not operation.complete:
        fields["incomplete"] = operation.reason
    if decision.effect != "allow":
        fields["message"] = decision.message
    if decision.unknown:
        fields["unknown"] = decision.unknown
    return fields


def refusal_of(decision: Decision, approval: Approval) -> Decision:
    """The denial that an approval ended in, with the reviewers' guidance."""
    words = _ENDED.get(approval.state, f"the approval is {approval.state}")
    guidance = f": {approval.comment}" if approval.comment else ""
    return replace(decision, effect="deny", message=f"{words}{guidance} ({approval.id})", approval=approval.id)
