"""Approvals that several processes work on at once: real processes on one database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hopgate.errors import Conflict
from hopgate.locks import Locks
from tests.hopgate.people import AGENT, ALICE, BOB, EXACT, HOLD, desk, opened
from tests.hopgate.places import Place

ROOT = Path(__file__).parents[2]


class Voter:
    """A process that waits for the word. Its imports take longer than what it does, so it does one thing after the other."""

    def __init__(self) -> None:
        words = [sys.executable, "-m", "tests.hopgate.voter"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    async def read(self) -> str:
        assert self.process.stdout is not None
        return await asyncio.to_thread(self.process.stdout.readline)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Voters:
    """Those that wait."""

    def __init__(self) -> None:
        self.idle: list[Voter] = []

    @contextlib.asynccontextmanager
    async def __call__(self, state: Place, *commands: tuple[str, ...]) -> AsyncIterator[list[Voter]]:
        """Processes that have opened the store and wait for the word. They wait again when the block ends well."""
        voters = [self.idle.pop() if self.idle else Voter() for _ in commands]
        try:
            for voter, words in zip(voters, commands, strict=True):
                voter.tell(json.dumps([str(state), *words]))
            for voter in voters:
                assert await voter.read() == "ready\n"
            yield voters
        except BaseException:
            for voter in voters:
                voter.close()
            raise
        self.idle += voters


@pytest.fixture(scope="module")
def others() -> Iterator[Voters]:
    voters = Voters()
    yield voters
    for voter in voters.idle:
        voter.close()


async def results(voters: list[Voter], *, go: bool = True) -> list[Any]:
    if go:
        for voter in voters:
            voter.tell("go")
    return [json.loads(await voter.read())["result"] for voter in voters]


async def test_of_two_processes_that_decide_one_does(place: Place, others: Voters) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        votes = [("decide", approval, "alice", "approve"), ("decide", approval, "bob", "deny")]
        async with others(place, *votes) as voters:
            ended = await results(voters)
        state = await at.state(approval)
        assert sorted(ended) == sorted(["Conflict", state])
        found = await at.store.find_approval(approval)
        assert found is not None
        assert [(vote.identity, vote.verdict) for vote in found.votes] == [
            {"approved": ("corp:alice", "approve"), "denied": ("corp:bob", "deny")}[state]
        ]


async def test_a_reviewer_who_votes_in_two_processes_counts_once(place: Place, others: Voters) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(replace(HOLD, quorum=2),))
        async with others(place, *[("decide", approval, "alice", "approve")] * 2) as voters:
            assert sorted(await results(voters)) == ["Conflict", "pending"]
        assert await at.state(approval) == "pending"
        assert (await at.approvals.decide(approval, BOB, "approve")).approved


async def test_two_votes_at_once_make_a_quorum_of_two(place: Place, others: Voters) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(replace(HOLD, quorum=2),))
        async with others(place, ("decide", approval, "alice", "approve"), ("decide", approval, "bob", "approve")) as voters:
            assert sorted(await results(voters)) == ["approved", "pending"]


async def test_an_approval_of_one_use_is_spent_by_exactly_one_process(place: Place, others: Voters) -> None:
    async with desk(place) as at:
        await at.approvals.decide(await at.ask(), ALICE, "approve")
        async with others(place, *[("spend",)] * 3) as voters:
            assert Counter(await results(voters)) == {"consumed": 1, None: 2}


async def test_an_approval_of_one_use_is_spent_by_exactly_one_task(place: Place) -> None:
    async with desk(place) as at:
        await at.approvals.decide(await at.ask(), ALICE, "approve")
        spent = await asyncio.gather(*(at.approvals.spend(AGENT, "orders", EXACT) for _ in range(8)))
        assert sum(each is not None for each in spent) == 1


async def test_a_decision_wakes_who_waits_in_another_process(place: Place, others: Voters) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        async with others(place, ("wait", approval)) as voters:
            await at.approvals.decide(approval, ALICE, "approve")
            assert await results(voters, go=False) == ["approved"]


async def test_a_vote_and_the_end_of_the_caller_at_once_leave_one_state(place: Place, others: Voters) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        async with others(place, ("decide", approval, "alice", "approve")) as voters:
            leaving = asyncio.ensure_future(at.approvals.withdraw(approval))
            ended = await results(voters)
            await leaving
        assert (ended, await at.state(approval)) in ((["approved"], "withdrawn"), (["Conflict"], "withdrawn"))


async def test_a_lock_of_another_process_comes_into_force_by_itself(place: Place, others: Voters) -> None:
    async with opened(place) as store:
        locks = Locks(store)
        await locks.start()
        assert locks.is_locked(AGENT) is None
        async with others(place, ("lock", "subject", "corp:agent-7")) as voters:
            assert await results(voters) == ["locked"]
            async with asyncio.timeout(20):
                while locks.is_locked(AGENT) is None:  # noqa: ASYNC110 - the operations that ask do not wait for anything either
                    await asyncio.sleep(0.01)
        assert locks.is_locked(AGENT) == "corp:agent-7 is locked: test"


async def test_the_database_itself_takes_no_second_vote(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(replace(HOLD, quorum=2),))
        await at.approvals.decide(approval, ALICE, "approve")
        monkeypatch.setattr("hopgate.approvals.Approvals._check_reviewer", _nobody_looks)
        with pytest.raises(Exception, match=r"(?i)unique"):
            await at.approvals.decide(approval, ALICE, "approve")
        assert await at.state(approval) == "pending"


async def _nobody_looks(*_: object) -> None:
    """A bug in the code above the database."""


async def test_a_row_that_changed_since_it_was_read_is_not_changed_again(place: Place) -> None:
    async with desk(place) as at:
        stale = await at.store.find_approval(await at.ask())
        assert stale is not None
        await at.approvals.decide(stale.id, ALICE, "deny")
        assert await at.store.change_approvals(lambda transaction: transaction.change(stale, state="approved")) is False
        with pytest.raises(Conflict):
            await at.store.change_approvals(lambda transaction: at.approvals._settle(transaction, stale, "approved", by="x"))
