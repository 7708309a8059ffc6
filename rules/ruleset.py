"""RuleSet: what `rules.load` builds and `rules.decide` asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rules.index import Candidates
from rules.model import Connection, Kind, Phase, Principal
from rules.rule import Rule
from rules.vocabulary import PEER_FACTS, TIME_FACTS

_CACHED_SCOPES: Final = 512


class RuleSet:
    """All rules in force, ordered by id so that their order in files can never matter."""

    def __init__(self, rules: Iterable[Rule], version: str = "") -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.id))
        self.version = version
        self.detectors_used = frozenset(name for rule in self.rules if rule.mask for name in rule.mask.detect)
        named = frozenset(fact for rule in self.rules if "session" in rule.kinds for fact in rule.facts)
        self.depends_on_time = not named.isdisjoint(TIME_FACTS)
        self.depends_on_time_or_peer = not named.isdisjoint(TIME_FACTS | PEER_FACTS)
        self._response_kinds = frozenset(kind for rule in self.rules if rule.phase == "response" for kind in rule.kinds)
        self._candidates: dict[tuple[Kind, Phase, int, int], Candidates] = {}

    def __len__(self) -> int:
        return len(self.rules)

    def response_rules(self, kind: Kind) -> bool:
        """Whether any rule of `kind` names a response fact."""
        return kind in self._response_kinds

    def candidates(self, kind: Kind, phase: Phase, principal: Principal, connection: Connection) -> Candidates:
        """The rules to evaluate. Request phase: all but response rules. Response phase: response rules and every mask."""
        # by identity: two principals may be equal and differ in their claims
        key = (kind, phase, id(principal), id(connection))
        found = self._candidates.get(key)
        return found if found is not None else self._remember(key, principal, connection)

    def _remember(self, key: tuple[Kind, Phase, int, int], principal: Principal, connection: Connection) -> Candidates:
        if len(self._candidates) >= _CACHED_SCOPES:
            self._candidates.clear()
        self._candidates[key] = found = Candidates(self._of(key[0], key[1]), principal, connection)
        return found

    def _of(self, kind: Kind, phase: Phase) -> list[Rule]:
        wanted = (rule for rule in self.rules if kind in rule.kinds)
        if phase == "response":
            return [rule for rule in wanted if rule.phase == "response" or rule.effect == "mask"]
        return [rule for rule in wanted if rule.phase == "request"]
