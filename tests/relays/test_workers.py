"""Work off the loop, on a stack that long statements fit in."""

from __future__ import annotations

import contextlib
import threading

import pytest

from relays.workers import Workers
from rules.sql.libpg_query import SyntaxRefused, parse


async def test_a_statement_that_overflows_other_stacks_is_parsed() -> None:
    workers = Workers(1)
    before = threading.stack_size()
    text = b"select 1" + b"+1" * 70_000
    with contextlib.suppress(SyntaxRefused):  # its tree is too deep to be decoded, which is an answer; a crash is none
        assert await workers.run(lambda: parse(text))
    assert threading.stack_size() == before
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    workers.close()
