"""The proof that nobody else can make."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path

import pytest

from hopgate.grants import SessionGrant, grant_session
from tests.hopgate.people import AGENT, BOB

ROOT = Path(__file__).parents[2]


def test_a_grant_tells_what_it_is_for() -> None:
    grant = grant_session("s1", AGENT, "orders")
    assert (grant.session, grant.principal, grant.connection, grant.ended) == ("s1", AGENT, "orders", False)
    assert repr(grant) == "SessionGrant('s1', 'corp:agent-7', 'orders')"
    grant.end()
    assert grant.ended
    assert repr(grant).endswith(", ended)")


@pytest.mark.parametrize("key", [None, object(), True, "key"])
def test_a_grant_is_not_made_by_others(key: object) -> None:
    with pytest.raises(TypeError, match="only a session"):
        SessionGrant("s1", AGENT, "orders", key=key)


def test_a_grant_is_not_changed_copied_stored_or_imitated() -> None:
    grant = grant_session("s1", AGENT, "orders")
    for name in ("session", "principal", "connection", "_ended", "another"):
        with pytest.raises(AttributeError):
            setattr(grant, name, BOB)
        with pytest.raises(AttributeError):
            delattr(grant, name)
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            make(grant)
    with pytest.raises(TypeError):
        type("Imitation", (SessionGrant,), {})


def test_only_sessions_make_grants() -> None:
    callers = set()
    for package in ("hopgate", "addons", "relays", "rules", "playground"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            if "grant_session" not in text:
                continue
            tree = ast.parse(text)
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
            if "grant_session" in names and path != ROOT / "hopgate" / "grants.py":
                callers.add(str(path.relative_to(ROOT)))
    assert callers == {"hopgate/sessions/session.py"}
