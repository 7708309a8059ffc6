"""Approvals that several processes work on at once: real processes on one database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hopgate.errors import Conflict
from hopgate.locks import Locks
from tests.hopgate.people import AGENT, ALICE, BOB, EXACT, HOLD, desk, opened
from tests.hopgate.places import Place

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def others(state: Place, *commands: tuple[str, ...]) -> AsyncIterator[list[Process]]:
    """Processes that have opened the store and wait for the word."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hopgate.voter", str(state), *words, stdin=PIPE, stdout=PIPE, cwd=ROOT
        )
        for words in commands
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def results(processes: list[Process], *, go: bool = True) -> list[Any]:
    if go:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(json.loads(await process.stdout.readline()))
    return [answer["result"] for answer in answers]


async def test_of_two_processes_that_decide_one_does(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        votes = [("decide", approval, "alice", "approve"), ("decide", approval, "bob", "deny")]
        async with others(place, *votes) as processes:
            ended = await results(processes)
        state = await at.state(approval)
        assert sorted(ended) == sorted(["Conflict", state])
        found = await at.store.find_approval(approval)
        assert found is not None
        assert [(vote.identity, vote.verdict) for vote in found.votes] == [
            {"approved": ("corp:alice", "approve"), "denied": ("corp:bob", "deny")}[state]
        ]


async def test_a_reviewer_who_votes_in_two_processes_counts_once(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(replace(HOLD, quorum=2),))
        async with others(place, *[("decide", approval, "alice", "approve")] * 2) as processes:
            assert sorted(await results(processes)) == ["Conflict", "pending"]
        assert await at.state(approval) == "pending"
        assert (await at.approvals.decide(approval, BOB, "approve")).approved


async def test_two_votes_at_once_make_a_quorum_of_two(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask(holds=(replace(HOLD, quorum=2),))
        async with others(place, ("decide", approval, "alice", "approve"), ("decide", approval, "bob", "approve")) as processes:
            assert sorted(await results(processes)) == ["approved", "pending"]


async def test_an_approval_of_one_use_is_spent_by_exactly_one_process(place: Place) -> None:
    async with desk(place) as at:
        await at.approvals.decide(await at.ask(), ALICE, "approve")
        async with others(place, *[("spend",)] * 3) as processes:
            assert Counter(await results(processes)) == {"consumed": 1, None: 2}


async def test_an_approval_of_one_use_is_spent_by_exactly_one_task(place: Place) -> None:
    async with desk(place) as at:
        await at.approvals.decide(await at.ask(), ALICE, "approve")
        spent = await asyncio.gather(*(at.approvals.spend(AGENT, "orders", EXACT) for _ in range(8)))
        assert sum(each is not None for each in spent) == 1


async def test_a_decision_wakes_who_waits_in_another_process(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        async with others(place, ("wait", approval)) as processes:
            await at.approvals.decide(approval, ALICE, "approve")
            assert await results(processes, go=False) == ["approved"]


async def test_a_vote_and_the_end_of_the_caller_at_once_leave_one_state(place: Place) -> None:
    async with desk(place) as at:
        approval = await at.ask()
        async with others(place, ("decide", approval, "alice", "approve")) as processes:
            leaving = asyncio.ensure_future(at.approvals.withdraw(approval))
            ended = await results(processes)
            await leaving
        assert (ended, await at.state(approval)) in ((["approved"], "withdrawn"), (["Conflict"], "withdrawn"))


async def test_a_lock_of_another_process_is_in_force_within_a_second(place: Place) -> None:
    async with opened(place) as store:
        locks = Locks(store)
        await locks.start()
        assert locks.is_locked(AGENT) is None
        async with others(place, ("lock", "subject", "corp:agent-7")) as processes:
            assert await results(processes) == ["locked"]
            async with asyncio.timeout(1.0):
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
