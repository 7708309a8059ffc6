"""Reading SQL without stalling or endangering other sessions: small statements here, large ones in processes of their own.

Whatever happens to such a process, the statement comes back as an operation that is not complete, with the reason.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from hopgate.parsing_worker import LENGTH
from rules.model import Operation
from rules.sql.bounds import MAX_BYTES
from rules.sql.facts import SqlFacts, Wire, from_wire
from rules.sql.postgres import is_small, not_read, operation_from, operation_of
from rules.sql.session import SessionState

TIMEOUT: Final = 10.0  # seconds for one statement, the wait for a free process included
_MOST_WAITING: Final = 64
_LARGEST_ANSWER: Final = 64 << 20
_START: Final = "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); from hopgate.parsing_worker import main; main()"
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # nothing that may hold a secret
_decode: Final = msgspec.msgpack.Decoder(list[Wire]).decode


class _Failed(Exception):
    """The process did not answer. The message says what of it the caller may know."""


class SqlReader:
    """Reads statements for one event loop. `workers` processes are started when the first large statement comes."""

    def __init__(self, *, workers: int = 2, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._free = asyncio.Semaphore(workers)
        self._idle: list[asyncio.subprocess.Process] = []
        self._waiting = 0
        self._closed = False

    async def facts_of(self, text: bytes, state: SessionState, params: Sequence[Any] | None = None, binding: bytes = b"") -> Operation:
        """The operation of `text`, as `rules.sql.postgres.operation_of` makes it. Raises CancelledError, nothing else."""
        if len(text) > MAX_BYTES or is_small(text):  # what is beyond the bounds is refused before it is parsed
            return operation_of(text, state, params, binding)
        try:
            facts = await self._elsewhere(text, state)
        except _Failed as error:
            facts = [not_read(state, str(error))]
        return operation_from(facts, text, state, params, binding)

    async def close(self) -> None:
        """End the processes. Statements that are being read come back incomplete."""
        self._closed = True
        for process in self._idle:
            await _end(process)
        self._idle.clear()

    async def _elsewhere(self, text: bytes, state: SessionState) -> list[SqlFacts]:
        if self._waiting >= _MOST_WAITING:
            raise _Failed("too many large statements are waiting to be read")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout), self._free:
                return await self._ask(text, state)
        except TimeoutError:
            raise _Failed(f"the statement could not be read within {self._timeout:g} s") from None
        finally:
            self._waiting -= 1

    async def _ask(self, text: bytes, state: SessionState) -> list[SqlFacts]:
        if self._closed:
            raise _Failed("the gateway is stopping")
        process: asyncio.subprocess.Process | None = None
        try:
            process = self._idle.pop() if self._idle else await _start()
            facts = await _exchange(process, pickle.dumps((text, _lean(state, text))))
        except BaseException as error:
            if process is not None:
                await _end(process)
            if isinstance(error, OSError | EOFError | msgspec.DecodeError | ValueError):
                raise _Failed("the parser failed on the statement") from None
            raise
        await self._put_back(process)
        return facts

    async def _put_back(self, process: asyncio.subprocess.Process) -> None:
        if self._closed:
            await _end(process)
        else:
            self._idle.append(process)


def _lean(state: SessionState, text: bytes) -> SessionState:
    """The state without the prepared statements where the text runs none of them."""
    if b"execute" in text.lower():
        return replace(state, prepared=dict(state.prepared))
    return replace(state, prepared={})


async def _start() -> asyncio.subprocess.Process:
    environment: Mapping[str, str] = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    arguments = ("-I", "-c", _START, os.pathsep.join(path or os.getcwd() for path in sys.path))
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env=environment, start_new_session=True
    )


async def _exchange(process: asyncio.subprocess.Process, request: bytes) -> list[SqlFacts]:
    """Raises OSError or EOFError when the process ends, ValueError for an answer that is none."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LENGTH.pack(len(request)) + request)
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    if length > _LARGEST_ANSWER:
        raise ValueError("the answer is too long")
    facts = [from_wire(wire) for wire in _decode(await process.stdout.readexactly(length))]
    if not facts:
        raise ValueError("the answer is empty")
    return facts


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill and reap the process, also when this task is being cancelled."""
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            return
        await asyncio.shield(process.wait())
