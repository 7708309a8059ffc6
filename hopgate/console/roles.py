"""Who may do what in the console, by groups: the same groups that rules, `approvals:` and `operators:` name for the command line."""

from __future__ import annotations

from typing import Final, Literal

from hopgate.config import Config
from hopgate.errors import Denied
from hopgate.rulefiles import RuleFiles
from rules.model import Principal

type Role = Literal["viewer", "reviewer", "operator"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "reviewer", "operator")


class Roles:
    """Groups to roles, asked anew at each call: rules may name other reviewers a moment later."""

    def __init__(self, config: Config, rules: RuleFiles) -> None:
        self._config = config
        self._rules = rules

    def of(self, principal: Principal) -> frozenset[Role]:
        """viewer: may look; reviewer: may decide where `hopgate.reviewers` lets him; operator: may kill, lock and take grants back.

        Whoever has one of the other two may look as well. Nobody has any role by default.
        """
        groups = principal.groups
        found: set[Role] = set()
        if not groups.isdisjoint(self._config.operators):
            found.add("operator")
        if not groups.isdisjoint(self.reviewers):
            found.add("reviewer")
        if found or not groups.isdisjoint(self._config.console.viewers):
            found.add("viewer")
        return frozenset(found)

    @property
    def reviewers(self) -> frozenset[str]:
        """Every group that somebody may ask for a decision."""
        held = (rule.hold.reviewers for rule in self._rules.current.rules if rule.hold is not None)
        return frozenset(self._config.approvals.reviewers).union(*held)


def refuse_agents(principal: Principal) -> None:
    """Raise Denied for a token that is not a person's own: what an agent holds opens nothing here, whatever groups it was given."""
    if principal.claims.get("act") is not None:
        raise Denied("a delegated token does not open the console: sign in yourself")
    if principal.run:
        raise Denied("the token of an agent's run does not open the console")
