"""Plans: headers, URLs, and what is remembered."""

from __future__ import annotations

import pytest

from rules.masking import DETECTORS, Unmaskable, compile_plan
from rules.masking.names import NameMasks
from rules.masking.strategies import Treatment
from rules.model import Mask

MASKS = (
    Mask("names", headers=("set-cookie", "X-Api-*", "re:x-(a|b)")),
    Mask("found", detect=DETECTORS, strategy="partial", keep=4),
    Mask("query", query=("access_token", "sig?"), strategy="fixed", value="-"),
)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ((b"Set-Cookie", b"a=b"), b"[redacted]"),
        ((b"x-api-key", b"k"), b"[redacted]"),
        ((b"X-A", b"k"), b"[redacted]"),
        ((b"X-Ab", b"k"), b"k"),
        ((b"Authorization", b"Bearer abcdefghij12345678"), b"Bearer ****5678"),
        ((b"X-Mail", b"to bob@example.com, x"), b"to ****.com, x"),
        ((b"Location", b"https://h/cb?access_token=1&x=2"), b"https://h/cb?access_token=-&x=2"),
        ((b"Referer", b"/p?sigs=1"), b"/p?sigs=-"),
        ((b"Content-Type", b"application/json"), b"application/json"),
        ((b"X-Bytes", b"\xff\xfe"), b"\xff\xfe"),
    ],
)
def test_headers(field: tuple[bytes, bytes], expected: bytes) -> None:
    fields, counts = compile_plan(MASKS).headers([(b"A", b"1"), field, (b"A", b"2")])
    assert fields == ((b"A", b"1"), (field[0], expected), (b"A", b"2"))
    assert sum(counts.values()) == (expected != field[1])


def test_a_masked_header_cannot_end_its_line() -> None:
    plan = compile_plan((Mask("f", headers=("x",), strategy="fixed", value="a\r\nSet-Cookie: b"),))
    assert plan.headers([(b"X", b"1")])[0] == ((b"X", b"aSet-Cookie: b"),)


def test_header_masks_add_up_to_the_strongest() -> None:
    plan = compile_plan((Mask("a", headers=("x-*",), strategy="partial"), Mask("b", headers=("x-y",), strategy="null")))
    assert plan.headers([(b"X-Y", b"0123456789")]) == (((b"X-Y", b""),), {"b": 1})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/a?access_token=x&b=1", "/a?access_token=-&b=1"),
        ("/a?access%5Ftoken=x", "/a?access%5Ftoken=-"),
        ("/a?Access_Token=x", "/a?Access_Token=x"),
        ("/a?b=1;access_token=x", "/a?b=1;access_token=-"),
        ("/a?sig=1&sigs=2&sigss=3", "/a?sig=1&sigs=-&sigss=3"),
        ("/users/alice%40example.org/x%2Fy", "/users/****.org/x%2Fy"),
        ("/a?q=AKIA%49OSFODNN7EXAMPLE", "/a?q=****MPLE"),
        ("/a%2Fb?c=%7e#d", "/a%2Fb?c=%7e#d"),
        ("", ""),
    ],
)
def test_urls(url: str, expected: str) -> None:
    assert compile_plan(MASKS).url(url)[0] == expected


def test_names_remembered_are_bounded() -> None:
    names = NameMasks((("x*", Treatment("r")),), ignore_case=True)
    for number in range(10_000):
        assert names[f"x{number}"] is not None
        assert names[f"y{number}"] is None
        assert len(names._known) <= 2048


@pytest.mark.parametrize("mask", [Mask("r", headers=("re:(",)), Mask("r", query=("re:(?=x)",)), Mask("r", jsonpath=("$[",))])
def test_a_pattern_that_is_none_is_an_error(mask: Mask) -> None:
    with pytest.raises(ValueError) as error:
        compile_plan((mask,))
    assert not isinstance(error.value, Unmaskable)


def test_plans_are_compiled_once() -> None:
    assert compile_plan(MASKS, secrets=(b"abcd",)) is compile_plan(MASKS, secrets=(b"abcd",))
    assert compile_plan(MASKS) is not compile_plan(MASKS, secrets=(b"abcd",))


@pytest.mark.parametrize(
    "mask", [Mask("r", jsonpath=("$",)), Mask("r", headers=("a",)), Mask("r", query=("a",)), Mask("r", detect=("jwt",))]
)
def test_a_plan_with_one_mask_is_not_empty(mask: Mask) -> None:
    assert not compile_plan((mask,)).empty
