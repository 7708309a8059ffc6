"""Decisions and sessions told: as fields of a ledger line, as what a refused caller reads, as a row of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hopgate.store import Approval, SessionRow
from rules.model import UNKNOWN, Decision, Operation

if TYPE_CHECKING:
    from hopgate.sessions.session import Session

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


# what a card shows beside the exact text: never what may hold a secret, which the text shows with its credentials taken out
_CARD_FACTS: Final[Mapping[str, tuple[str, ...]]] = {
    "session": ("kind", "peer", "weekday", "hour"),
    "http": ("method", "host", "path", "content_type", "body_bytes", "websocket"),
    "sql": ("verbs", "effects", "reads", "writes", "functions", "settings", "unbounded", "database"),
    "ssh": ("action", "programs", "facets", "op", "paths", "destination"),
    "rdp": ("action", "channel", "direction"),
}
_FACT: Final = 300  # characters of one value
_MEMBERS: Final = 40  # of a list


def card_facts(operation: Operation) -> dict[str, Any]:
    """What the gateway worked out about a held operation, for its card: short values and lists, unknown ones as `unknown`."""
    found: dict[str, Any] = {"kind": operation.kind, "complete": operation.complete, "reason": operation.reason}
    for name in _CARD_FACTS.get(operation.kind, ()):
        try:
            value = operation.facts.get(name)
        except KeyError:
            continue
        if name not in found and value not in (None, "", (), [], frozenset()):
            found[name] = _short(value)
    return found


def _short(value: Any) -> Any:
    if value is UNKNOWN:
        return "unknown"
    if isinstance(value, list | tuple | set | frozenset):
        members = [str(each)[:_FACT] for each in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
        return members[:_MEMBERS] + ["…"] * (len(members) > _MEMBERS)
    return value if isinstance(value, bool | int | float) else str(value)[:_FACT]


def refusal_of(decision: Decision, approval: Approval) -> Decision:
    """The denial that an approval ended in, with the reviewers' guidance."""
    words = _ENDED.get(approval.state, f"the approval is {approval.state}")
    guidance = f": {approval.comment}" if approval.comment else ""
    return replace(decision, effect="deny", message=f"{words}{guidance} ({approval.id})", approval=approval.id)


def session_row(session: Session, process: str, counts: tuple[int, int, int]) -> SessionRow:
    """What the store knows of a session. `counts`: its operations, and how many of them were denied and held."""
    operations, denied, held = counts
    return SessionRow(
        id=session.id,
        issuer=session.principal.issuer,
        subject=session.principal.subject,
        connection=session.view.name,
        kind=session.view.kind,
        process=process,
        opened_at=session.opened_at,
        peer=session.peer,
        groups=tuple(sorted(session.principal.groups)),
        run=session.principal.run,
        token_id=session.principal.token_id,
        recording=str(session.recording.path.relative_to(session.config.state)),
        operations=operations,
        denied=denied,
        held=held,
        bytes=session.allowance.bytes,
        active_at=session.used_at,
    )
