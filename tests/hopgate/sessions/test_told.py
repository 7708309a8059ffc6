"""What a card is told of a held operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hopgate.sessions.told import card_facts
from rules.model import UNKNOWN, Operation


class Facts:
    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def get(self, name: str) -> Any:
        return self._facts[name]


def test_short_facts_are_shown_and_secrets_are_not() -> None:
    facts = {
        "verbs": frozenset({"delete"}),
        "effects": ("read", "write"),
        "reads": UNKNOWN,
        "writes": [f"public.t{number}" for number in range(100)],
        "functions": (),
        "unbounded": False,
        "database": "d" * 1000,
        "params": ["hunter2"],
        "headers": {"authorization": "Bearer hunter2"},
        "body": {"password": "hunter2"},
    }
    told = card_facts(Operation("sql", Facts(facts), complete=False, reason="nested too deep"))
    assert told["verbs"] == ["delete"]
    assert told["effects"] == ["read", "write"]
    assert told["reads"] == "unknown"
    assert (len(told["writes"]), told["writes"][-1]) == (41, "…")
    assert told["unbounded"] is False
    assert len(told["database"]) == 300
    assert (told["kind"], told["complete"], told["reason"]) == ("sql", False, "nested too deep")
    assert "functions" not in told
    assert "hunter2" not in str(told)
    assert "hunter2" not in str(card_facts(Operation("http", Facts({**facts, "path": "/v1"}))))
