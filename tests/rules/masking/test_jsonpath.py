"""Compiled JSONPaths name the places that jsonpath-ng finds."""

from __future__ import annotations

import copy
import json
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath_ng.ext import parse

from rules.masking import compile_jsonpath, compile_plan
from rules.masking.document import DocumentMasks
from rules.masking.jsonpath import Path
from rules.masking.literals import Literals
from rules.masking.result import Counts
from rules.masking.scanner import Scanner
from rules.masking.strategies import REDACTED, Treatment
from rules.model import Mask

COMPILED = [
    "$",
    "$.a",
    "$['a']",
    "$.a.b",
    "$.a[0]",
    "$.a[-1]",
    "$.a[1:]",
    "$.a[::2]",
    "$[*]",
    "$.*",
    "$.a[*]",
    "$.a[*].b",
    "$.a.*",
    "$['a','b']",
    "$.a[0,1]",
    "$..a",
    "$..*",
    "$..[0]",
    "$..[*]",
    "$..a.b",
    "$..a[*]",
    "$..a[*].b",
    "$..a..b",
    "$..['a','b']",
    "$..[?@.a=='x'].b",
    "a.b",
    "$[?@.a]",
    "$.a[?@.b==1]",
    "$.a[?@.b=='x'].a",
    "$[?@.a==true]",
    "$..[?@.a==1].b",
    "$[?@=='x']",
    "$..a..a..a",
    "$[?@.a.b==1].c",
    "$[?@.a!='x']",
    "$[?@.a>1].b",
    "$[?@.a==null]",
    "$[?@.a=='x' && @.b==1].c",
    "$[?@.a=='x' || @.b==1].c",
    "$[?!@.a].b",
    "$[?@.a=~'x.*'].b",
    "$..[?@.a==@.b].c",
]
ASKED = ["$.a.`parent`", "$.a where b", "$[?@.a==$.b].c"]  # jsonpath-ng finds these

_SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "x", "xy", ""])
DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)),
    max_leaves=14,
)


def ng(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return parse(text)


def masked(path: Path, document: Any) -> Any:
    holder = [copy.deepcopy(document)]
    DocumentMasks(((path, Treatment("r")),), Scanner((), Literals(()))).apply(holder, Counts(), None, None)
    return holder[0]


def replaced_by_ng(text: str, document: Any) -> Any:
    """jsonpath-ng finds everything first and then replaces: its own `update` skips filters on objects and sees what it already replaced."""
    document = copy.deepcopy(document)
    for found in ng(text).find(document):
        if found.context is None:
            return REDACTED
        [key] = found.path.fields if hasattr(found.path, "fields") else found.path.indices
        found.context.value[key] = REDACTED
    return document


@settings(max_examples=900, deadline=None)
@given(text=st.sampled_from(COMPILED + ASKED), document=DOCUMENTS)
def test_replaces_what_jsonpath_ng_finds(text: str, document: Any) -> None:
    if "`parent`" in text and (not isinstance(document, dict) or "a" not in document):
        return
    assert masked(compile_jsonpath(text), document) == replaced_by_ng(text, document)


@settings(max_examples=600, deadline=None)
@given(text=st.sampled_from([text for text in COMPILED if "?" not in text and text != "$"]), document=DOCUMENTS)
def test_is_what_jsonpath_ng_updates(text: str, document: Any) -> None:
    assert masked(compile_jsonpath(text), document) == ng(text).update(copy.deepcopy(document), REDACTED)


@pytest.mark.parametrize("text", COMPILED)
def test_common_forms_have_a_closure(text: str) -> None:
    assert compile_jsonpath(text)._step is not None


@pytest.mark.parametrize("text", ["", "$.", "$[", "not a path!", "$.a.`len`", "$.a + 1", "$.a.`sub(/x/, y)`", "$[?]"])
def test_what_names_no_place_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        compile_jsonpath(text)
    with pytest.raises(ValueError):
        compile_plan((Mask("r", jsonpath=(text,)),))


def test_a_filter_sees_the_document_before_any_mask() -> None:
    plan = compile_plan((Mask("kinds", jsonpath=("$.items[*].kind",)), Mask("values", jsonpath=("$.items[?@.kind=='secret'].value",))))
    body = plan.body("application/json", b'{"items":[{"kind":"secret","value":1},{"kind":"other","value":2}]}')
    assert json.loads(body.data) == {"items": [{"kind": REDACTED, "value": REDACTED}, {"kind": REDACTED, "value": 2}]}
    assert body.counts == {"kinds": 2, "values": 1}


def test_a_chain_of_descents_is_linear_in_a_deep_document() -> None:
    document: Any = {}
    deep = document
    for _ in range(800):
        deep["a"] = {}
        deep = deep["a"]
    assert len(compile_jsonpath("$..a..a..a..a..a").places([document])) == 796
