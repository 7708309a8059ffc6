"""Decision -> the sentence that people read, and each rule's part in it."""

from __future__ import annotations

from rules.model import Decision, Operation


def explain(decision: Decision, operation: Operation) -> str:
    """One sentence for wire errors and the ledger: "rule `no-unbounded-delete` denies this: give it a WHERE clause"."""
    if not decision.rules:
        return decision.message or _BARE[decision.effect]
    names = ", ".join(f"`{rule}`" for rule in decision.rules)
    verb = {"allow": "allow", "deny": "deny", "hold": "hold"}[decision.effect]
    plural = len(decision.rules) > 1
    sentence = f"rule{'s' if plural else ''} {names} {verb if plural else verb.replace('deny', 'denie') + 's'} this"
    return f"{sentence}: {decision.message}" if decision.message else sentence


_BARE = {"allow": "this is allowed", "deny": "this is denied", "hold": "this waits for a reviewer"}
