"""What a card shows of an approval, for one reviewer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hopgate.console.roles import Role
from hopgate.errors import Denied
from hopgate.history import Card
from hopgate.reviewers import may_review
from hopgate.scopes import scope_seconds
from hopgate.store import Approval
from rules.model import Principal

LONG: Final = 6000  # characters; a longer text is decided on the approval's own page, where all of it stands
_HIDDEN_FACTS: Final = frozenset({"kind", "complete", "reason"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A card and who looks at it."""

    card: Card
    may_decide: bool
    why_not: str
    whole: bool  # whether the whole text is shown here
    now: float

    @property
    def approval(self) -> Approval:
        return self.card.approval

    @property
    def kind(self) -> str:
        return str(self.approval.facts.get("kind", ""))

    @property
    def complete(self) -> bool:
        return bool(self.approval.facts.get("complete", True))

    @property
    def reason(self) -> str:
        return str(self.approval.facts.get("reason", "") or "")

    @property
    def facts(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.approval.facts.items() if name not in _HIDDEN_FACTS}

    @property
    def text(self) -> str:
        text = self.approval.text
        return text if self.whole else text[:LONG]

    @property
    def cut(self) -> int:
        """Characters that are not shown here."""
        return 0 if self.whole else max(0, len(self.approval.text) - LONG)

    @property
    def scopes(self) -> tuple[tuple[str, str], ...]:
        return tuple((scope, scope_words(scope)) for scope in self.approval.scopes)

    @property
    def left(self) -> float:
        return self.approval.deadline - self.now


def show(card: Card, reviewer: Principal, roles: frozenset[Role], owners: Mapping[str, str], *, whole: bool = False) -> Shown:
    """The card as this person sees it."""
    why = "" if card.approval.pending else f"it is {card.approval.state}"
    if not why and "reviewer" not in roles:
        why = "you may look, and not decide"
    if not why:
        why = _why_not(card.approval, reviewer, owners)
    whole = whole or len(card.approval.text) <= LONG
    return Shown(card, not why and whole, why or ("" if whole else "all of the text must be on the screen first"), whole, time.time())


def _why_not(approval: Approval, reviewer: Principal, owners: Mapping[str, str]) -> str:
    if any((vote.issuer, vote.subject) == reviewer.identity for vote in approval.votes):
        return "you have decided on this already"
    try:
        may_review(approval, reviewer, owners)
    except Denied as error:
        return error.message
    return ""


def scope_words(scope: str) -> str:
    """`once` or `fingerprint-15m` as people say it."""
    seconds = scope_seconds(scope)
    return "this once" if not seconds else f"this very operation, for {seconds / 60:.0f} min"
