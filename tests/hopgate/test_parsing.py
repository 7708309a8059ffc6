"""Large statements are read in processes of their own, which may fail."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from typing import Any

import pytest

from hopgate import parsing
from hopgate.parsing import SqlReader
from rules.sql.facts import SqlFacts
from rules.sql.postgres import is_small, operation_of
from rules.sql.session import Prepared, SessionState

STATE = SessionState(database="shop")
LARGE = b"insert into t (a, b) values " + b", ".join(b"(%d, 'x')" % number for number in range(5_000))


async def test_small_statements_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise AssertionError("started a process")

    monkeypatch.setattr(parsing, "_start", fail)
    operation = await SqlReader().facts_of(b"select $1", STATE, (5,))
    assert operation.facts.get("params") == (5,)
    assert not (await SqlReader().facts_of(b"select " + b"(" * 300, STATE)).complete
    assert not (await SqlReader().facts_of(b"x" * (1 << 21), STATE)).complete


async def test_large_statements_have_the_same_facts() -> None:
    reader = SqlReader(workers=1)
    try:
        for text in (LARGE, LARGE + b'; delete from "a.b" where c = $1', b"select '" + b"x" * 50_000):
            assert not is_small(text)
            there, here = await reader.facts_of(text, STATE), operation_of(text, STATE)
            assert [part.facts.as_dict() for part in (there, *there.parts)] == [part.facts.as_dict() for part in (here, *here.parts)]  # type: ignore[attr-defined]
            assert (there.complete, there.reason, there.title, there.writes) == (here.complete, here.reason, here.title, here.writes)
            assert there.exact is not None
            assert here.exact is not None
            assert there.exact() == here.exact()
    finally:
        await reader.close()


async def test_prepared_statements_are_known_there() -> None:
    facts = operation_of(b"delete from u", STATE).facts
    assert isinstance(facts, SqlFacts)
    state = replace(STATE, prepared={"p": Prepared(b"delete from u", facts, STATE.meaning)})
    reader = SqlReader()
    try:
        operation = await reader.facts_of(LARGE + b"; execute p", state)
        assert operation.complete
        assert "public.u" in operation.facts.get("writes")
    finally:
        await reader.close()


async def test_deep_trees_are_read_with_a_large_stack() -> None:
    deep = b"1"
    for _ in range(250):
        deep = b"(" + deep + b" + 1" * 1_000 + b")"
    reader = SqlReader()
    try:
        operation = await reader.facts_of(b"select " + deep, STATE)
        assert operation.complete or "decoded" in operation.reason or "larger" in operation.reason
        assert (await reader.facts_of(LARGE, STATE)).complete
    finally:
        await reader.close()


async def test_a_process_that_dies_leaves_the_statement_incomplete_and_the_next_one_works() -> None:
    reader = SqlReader(workers=1)
    try:
        assert (await reader.facts_of(LARGE, STATE)).complete
        (process,) = reader._idle
        os.kill(process.pid, signal.SIGKILL)
        operation = await reader.facts_of(LARGE, STATE)
        assert not operation.complete
        assert operation.reason == "the parser failed on the statement"
        assert (await reader.facts_of(LARGE, STATE)).complete
    finally:
        await reader.close()


async def test_a_process_that_hangs_is_killed_in_time() -> None:
    reader = SqlReader(workers=1, timeout=10)
    try:
        assert (await reader.facts_of(LARGE, STATE)).complete
        (process,) = reader._idle
        os.kill(process.pid, signal.SIGSTOP)
        reader._timeout = 0.2
        operation = await reader.facts_of(LARGE, STATE)
        assert not operation.complete
        assert "within 0.2 s" in operation.reason
        assert process.returncode is not None
        reader._timeout = 10
        assert (await reader.facts_of(LARGE, STATE)).complete
    finally:
        await reader.close()


async def test_the_loop_goes_on_while_a_large_statement_is_read() -> None:
    reader = SqlReader()
    try:
        await reader.facts_of(LARGE, STATE)
        turns = 0
        reading = asyncio.ensure_future(reader.facts_of(LARGE * 1 + b" " * 500_000, STATE))
        while not reading.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert (await reading).complete
        assert turns > 3
    finally:
        await reader.close()


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x01\x90", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\x91\x90"]
)
async def test_an_answer_that_is_none_is_incomplete(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write({answer!r}); sys.stdout.flush()"
    monkeypatch.setattr(parsing, "_START", script)
    reader = SqlReader()
    operation = await reader.facts_of(LARGE, STATE)
    assert not operation.complete
    assert operation.facts.get("verbs") == ("unknown",)
    assert not reader._idle


async def test_a_process_that_cannot_start_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert not (await SqlReader().facts_of(LARGE, STATE)).complete


async def test_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_MOST_WAITING", 0)
    operation = await SqlReader().facts_of(LARGE, STATE)
    assert "too many" in operation.reason


async def test_cancelling_kills_the_process() -> None:
    reader = SqlReader(workers=1)
    try:
        await reader.facts_of(LARGE, STATE)
        (process,) = reader._idle
        os.kill(process.pid, signal.SIGSTOP)
        reading = asyncio.ensure_future(reader.facts_of(LARGE, STATE))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert process.returncode is not None
    finally:
        await reader.close()


async def test_a_closed_reader_reads_nothing_large() -> None:
    reader = SqlReader()
    await reader.facts_of(LARGE, STATE)
    (process,) = reader._idle
    await reader.close()
    assert process.returncode is not None
    assert (await reader.facts_of(LARGE, STATE)).reason == "the gateway is stopping"


def test_no_secret_is_in_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPGATE_KEY", "hunter2")
    seen: dict[str, Any] = {}

    async def start(*arguments: str, **options: Any) -> None:
        seen.update(options["env"])
        raise OSError

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    asyncio.run(SqlReader().facts_of(LARGE, STATE))
    assert "hunter2" not in seen.values()
    assert seen.keys() <= set(parsing._ENVIRONMENT)
