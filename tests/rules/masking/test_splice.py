"""Cutting values out of JSON text gives what walking the document gives."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.masking.document import _replace
from rules.masking.result import Counts
from rules.masking.splice import splice
from rules.masking.strategies import Treatment
from rules.model import Mask

NAMES = ("password", "token", "a.b*", "ключ")
WANTED = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(
        lambda strategy, value: Treatment.of(Mask("r", strategy=strategy, keep=2, value=value), b"key"),
        st.sampled_from(["null", "redact", "fixed", "hash", "partial"]),
        st.sampled_from(["", "x", '"', "\\", "password"]),
    ),
    min_size=1,
)
KEYS = st.sampled_from((*NAMES, "id", "pass", "word", ":", "passwords")) | st.text("ab:{}[], ", max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | KEYS
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20)


@given(DOCUMENTS, WANTED, st.sampled_from([None, 1]))
def test_it_gives_what_the_walk_gives(document: Any, wanted: dict[str, Treatment], indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=indent).encode()
    if b"\\" in text:
        return
    counts, walked = Counts(), Counts()
    spliced = splice(text, wanted, counts)
    if spliced is None:
        assert counts == {}
        return
    holder = [json.loads(text)]
    _replace(holder, wanted, walked)
    assert json.loads(spliced) == holder[0]
    assert counts == walked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (b'{"password":"x"}', b'{"password":"[redacted]"}'),
        (b'{"password" :\n "x" , "n": 1.10}', b'{"password" :\n "[redacted]" , "n": 1.10}'),
        (b'{"password":1e400000,"password":null}', b'{"password":"[redacted]","password":"[redacted]"}'),
        (b'{"a":{"password":true},"a":[{"password":-1.50}]}', b'{"a":{"password":"[redacted]"},"a":[{"password":"[redacted]"}]}'),
        (b'["password", "password"]', b'["password", "password"]'),
        (b'{"passwords":"x","pass":"password"}', b'{"passwords":"x","pass":"password"}'),
        (b'{"n":123456789012345678901234567890.10,"password":"x"}', b'{"n":123456789012345678901234567890.10,"password":"[redacted]"}'),
        (b'{"password":{"x":1}}', None),
        (b'{"x":{"password": [1]}}', None),
    ],
)
def test_every_other_byte_stays(text: bytes, masked: bytes | None) -> None:
    assert splice(text, {"password": Treatment("r")}, Counts()) == masked


def test_a_mask_that_brings_a_backslash_is_left_to_the_walk() -> None:
    assert splice(b'{"password":"x"}', {"password": Treatment("r", "fixed", value='say "no"')}, Counts()) is None
    assert orjson.loads(splice(b'{"password":"x"}', {"password": Treatment("r", "fixed", value="no")}, Counts()) or b"") == {
        "password": "no"
    }
