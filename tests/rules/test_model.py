"""Decisions are told apart by the operation that they are of, and by nothing else that was decided."""

from __future__ import annotations

from dataclasses import fields, replace

from rules.model import Decision, Hold, Limits, Mask


def test_a_decision_of_an_operation_is_the_same_but_for_it() -> None:
    decision = Decision(
        "hold", ("a", "b"), "why", (Mask("m"),), (Hold("a", ("dba",)),), Limits(rows=1), "v", ("u",), approval="x", operation="s.1"
    )
    assert all(getattr(decision, each.name) != getattr(Decision("allow"), each.name) for each in fields(Decision))
    assert decision.of("s.2") == replace(decision, operation="s.2")
    assert decision.operation == "s.1"
