"""Decision -> the sentence that people read; and, for `hopgate explain`, each rule's part in it and the facts it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from rules.expressions import Scope
from rules.match import Truth, guarded
from rules.model import UNKNOWN, Connection, Decision, Operation, Principal
from rules.rule import Rule
from rules.ruleset import RuleSet
from rules.vocabulary import FACTS, Shape

_BARE: Final = {"allow": "this is allowed", "deny": "this is denied", "hold": "this waits for a reviewer"}
_ONE: Final = {"allow": "allows", "deny": "denies", "hold": "holds"}
_SHOWN: Final = 2000  # characters of one fact


def explain(decision: Decision, operation: Operation) -> str:
    """One sentence for wire errors and the ledger: "rule `no-unbounded-delete` denies this: give it a WHERE clause"."""
    if not decision.rules:
        return decision.message or _BARE[decision.effect]
    names = ", ".join(f"`{rule}`" for rule in decision.rules)
    several = len(decision.rules) > 1
    sentence = f"rules {names} {decision.effect} this" if several else f"rule {names} {_ONE[decision.effect]} this"
    return f"{sentence}: {decision.message}" if decision.message else sentence


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule's part in a decision. `condition` is the first that is false or unknown: `match.path`, `who.groups`, `when` …"""

    rule: str
    effect: str
    truth: Literal["true", "false", "unknown"]
    condition: str = ""
    source: str = ""


def why(operation: Operation, principal: Principal, connection: Connection, rules: RuleSet) -> tuple[RuleTrace, ...]:
    """What every rule of this kind and phase says about each part of the operation, and the condition that made it so."""
    parts = operation.parts or (operation,)
    return tuple(
        _trace(rule, part, principal, connection)
        for part in parts
        for rule in rules.rules
        if part.kind in rule.kinds and (rule.phase == part.phase or (part.phase == "response" and rule.effect == "mask"))
    )


def _trace(rule: Rule, operation: Operation, principal: Principal, connection: Connection) -> RuleTrace:
    doubt = ""
    for label, truth in _truths(rule, operation, principal, connection):
        if truth is False:
            return RuleTrace(rule.id, rule.effect, "false", label, rule.source)
        if truth is not True:
            doubt = doubt or label
    return RuleTrace(rule.id, rule.effect, "unknown" if doubt else "true", doubt, rule.source)


def _truths(rule: Rule, operation: Operation, principal: Principal, connection: Connection) -> list[tuple[str, Truth]]:
    """Every condition with its truth; `when:` only where nothing else is false."""
    found: list[tuple[str, Truth]] = [(one.label, _safe(one.test, principal)) for one in rule.who]
    found += [(one.label, _safe(one.test, connection)) for one in rule.where]
    if rule.complete is not None:
        found.append(("match.complete", rule.complete is operation.complete))
    if not operation.complete and rule.complete is not False and rule.effect == "allow":
        found.append(("complete", False))
    found += [(condition.label, guarded(condition.test, operation.facts.get)) for condition in rule.conditions]
    if rule.reason is not None:
        found.append(("match.reason", rule.reason(operation.reason)))
    if rule.when is not None and not any(truth is False for _, truth in found):
        found.append(("when", rule.when.truth(Scope(operation, principal, connection))))
    return found


def _safe(test: Any, subject: object) -> Truth:
    try:
        truth: Truth = test(subject)
    except Exception:
        return UNKNOWN
    return truth


def shown_facts(operation: Operation) -> Mapping[str, Any]:
    """The operation's facts as JSON values, for `explain --json`: long texts cut, unknown ones named so, no header values."""
    found: dict[str, Any] = {}
    for name, fact in FACTS[operation.kind].items():
        if name in ("complete", "reason") or (fact.phase == "response" and operation.phase == "request"):
            continue
        try:
            value = operation.facts.get(name)
        except Exception:
            value = UNKNOWN
        if value is not None:
            found[name] = sorted(value) if fact.shape is Shape.HEADERS and isinstance(value, Mapping) else _json(value)
    if "complete" in FACTS[operation.kind]:
        found["complete"] = operation.complete
        found["reason"] = operation.reason
    return found


def _json(value: Any) -> Any:
    if value is UNKNOWN:
        return "unknown"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_json(member) for member in value]
    if isinstance(value, set | frozenset):
        return sorted(str(member) for member in value)
    return str(value)[:_SHOWN]
