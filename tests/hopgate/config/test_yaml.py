"""Plain data with positions, and nothing but plain data."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.config.yaml import MAX_NODES, dotted, read

SCALARS = [
    ("text", "text"),
    ("yes", "yes"),  # YAML 1.2: no surprise booleans
    ("NO", "NO"),
    ("1:30", "1:30"),  # nor base 60
    ("true", True),
    ("12", 12),
    ("0x1F", 31),
    ("0o17", 15),
    ("-1_000", -1000),
    ("1.5", 1.5),
    (".inf", float("inf")),
    ("~", None),
    ("", None),
    ("2026-11-23", "2026-11-23"),
    ('"12"', "12"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars(text: str, value: object) -> None:
    document = read(f"key: {text}\n", "f")
    assert (document.data, document.problems) == ({"key": value}, [])
    assert type(document.data["key"]) is type(value)


def test_positions_of_keys_values_and_what_is_missing() -> None:
    document = read("a:\n  - b: 1\n    c:  two\n", "f")
    assert document.position(("a", 0, "c")) == (3, 5)
    assert document.position(("a", 0, "c"), value=True) == (3, 9)
    assert document.position(("a", 0, "missing")) == (2, 5)
    assert document.position(("nothing", 7)) == (1, 1)
    assert dotted(("a", 0, "c")) == "a[0].c"


BROKEN = [
    ("a: [1\nb: 2\n", "f:2:2: not YAML"),
    ("a: 1\na: 2\n", "f:2:1: a: is written twice; first in line 1"),
    ("x: {k: 1, k: 2}\n", "f:1:11: x.k: is written twice; first in line 1"),
    ("a: *nowhere\n", "f:1:4: not YAML"),
    ("a: !!python/name:os.system x\n", "f:1:4: a: the tag"),
    ("a: !include x\n", "f:1:4: a: the tag !include"),
    ("[1, 2]: x\n", "f:1:1: a key must be plain text"),
    ("base: &b {a: 1}\nx: {<<: *b}\n", "f:2:5: x: a key must be plain text"),
    ("a: 1\n---\nb: 2\n", "f:2:1: not YAML"),
    ("a: \0\n", "f:1:1: not YAML"),
    ("[" * 1000, "f:1:1: nested too deep"),
    ("!!int x: 1\na: !!int nonsense", "f:2:4: a: the tag"),
]


@pytest.mark.parametrize(("text", "problem"), BROKEN)
def test_what_is_not_plain_yaml_is_a_problem_with_its_place(text: str, problem: str) -> None:
    assert any(str(each).startswith(problem) for each in read(text, "f").problems), list(map(str, read(text, "f").problems))


def test_every_duplicate_is_named() -> None:
    assert len(read("a: 1\na: 2\nb: {c: 1, c: 2}\n", "f").problems) == 2


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    document = read("\n".join(lines), "f")
    assert document._nodes <= MAX_NODES + 1
    assert "too large" in str(document.problems[0])


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@ \n\t,?~0.<"), max_size=40))
def test_any_text_is_data_or_problems_and_never_an_exception(text: str) -> None:
    document = read(text, "f")
    assert document.problems or document.data is None or isinstance(document.data, str | int | float | bool | list | dict)
