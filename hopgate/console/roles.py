"""Who may do what in the console, by groups: the same groups that rules, `approvals:` and `operators:` name for the command line."""

from __future__ import annotations

from typing import Final, Literal

from hopgate.config import Config
from hopgate.errors import Denied
from hopgate.rulefiles import RuleFiles
from rules.load import RuleSet
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
        return roles_of(principal.groups, self._config, self._rules.current)


def roles_of(groups: frozenset[str], config: Config, rules: RuleSet) -> frozenset[Role]:
    """The roles that `groups` give; reviewers are all whom the configuration or a hold rule names."""
    held = (rule.hold.reviewers for rule in rules.rules if rule.hold is not None)
    found: set[Role] = set()
    if not groups.isdisjoint(config.operators):
        found.add("operator")
    if not groups.isdisjoint(frozenset(config.approvals.reviewers).union(*held)):
        found.add("reviewer")
    if found or not groups.isdisjoint(config.console.viewers):
        found.add("viewer")
    return frozenset(found)


def refuse_agents(principal: Principal) -> None:
    """Raise Denied for a token that is not a person's own: what an agent holds opens nothing here, whatever groups it was given."""
    if principal.claims.get("act") is not None:
        raise Denied("a delegated token does not open the console: sign in yourself")
    if principal.run:
        raise Denied("the token of an agent's run does not open the console")
