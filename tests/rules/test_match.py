"""Three truths, quantifiers, and values that cannot be compared."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.match import Comparison, FormText, Pattern, Quantifier, Truth, all_of, any_of, as_number, compile_member, negated, quantified
from rules.model import UNKNOWN
from rules.patterns import BadPattern
from rules.vocabulary import FACTS, Fact, Shape

TRUTHS = st.sampled_from([True, False, UNKNOWN])
ORDER = {False: 0, UNKNOWN: 1, True: 2}
VALUE = Fact("v", Shape.VALUE)


@given(st.lists(TRUTHS, max_size=5))
def test_and_and_or_are_least_and_greatest(truths: list[Truth]) -> None:
    assert ORDER[all_of(truths)] == min((ORDER[truth] for truth in truths), default=2)
    assert ORDER[any_of(truths)] == max((ORDER[truth] for truth in truths), default=0)
    assert any_of(negated(truth) for truth in truths) is negated(all_of(truths))


@given(st.lists(TRUTHS, max_size=5))
def test_quantifiers(truths: list[Truth]) -> None:
    assert quantified(truths, lambda truth: truth, Quantifier.SOME) is any_of(truths)
    assert quantified(truths, lambda truth: truth, Quantifier.ALL) is all_of(truths)
    assert quantified(truths, lambda truth: truth, Quantifier.ALL_OF_SOME) is (all_of(truths) if truths else False)


@pytest.mark.parametrize(
    ("patterns", "value", "truth"),
    [
        (["a"], "a", True),
        (["a"], "b", False),
        (["a"], 1, UNKNOWN),
        (["a"], None, UNKNOWN),
        (["a"], ["a"], UNKNOWN),
        ([1], 1, True),
        ([1], 1.0, True),
        ([1], Decimal("1.000"), True),
        ([Decimal("0.1")], Decimal("0.1"), True),
        ([1], True, UNKNOWN),
        ([1], "1", UNKNOWN),
        ([1], FormText("1"), True),
        (["1"], FormText("1"), True),
        ([1], FormText("1e0"), UNKNOWN),
        ([1], FormText("１"), UNKNOWN),
        ([1], float("nan"), UNKNOWN),
        ([1], Decimal("NaN"), UNKNOWN),
        ([True], True, True),
        ([True], False, False),
        ([True], 1, UNKNOWN),
        ([None], None, True),
        ([None], 0, False),
        ([None], [], UNKNOWN),
        ([None, "a"], None, True),
        ([Comparison((("gt", 1), ("lte", 2)))], 2, True),
        ([Comparison((("gt", 1), ("lte", 2)))], 1, False),
        ([Comparison((("gt", 1),))], 10**400, True),
        ([Comparison((("gt", 1),))], Decimal("1e999999"), True),
        ([Comparison((("gt", 1),))], float("inf"), True),
        ([Comparison((("gt", 1),))], "2", UNKNOWN),
        ([Comparison((("gt", 1),)), "2"], "2", True),
        ([UNKNOWN, "a"][1:], UNKNOWN, UNKNOWN),
    ],
)
def test_values(patterns: list[Pattern], value: Any, truth: Truth) -> None:
    assert compile_member(VALUE, patterns, strict=True)(value) is truth


@pytest.mark.parametrize("text", ["", "-", ".", "+-1", "1.2.3", "1_0", " 1", "0x1", "1" * 65, "Infinity"])
def test_texts_that_are_no_numbers(text: str) -> None:
    assert as_number(FormText(text)) is None


def test_a_word_that_is_not_known_is_unknown() -> None:
    member = compile_member(FACTS["sql"]["verbs"], ["select", "copy_*"], strict=False)
    assert [member(value) for value in ("select", "copy_out", "drop", "frobnicate", 5)] == [True, True, False, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("kind", FACTS)
def test_every_fact_refuses_patterns_of_another_type_and_is_unknown_for_strange_values(kind: Any) -> None:
    good: dict[Shape, Pattern] = {Shape.NUMBER: 1, Shape.FLAG: True, Shape.PATH: "/a", Shape.CIDR: "10.0.0.0/8"}
    for fact in FACTS[kind].values():
        pattern = good.get(fact.shape, sorted(fact.words)[0] if fact.words else "a")
        assert compile_member(fact, [pattern], strict=False)(object()) is UNKNOWN
        if fact.shape not in (Shape.VALUE, Shape.BODY):
            with pytest.raises(BadPattern):
                compile_member(fact, ["text" if fact.shape in (Shape.NUMBER, Shape.FLAG) else 5], strict=False)
