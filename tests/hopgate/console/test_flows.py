"""Sign-ins under way: each ends in the browser that began it, once and in time; who begins many keeps nobody out."""

from __future__ import annotations

import pytest

from hopgate.console import flows
from hopgate.console.flows import Flow, Flows
from hopgate.errors import Unauthenticated


def test_a_sign_in_ends_once_in_its_own_browser() -> None:
    kept: Flows[Flow] = Flows()
    for state in ("a", "b", "c"):
        kept.keep(state, Flow(then="/"))
    found = kept.find("a")
    assert found is not None
    assert kept.take("a", found.binding) is found
    late = Flow(then="/", until=0.0)
    kept.keep("late", late)
    for state, binding in (("a", found.binding), ("b", "another"), ("late", late.binding), ("none", "")):
        with pytest.raises(Unauthenticated):
            kept.take(state, binding)
    assert kept.find("b") is None, "one try for each"


def test_many_that_begin_push_out_only_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "MAX_FLOWS", 10)
    kept: Flows[Flow] = Flows()
    for number in range(5):
        kept.keep(f"late-{number}", Flow(then="/", until=0.0))
    for number in range(50):
        kept.keep(str(number), Flow(then="/"))
    assert kept.find("39") is None
    assert all(kept.find(str(number)) for number in range(42, 50))
    assert len(kept._flows) <= 10
