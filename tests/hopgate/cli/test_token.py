"""`hopgate token`: issue, exchange, revoke."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import jwt
import pytest

from hopgate.config import load_config
from hopgate.locks import Locks
from hopgate.store import Store
from rules.model import Principal
from tests.hopgate.cli.conftest import Hopgate


def issue(hopgate: Hopgate, subject: str, group: str, *more: str) -> str:
    done = hopgate("token", "issue", "--subject", subject, "--group", group, *more)
    assert done.status == 0, done.err
    return done.out.strip()


def test_issue_prints_a_token_and_nothing_else(hopgate: Hopgate, config: Path) -> None:
    token = issue(hopgate, "agent-7", "agents", "--group", "ci", "--ttl", "10m", "--claim", "team=payments", "--peer", "10.0.0.0/8")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["groups"], claims["team"]) == ("agent-7", ["agents", "ci"], "payments")
    assert claims["exp"] - claims["iat"] == 600
    assert token not in (config.parent / "var" / "ledger" / "cli.ndjson").read_text()


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (("--ttl", "soon"), 2, "--ttl must be a length of time"),
        (("--ttl", "90d"), 1, "at most 30d"),
        (("--claim", "x"), 2, "--claim must be NAME=VALUE"),
        (("--peer", "nowhere"), 1, "must be an address or network"),
    ],
)
def test_issue_refuses(hopgate: Hopgate, more: tuple[str, ...], status: int, said: str) -> None:
    done = hopgate("token", "issue", "--subject", "a", *more)
    assert (done.status, done.out) == (status, "")
    assert said in done.err


def test_a_short_token_and_its_revocation(hopgate: Hopgate) -> None:
    hopgate("secrets", "list")
    long = issue(hopgate, "agent-7", "agents")
    short = hopgate("token", "exchange", "-", stdin=long).out.strip()
    assert 20 < len(short) <= 60
    assert hopgate("token", "exchange", stdin=long + "x").status == 1
    assert hopgate("token", "revoke", stdin=short).out.startswith("revoked ")
    assert "nothing to revoke" in hopgate("token", "revoke", stdin=short).err
    assert hopgate("token", "revoke", stdin=long).status == 0
    assert hopgate("token", "exchange", stdin=long).status == 1


def test_revoking_a_long_token_ends_the_short_ones_made_of_it(hopgate: Hopgate) -> None:
    long, other = issue(hopgate, "agent-7", "agents"), issue(hopgate, "agent-7", "agents")
    short = hopgate("token", "exchange", stdin=long).out.strip()
    spared = hopgate("token", "exchange", stdin=other).out.strip()
    assert hopgate("token", "revoke", stdin=long).status == 0
    assert "nothing to revoke" in hopgate("token", "revoke", stdin=short).err
    assert hopgate("token", "revoke", stdin=spared).out.startswith("revoked ")
    assert hopgate("token", "exchange", stdin=other).status == 0


def test_revoking_a_long_token_ends_open_sessions_of_the_short_ones(hopgate: Hopgate, config: Path) -> None:
    long = issue(hopgate, "agent-7", "agents")
    claims = jwt.decode(long, options={"verify_signature": False})
    # what a session knows of a short token: its own digest, and the `jti` of the one that it was made of
    short = Principal("local", "agent-7", token_id="0" * 64, claims={"jti": claims["jti"]})

    async def locked() -> str | None:
        store = await Store.open(load_config(config).state)
        locks = Locks(store)
        await locks.start()
        try:
            return locks.is_locked(short)
        finally:
            await locks.close()
            await store.close()

    assert asyncio.run(locked()) is None
    assert hopgate("token", "revoke", stdin=long).status == 0
    assert asyncio.run(locked()) == "the token was revoked"


def test_revoking_by_id_takes_an_operator(hopgate: Hopgate) -> None:
    token = issue(hopgate, "agent-7", "agents")
    number = jwt.decode(token, options={"verify_signature": False})["jti"]
    refused = hopgate("token", "revoke", "--id", number, token=token)
    assert (refused.status, refused.err) == (1, "hopgate: local:agent-7 may not do this: it takes the group ops\n")
    assert hopgate("token", "exchange", stdin=token).status == 0
    assert hopgate("token", "revoke", "--id", number, token=issue(hopgate, "olga", "ops")).status == 0
    assert hopgate("token", "exchange", stdin=token).status == 1


def test_issuing_is_in_the_ledger(hopgate: Hopgate, config: Path) -> None:
    issue(hopgate, "agent-7", "agents")
    lines = [json.loads(line) for line in (config.parent / "var" / "ledger" / "cli.ndjson").read_text().splitlines()]
    (event,) = [line for line in lines if line["event"] == "token_issued"]
    assert (event["subject"], event["groups"]) == ("agent-7", ["agents"])
