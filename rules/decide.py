"""decide(operation, principal, connection, rules) -> Decision: the only decision function. Pure; deny is its default.

Deny beats hold beats allow; what no rule matches is denied. A rule that cannot be evaluated never permits anything: an
allow does not apply, deny and hold deny, a mask applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from rules.expressions import Scope
from rules.index import Candidates, Selection
from rules.match import Truth, all_of, guarded
from rules.model import UNKNOWN, Connection, Decision, Effect, Facts, Limits, Operation, Principal
from rules.rule import Rule
from rules.ruleset import RuleSet

NO_RULE: Final = "no rule allows this"
_MOST_PARTS: Final = 10_000


def decide(operation: Operation, principal: Principal, connection: Connection, rules: RuleSet) -> Decision:
    """What all rules add up to for one operation, the strictest part first where it has parts.

    A response-phase operation is denied or allowed (it was already executed) and carries every mask that applies to it.
    """
    if operation.parts:
        return _parts(operation, principal, connection, rules)
    return _one(operation, principal, connection, rules)


def _one(operation: Operation, principal: Principal, connection: Connection, rules: RuleSet) -> Decision:
    facts = operation.facts
    candidates = rules.candidates(operation.kind, operation.phase, principal, connection)
    if operation.kind == "http":
        selection = candidates.select(operation.complete, _given(facts, "path"), _given(facts, "method"))
    elif operation.kind in ("sql", "ssh"):
        selection = candidates.select_words(operation.complete, facts.get, operation.kind)
    else:
        selection = candidates.select(operation.complete)
    known, unknown = _applying(selection, operation, principal, connection)
    outcome = (known, unknown)
    found = selection.decisions.get(outcome)
    if found is None:
        found = _weigh(operation, (*selection.settled, *known), unknown, rules.version)
        if operation.complete:  # the message of an incomplete one quotes its reason
            selection.remember(outcome, found)
    return found if found.effect != "hold" else _covered(operation, found, candidates, principal, connection)


def _given(facts: Facts, name: str) -> Any:
    try:
        return facts.get(name)
    except Exception:
        return UNKNOWN


def _applying(
    selection: Selection, operation: Operation, principal: Principal, connection: Connection
) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules left open by the index that are true, and those that are unknown."""
    known: list[Rule] = []
    unknown: list[Rule] = []
    get = operation.facts.get
    scope: Scope | None = None
    for rule, tests in selection.open:
        doubt = False
        for test in tests:
            try:
                truth = test(get)
            except Exception:
                truth = UNKNOWN
            if truth is False:
                break
            if truth is not True:
                doubt = True
        else:
            if rule.when is not None or rule.reason is not None:
                scope = scope or Scope(operation, principal, connection)
                truth = _late(rule, operation, scope)
                if truth is False:
                    continue
                doubt = doubt or truth is not True
            (unknown if doubt else known).append(rule)
    return tuple(known), tuple(unknown)


def _late(rule: Rule, operation: Operation, scope: Scope) -> Truth:
    """What is asked only where nothing else is false: the operation's reason, then `when:`."""
    reason: Truth = True if rule.reason is None else rule.reason(operation.reason)
    if reason is False or rule.when is None:
        return reason
    truth = rule.when.truth(scope)
    return truth if truth is False or reason is True else UNKNOWN


def truth_of(rule: Rule, operation: Operation, scope: Scope) -> Truth:
    """Whether all conditions of a rule hold, without the index: false beats unknown, an exception is unknown, `when:` comes last."""
    if rule.complete is not None and rule.complete is not operation.complete:
        return False
    early = all_of(guarded(condition.test, operation.facts.get) for condition in rule.conditions)
    if early is False or (rule.when is None and rule.reason is None):
        return early
    late = _late(rule, operation, scope)
    return late if late is False or early is True else UNKNOWN


def _weigh(operation: Operation, known: Sequence[Rule], doubtful: Sequence[Rule], version: str) -> Decision:
    """Add up the rules that are true and those that are unknown, in the order of their ids."""
    permitting = [rule for rule in known if operation.complete or rule.complete is False]
    holding = _sorted(rule for rule in permitting if rule.effect == "hold")
    allowing = _sorted(rule for rule in permitting if rule.effect == "allow")
    held = frozenset(holding)
    denying = _sorted(
        [rule for rule in known if rule.effect == "deny" or (rule.effect == "hold" and rule not in held)]
        + [rule for rule in doubtful if rule.effect in ("deny", "hold")]
    )
    unknown = _ids(_sorted(doubtful))
    masks = tuple(rule.mask for rule in _sorted((*known, *doubtful)) if rule.mask is not None)
    if denying:
        message = _messages(denying) or _why_denied(operation, denying, unknown) or "not permitted"
        return Decision("deny", _ids(denying), message, masks, version=version, unknown=unknown)
    if operation.phase == "response":
        return Decision("allow", masks=masks, version=version, unknown=unknown)
    if holding:
        holds = tuple(rule.hold for rule in holding if rule.hold is not None)
        limits = tightest(rule.limits for rule in (*holding, *allowing))
        return Decision("hold", _ids(holding), _messages(holding) or "a reviewer decides", masks, holds, limits, version, unknown)
    if allowing:
        limits = tightest(rule.limits for rule in allowing)
        return Decision("allow", _ids(allowing), _messages(allowing), masks, (), limits, version, unknown)
    return Decision("deny", (), _default(operation, unknown), masks, version=version, unknown=unknown)


def _sorted(rules: Iterable[Rule]) -> list[Rule]:
    return sorted(rules, key=lambda rule: rule.id)


def _ids(rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple(rule.id for rule in rules)


def _messages(rules: Iterable[Rule]) -> str:
    return "; ".join(dict.fromkeys(rule.message for rule in rules if rule.message))


def _why_denied(operation: Operation, denying: Sequence[Rule], unknown: tuple[str, ...]) -> str:
    if all(rule.id in unknown for rule in denying):
        return "its conditions could not be evaluated for this"
    if not operation.complete and all(rule.effect == "hold" for rule in denying):
        return f"the gateway did not understand all of it ({operation.reason or 'no reason given'})"
    return ""


def _default(operation: Operation, unknown: tuple[str, ...]) -> str:
    if not operation.complete:
        return f"{NO_RULE}: the gateway did not understand all of it ({operation.reason or 'no reason given'})"
    if unknown:
        return f"{NO_RULE}: {', '.join(f'`{rule}`' for rule in unknown)} could not be evaluated for it"
    return NO_RULE


def tightest(limits: Iterable[Limits]) -> Limits:
    """The smallest of each limit that is set."""
    rows: list[int] = []
    sizes: list[int] = []
    rates: list[int] = []
    for one in limits:
        for found, value in ((rows, one.rows), (sizes, one.bytes), (rates, one.operations_per_minute)):
            if value is not None:
                found.append(value)
    return Limits(min(rows, default=None), min(sizes, default=None), min(rates, default=None))


# --- a hold permits no more than rules do


class _Only:
    """Facts in which one list has one member only."""

    __slots__ = ("_base", "_member", "_name")

    def __init__(self, operation: Operation, name: str, key: str, member: Any) -> None:
        self._base = operation.facts
        self._name = name
        self._member = {**operation.facts.get(name), key: [member]} if key else [member]

    def get(self, name: str) -> Any:
        return self._member if name == self._name else self._base.get(name)


def _covered(operation: Operation, decision: Decision, candidates: Candidates, principal: Principal, connection: Connection) -> Decision:
    """`decision`, or a denial when some member of a list that a hold rule names is matched by no hold or allow rule."""
    permitting = [
        rule
        for rule in candidates.rules
        if rule.effect in ("hold", "allow") and rule not in candidates.doubtful and (operation.complete or rule.complete is False)
    ]
    for holding in (rule for rule in permitting if rule.id in decision.rules):
        for name, key in holding.lists:
            for member in _members(operation, name, key):
                alone = replace(operation, facts=_Only(operation, name, key, member))
                scope = Scope(alone, principal, connection)
                if not any(truth_of(rule, alone, scope) is True for rule in permitting):
                    shown = f"{name} {key} `{member}`" if key else f"{name} `{member}`"
                    message = f"a reviewer may not permit what no rule allows or holds: {shown[:200]}"
                    return replace(decision, effect="deny", rules=(holding.id,), message=message, holds=(), limits=Limits())
    return decision


def _members(operation: Operation, name: str, key: str) -> Sequence[Any]:
    values = operation.facts.get(name)
    if key:
        values = values.get(key) if hasattr(values, "get") else UNKNOWN
    if values is None:
        return ()
    if isinstance(values, set | frozenset):
        return sorted(values, key=str)
    return values if isinstance(values, list | tuple) else (values,)


# --- parts


def _parts(operation: Operation, principal: Principal, connection: Connection, rules: RuleSet) -> Decision:
    """Each part decided by itself; the strictest effect, the holds and masks of all."""
    if len(operation.parts) > _MOST_PARTS:
        return Decision("deny", message=f"more than {_MOST_PARTS} parts", version=rules.version)
    decisions = [_one(part, principal, connection, rules) for part in _flattened(operation)]
    effects = {decision.effect for decision in decisions}
    strictest: Effect = "deny" if "deny" in effects else "hold" if "hold" in effects else "allow"
    leading = [decision for decision in decisions if decision.effect == strictest]
    return Decision(
        strictest,
        _merged(decision.rules for decision in leading),
        "; ".join(_merged((decision.message,) for decision in leading if decision.message)),
        tuple(sorted(_merged(decision.masks for decision in decisions), key=lambda mask: mask.rule)),
        tuple(sorted(_merged(decision.holds for decision in leading), key=lambda hold: hold.rule)),
        tightest(decision.limits for decision in decisions),
        rules.version,
        tuple(sorted(_merged(decision.unknown for decision in decisions))),
    )


def _flattened(operation: Operation) -> list[Operation]:
    """The parts, and theirs; none is more complete than what contains it."""
    found = []
    for part in operation.parts:
        if operation.complete is False and part.complete:
            part = replace(part, complete=False, reason=operation.reason)
        found.extend(_flattened(part) if part.parts else [part])
    return found


def _merged[T](groups: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(one for group in groups for one in group))
