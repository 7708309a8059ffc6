"""Fingerprints and scopes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.scopes import common_scopes, fingerprint, scope_seconds
from rules.model import Exact, Hold, Principal
from tests.hopgate.people import AGENT, EXACT

WORDS = st.text(alphabet=":/\0ab", max_size=4)


@settings(max_examples=60)
@given(st.tuples(WORDS, WORDS, WORDS, st.binary(max_size=4)), st.tuples(WORDS, WORDS, WORDS, st.binary(max_size=4)))
def test_fingerprints_are_equal_only_where_all_fields_are(one: tuple[str, str, str, bytes], other: tuple[str, str, str, bytes]) -> None:
    found = [
        fingerprint(Principal(issuer, subject), connection, Exact("", "", payload)) for issuer, subject, connection, payload in (one, other)
    ]
    assert (found[0] == found[1]) is (one == other)


def test_fields_do_not_run_into_each_other() -> None:
    assert fingerprint(Principal("ab", "c"), "d", EXACT) != fingerprint(Principal("a", "bc"), "d", EXACT)
    assert fingerprint(Principal("a", "b"), "cd", EXACT) != fingerprint(Principal("a", "bc"), "d", EXACT)


def test_what_only_shows_the_operation_is_not_in_its_fingerprint() -> None:
    same = fingerprint(AGENT, "orders", EXACT)
    assert same == fingerprint(replace(AGENT, groups=frozenset({"x"}), token_id="y"), "orders", replace(EXACT, title="t", text="u"))
    # pinned: approvals outlive a release
    assert same == "v1:7438222a65f2ca0d7b76bc0bcf25bf327ec5daad03ad9f959476f370d0252000"


@pytest.mark.parametrize(
    ("scope", "seconds"), [("once", 0), ("fingerprint-1m", 60), ("fingerprint-15m", 900), ("fingerprint-1440m", 86400)]
)
def test_scopes_last_as_long_as_they_say(scope: str, seconds: float) -> None:
    assert scope_seconds(scope) == seconds


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "Once",
        "fingerprint-0m",
        "fingerprint-m",
        "fingerprint--5m",
        "fingerprint-1441m",
        "fingerprint-٣m",
        "15m",
        "fingerprint-15",
        "session",
    ],
)
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match="is no scope"):
        scope_seconds(scope)


@pytest.mark.parametrize(
    ("offered", "common"),
    [
        ([], ()),
        ([("once",)], ("once",)),
        ([("fingerprint-15m", "once", "fingerprint-5m")], ("once", "fingerprint-5m", "fingerprint-15m")),
        ([("once", "fingerprint-5m"), ("fingerprint-5m",)], ("fingerprint-5m",)),
        ([("once",), ("fingerprint-5m",)], ()),
    ],
)
def test_several_holds_leave_what_all_of_them_offer(offered: list[tuple[str, ...]], common: tuple[str, ...]) -> None:
    assert common_scopes(Hold(str(number), scopes=scopes) for number, scopes in enumerate(offered)) == common
