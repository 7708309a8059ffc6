"""Owners by glob, and quorums. Who may decide is tested through `Approvals.decide` too."""

from __future__ import annotations

import pytest

from hopgate.errors import Denied
from hopgate.reviewers import may_review, owners_of, satisfied
from hopgate.store import Approval, Requirement, Vote
from tests.hopgate.people import ALICE, NOW


def approval(*votes: tuple[str, str, str], issuer: str = "corp") -> Approval:
    """A pending approval with votes as (subject, groups, verdict)."""
    cast = tuple(Vote(issuer, who, frozenset(groups.split()), verdict, "once", "", NOW) for who, groups, verdict in votes)  # type: ignore[arg-type]
    asks = (Requirement("r", ("dba",)),)
    return Approval("1", "pending", 1, "corp", "agent", "orders", "s", "v1:", "", "", asks, ("once",), NOW, NOW + 60, votes=cast)


@pytest.mark.parametrize(
    ("pattern", "identity", "owned"),
    [
        ("corp:agent-7", "corp:agent-7", True),
        ("corp:agent-*", "corp:agent-7", True),
        ("corp:agent-?", "corp:agent-77", False),
        ("corp:*", "corp:spiffe://x/y", True),
        ("corp:spiffe://x/*", "corp:spiffe://x/y", True),
        ("corp:*", "corp2:agent", False),
        ("*:agent", "corp:agent", False),  # the issuer is meant as written
        ("corp:agent", "corp:AGENT", False),
        ("corp:a.c", "corp:abc", False),
        ("agent", "corp:agent", False),
    ],
)
def test_owners_are_found_by_glob(pattern: str, identity: str, owned: bool) -> None:
    assert owners_of(identity, {pattern: "corp:alice", "x:y": "corp:bob"}) == (frozenset({"corp:alice"}) if owned else frozenset())


def test_every_owner_that_a_pattern_names_is_refused() -> None:
    with pytest.raises(Denied):
        may_review(approval(), ALICE, {"corp:*": "corp:bob", "corp:agent": "corp:alice"})
    may_review(approval(), ALICE, {"corp:*": "corp:bob", "ci:agent": "corp:alice"})


@pytest.mark.parametrize(
    ("votes", "asked", "enough"),
    [
        ((), [("dba", 1)], False),
        ((("a", "dba", "approve"),), [("dba", 1)], True),
        ((("a", "dba", "approve"),), [("dba", 2)], False),
        ((("a", "dba", "approve"), ("a", "dba", "approve")), [("dba", 2)], False),
        ((("a", "dba", "approve"), ("b", "dba", "approve")), [("dba", 2)], True),
        ((("a", "dba", "approve"), ("b", "ops", "approve")), [("dba", 2)], False),
        ((("a", "dba", "approve"), ("b", "dba", "deny")), [("dba", 2)], False),
        ((("a", "dba security", "approve"),), [("dba", 1), ("security", 1)], True),
        ((("a", "dba", "approve"),), [("dba", 1), ("security", 1)], False),
        ((("a", "", "approve"),), [("dba", 1)], False),
    ],
)
def test_quorums(votes: tuple[tuple[str, str, str], ...], asked: list[tuple[str, int]], enough: bool) -> None:
    assert satisfied(approval(*votes), [Requirement(group, (group,), quorum) for group, quorum in asked]) is enough
