"""`hopgate approvals`: reviewers decide by their tokens, whoever holds the files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hopgate.approvals import Approvals
from hopgate.config import load_config
from hopgate.store import Store
from rules.model import Exact, Hold, Principal
from tests.hopgate.cli.conftest import Hopgate
from tests.hopgate.cli.test_token import issue

AGENT = Principal("local", "agent-7", frozenset({"agents"}))


@pytest.fixture
def asked(config: Path) -> str:
    """The id of a pending approval, its title and text written to deceive."""
    loaded = load_config(config)

    async def work() -> str:
        store = await Store.open(loaded.state)
        try:
            exact = Exact("POST /v1/refunds\x1b[2K\u202e", 'POST /v1/refunds\n\n{"amount": 250}\x07', b"payload", {"X-Why": "urgent\r"})
            found = await Approvals(store, loaded.approvals).request(
                AGENT, "s1", "billing", (Hold("large", ("finance",)),), exact, outlives=True
            )
            return found.id
        finally:
            await store.close()

    return asyncio.run(work())


def test_a_reviewer_approves_once(hopgate: Hopgate, asked: str, config: Path) -> None:
    alice = issue(hopgate, "alice", "finance")
    done = hopgate("approvals", "approve", asked[:8], "--comment", "checked", token=alice)
    assert (done.status, done.out) == (0, f"{asked[:12]}: approved as local:alice\n")
    again = hopgate("approvals", "approve", asked, token=issue(hopgate, "bob", "finance"))
    assert (again.status, again.err) == (1, "hopgate: the approval is approved already\n")
    (row,) = json.loads(hopgate("approvals", "list", "--state", "approved", "--json").out)
    assert (row["id"], row["comment"], row["votes"][0]["subject"]) == (asked, "checked", "alice")
    assert '"approval_approved"' in (config.parent / "var" / "ledger" / "cli.ndjson").read_text()


@pytest.mark.parametrize(
    ("subject", "group", "said"),
    [
        ("agent-7", "finance", "nobody decides on his own request"),
        ("eve", "agents", "takes the group finance"),
    ],
)
def test_others_cannot(hopgate: Hopgate, asked: str, subject: str, group: str, said: str) -> None:
    done = hopgate("approvals", "approve", asked, token=issue(hopgate, subject, group))
    assert done.status == 1
    assert said in done.err
    assert [row["id"] for row in json.loads(hopgate("approvals", "list", "--json").out)] == [asked]


def test_a_token_that_proves_nothing(hopgate: Hopgate, asked: str) -> None:
    assert hopgate("approvals", "deny", asked, token="ey.ey.ey").status == 1
    assert hopgate("approvals", "deny", asked, "--token", "-", stdin="ey.ey.ey").status == 1
    assert json.loads(hopgate("approvals", "list", "--json").out)


def test_deny(hopgate: Hopgate, asked: str) -> None:
    token = issue(hopgate, "alice", "finance")
    assert (
        hopgate("approvals", "deny", asked, "--token", "-", "--comment", "no", stdin=token).out == f"{asked[:12]}: denied as local:alice\n"
    )
    assert hopgate("approvals", "list").out == "nothing is waiting\n"


def test_a_scope_that_is_not_offered(hopgate: Hopgate, asked: str) -> None:
    done = hopgate("approvals", "approve", asked, "--scope", "fingerprint-15m", token=issue(hopgate, "alice", "finance"))
    assert done.status == 1
    assert "expected once" in done.err


def test_what_is_shown_cannot_act_on_the_terminal(hopgate: Hopgate, asked: str) -> None:
    for arguments in (("list",), ("show", asked), ("watch", "--once"), ("list", "--json"), ("show", asked, "--json")):
        done = hopgate("approvals", *arguments)
        assert done.status == 0
        assert asked[:12] in done.out
        assert not {"\x1b", "\u202e", "\x07", "\r"} & set(done.out)
    card = hopgate("approvals", "show", asked).out
    assert '{"amount": 250}' in card
    assert r"POST /v1/refunds" in card
    assert "large: 1 of finance" in card
