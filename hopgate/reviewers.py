"""Who may decide on an approval: a reviewer by his groups, and never anybody on the requester's side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from hopgate.errors import Denied
from hopgate.store import Approval, Requirement
from rules.model import Principal


def may_review(approval: Approval, reviewer: Principal, owners: Mapping[str, str]) -> None:
    """Raise Denied unless `reviewer` is in a group that one of the hold rules names, and is not the requester in any guise.

    `owners` maps `issuer:subject-glob` of an agent to the `issuer:subject` of the person that it works for.
    """
    if reviewer.identity == (approval.issuer, approval.subject):
        raise Denied("nobody decides on his own request")
    if reviewer.claims.get("act") is not None:
        # RFC 8693 section 4.1: somebody else holds this token and acts in the reviewer's name, perhaps the agent that asks
        raise Denied("a delegated token cannot decide: sign in yourself")
    if reviewer.subject in approval.actors or str(reviewer) in approval.actors:
        raise Denied("the requester acts for the reviewer, who cannot decide on that")
    if approval.subject in reviewer.actors or approval.requester in reviewer.actors:
        raise Denied("the reviewer's token was issued to the requester, who cannot decide on his own request")
    if str(reviewer) in owners_of(approval.requester, owners):
        raise Denied("the reviewer owns the requester, and cannot decide on that")
    if not any(reviewer.groups.intersection(each.reviewers) for each in approval.requirements):
        groups = sorted({group for each in approval.requirements for group in each.reviewers})
        raise Denied(f"{reviewer} is no reviewer of this; it takes the group {' or '.join(groups)}")


def satisfied(approval: Approval, requirements: Iterable[Requirement]) -> bool:
    """Whether the votes give every requirement its quorum: distinct people, each counting for every rule whose groups he is in."""
    votes = [vote for vote in approval.votes if vote.verdict == "approve"]
    return all(
        len({(vote.issuer, vote.subject) for vote in votes if not vote.groups.isdisjoint(each.reviewers)}) >= each.quorum
        for each in requirements
    )


def owners_of(identity: str, owners: Mapping[str, str]) -> frozenset[str]:
    """Everybody whom `owners` names for this `issuer:subject`."""
    return frozenset(owner for pattern, owner in owners.items() if _glob(pattern).fullmatch(identity))


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """`*` and `?` in the subject; the issuer is meant as written."""
    issuer, _, subject = pattern.partition(":")
    wild = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in subject)
    return re.compile(f"{re.escape(issuer)}:{wild}", re.DOTALL)
