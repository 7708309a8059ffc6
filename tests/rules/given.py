"""What the tests of rules are written with: facts by hand, rules in one line, a principal and a connection."""

from __future__ import annotations

from typing import Any

from rules.decide import decide
from rules.http import HttpFacts, request_operation
from rules.load import load_rules
from rules.model import Connection, Decision, Kind, Operation, Principal
from rules.ruleset import RuleSet

AGENT = Principal("corp", "agent-1", frozenset({"agents"}))
BILLING = Connection("billing", "http", {"env": "prod"})
JSON = ("Content-Type", "application/json")


class Given:
    """Facts as a test gives them; every other fact is absent. An exception as a value is raised."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def get(self, name: str) -> Any:
        value = self.facts.get(name)
        if isinstance(value, Exception):
            raise value
        return value


def rules_of(*rules: str, reviewers: tuple[str, ...] = ("ops",)) -> RuleSet:
    """Rules written as flow mappings; ids r0, r1 … are added where they are missing."""
    lines = [rule if "id:" in rule else f"{{id: r{index}, {rule[1:]}" for index, rule in enumerate(rules)]
    text = "version: 1\nrules:\n" + "".join(f"  - {line}\n" for line in lines)
    return load_rules([("rules.yaml", text if rules else "version: 1\nrules: []\n")], reviewers=reviewers)


def sql(complete: bool = True, reason: str = "", **facts: Any) -> Operation:
    return Operation("sql", Given(**facts), complete=complete, reason=reason)


def of(kind: Kind, /, **facts: Any) -> Operation:
    return Operation(kind, Given(**facts))


def request(
    method: str = "GET", path: str = "/", *headers: tuple[str, str], body: bytes | None = b"", host: str = "api", port: int = 80
) -> Operation:
    return request_operation(HttpFacts(method, "http", host, port, path, headers, body))


def judged(operation: Operation, rules: RuleSet, principal: Principal = AGENT, connection: Connection = BILLING) -> Decision:
    return decide(operation, principal, connection, rules)
