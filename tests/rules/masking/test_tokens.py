"""Cutting values out of JSON text gives what walking the document gives."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.masking.document import DocumentMasks
from rules.masking.jsonpath import compile_jsonpath
from rules.masking.result import Counts
from rules.masking.scanner import Scanner
from rules.masking.strategies import Treatment
from rules.masking.tokens import _located, mask_tokens
from rules.model import Mask

NOTHING = Scanner.of({}, ())
NAMES = ("password", "token", "key")
TREATMENTS = st.builds(
    lambda rule, strategy, value: Treatment.of(Mask(rule, strategy=strategy, keep=2, value=value), b"key"),
    st.sampled_from("rst"),
    st.sampled_from(["null", "redact", "fixed", "hash", "partial"]),
    st.sampled_from(["", "x", '"', "\\", "password"]),
)
PRIVATE = ("ada@customers.example", "AKIAIOSFODNN7EXAMPLE", "4111 1111 1111 1111", "see ada@customers.example, bo@customers.example")
KEYS = st.sampled_from((*NAMES, *PRIVATE, "id", ":", "passwords")) | st.text("ab:{}[], @", max_size=4)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(4111111111111111)
SCALARS = st.none() | st.booleans() | NUMBERS | KEYS
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20)


@given(
    DOCUMENTS,
    st.dictionaries(st.sampled_from(NAMES), TREATMENTS),
    st.dictionaries(st.sampled_from(["email", "aws_access_key", "card"]), TREATMENTS),
    st.sampled_from([None, 1]),
)
def test_it_gives_what_the_walk_gives(
    document: Any, wanted: dict[str, Treatment], detect: dict[str, Treatment], indent: int | None
) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=indent).encode()
    if b"\\" in text:
        return
    scanner = Scanner.of({name: [treatment] for name, treatment in detect.items()}, ())
    counts, walked = Counts(), Counts()
    masked = mask_tokens(text, wanted, scanner, counts)
    if masked is None:
        assert counts == {}
        return
    masks = DocumentMasks(tuple((compile_jsonpath(f"$..{name}"), treatment) for name, treatment in wanted.items()), Scanner.of({}, ()))
    holder = [json.loads(text)]
    masks.apply(holder, walked, None, scanner)
    assert json.loads(masked) == holder[0]
    assert counts == walked
    if not counts:
        assert masked is text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (b'{"password":"x"}', b'{"password":"[redacted]"}'),
        (b'{"password" :\n "x" , "n": 1.10}', b'{"password" :\n "[redacted]" , "n": 1.10}'),
        (b'{"password":"","password":"y"}', b'{"password":"[redacted]","password":"[redacted]"}'),
        (b'{"a":{"password":"x"},"a":[{"password":"y"}]}', b'{"a":{"password":"[redacted]"},"a":[{"password":"[redacted]"}]}'),
        (b'["password", "password"]', b'["password", "password"]'),
        (b'{"passwords":"x","pass":"password"}', b'{"passwords":"x","pass":"password"}'),
        (b'{"password":"password","x":"password"}', b'{"password":"[redacted]","x":"password"}'),
        (b'{"password":{"x":1}}', None),
        (b'{"x":{"password": [1]}}', None),
        (b'{"password":1e400000,"password" : true}', b'{"password":"[redacted]","password" : "[redacted]"}'),
        (b'[{"password": null, "x": "y"}]', b'[{"password": "[redacted]", "x": "y"}]'),
    ],
)
def test_every_other_byte_stays(text: bytes, masked: bytes | None) -> None:
    assert mask_tokens(text, {"password": Treatment("r")}, NOTHING, Counts()) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (b'["to ada@customers.example", 1.50]', b'["to [redacted]", 1.50]'),
        (b'{"password":"ada@customers.example"}', b'{"password":null}'),
        (b'{"ada@customers.example":1}', None),
        (b'{"x":"ada@customers.example","n":4111111111111111}', None),
    ],
)
def test_what_detectors_find(text: bytes, masked: bytes | None) -> None:
    scanner = Scanner.of({"email": [Treatment("found")]}, ())
    assert mask_tokens(text, {"password": Treatment("r", "null")}, scanner, Counts()) == masked


def test_what_is_shown_of_a_number_is_left_to_the_walk() -> None:
    assert mask_tokens(b'{"password":1.0}', {"password": Treatment("r", "partial", 1)}, NOTHING, Counts()) is None


def test_an_injected_secret_is_left_to_the_walk() -> None:
    assert mask_tokens(b'["hunter2-secret"]', {}, Scanner.of({}, (b"hunter2-secret",)), Counts()) is None


def test_where_in_many_strings_something_is_found() -> None:
    scanner = Scanner.of({name: [Treatment(name)] for name in ("email", "card", "private_key")}, ())
    kinds = [b"", b"x", b"a@b.cd", b"a@b.cd e@f.gh", b"4111111111111111"]
    for seed in range(200):
        strings = random.Random(seed).choices(kinds, k=1 + seed % 7)
        assert _located(strings, scanner) == {index: spans for index, each in enumerate(strings) if (spans := scanner.find(each))}
    assert _located([b"x", b"-----BEGIN PRIVATE KEY-----x", b"a@b.cd"], scanner) is None
