"""Strategies, and which one wins."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from rules.masking.numbers import Number
from rules.masking.strategies import HIDDEN, REDACTED, Treatment, strongest
from rules.model import Mask, Strategy

KEY = b"k" * 32
ORDER: list[Strategy] = ["partial", "hash", "fixed", "redact", "null"]


def treatment(strategy: Strategy, **given: Any) -> Treatment:
    return Treatment.of(Mask("r", strategy=strategy, **given), KEY)


@pytest.mark.parametrize(
    ("strategy", "given", "value", "expected"),
    [
        ("redact", {}, "secret", REDACTED),
        ("redact", {}, {"a": 1}, REDACTED),
        ("redact", {}, None, REDACTED),
        ("fixed", {"value": "n/a"}, 12, "n/a"),
        ("null", {}, [1], None),
        ("partial", {"keep": 4}, "4111111111111111", HIDDEN + "1111"),
        ("partial", {"keep": 4}, "12345678", HIDDEN + "5678"),
        ("partial", {"keep": 4}, "1234567", HIDDEN),
        ("partial", {"keep": 0}, "12345678", HIDDEN),
        ("partial", {"keep": -3}, "12345678", HIDDEN),
        ("partial", {"keep": 4}, 4111111111111111, HIDDEN + "1111"),
        ("partial", {"keep": 4}, Number("12345678901234567890123"), HIDDEN + "0123"),
        ("partial", {"keep": 1}, True, HIDDEN),
        ("partial", {"keep": 1}, None, HIDDEN),
        ("partial", {"keep": 4}, {"a": "12345678"}, HIDDEN),
        ("partial", {"keep": 4}, [1, 2, 3, 4, 5, 6], HIDDEN),
        ("partial", {"keep": 2}, "äöüß", HIDDEN + "üß"),
    ],
)
def test_what_a_strategy_makes_of_a_value(strategy: Strategy, given: dict[str, Any], value: Any, expected: Any) -> None:
    assert treatment(strategy, **given).of_value(value) == expected


def test_hash_is_keyed_and_the_same_for_text_and_bytes() -> None:
    hashed = treatment("hash").of_value("äb")
    assert hashed.startswith("hmac:")
    assert len(hashed) == 21
    assert treatment("hash").of_bytes("äb".encode()) == hashed.encode()
    assert Treatment.of(Mask("r", strategy="hash"), b"other").of_value("äb") != hashed
    assert treatment("hash").of_value({"b": 1, "a": 2}) == treatment("hash").of_value({"a": 2, "b": 1})
    assert treatment("hash").of_value(10**400).startswith("hmac:")
    assert treatment("hash").of_value(["\ud800"]).startswith("hmac:")


def test_hash_without_a_key_redacts() -> None:
    assert Treatment.of(Mask("r", strategy="hash"), b"").of_value("x") == REDACTED


@pytest.mark.parametrize("pair", list(itertools.combinations(ORDER, 2)))
def test_the_stronger_of_two_wins_in_either_order(pair: tuple[Strategy, Strategy]) -> None:
    weak, strong = (treatment(strategy) for strategy in pair)
    assert strongest((weak, strong)).strategy == strongest((strong, weak)).strategy == pair[1]


def test_of_two_partial_ones_that_keeps_less_wins() -> None:
    assert strongest((treatment("partial", keep=8), treatment("partial", keep=2))).keep == 2


def test_the_key_is_not_shown() -> None:
    assert "kkkk" not in repr(treatment("hash"))
