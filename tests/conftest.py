"""Coroutine tests each run on a loop of their own."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**wanted), 60))
    return True


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Compressed bytes carry the time they were made at: as names of rows they would differ between the processes of one run."""
    if isinstance(val, bytes) and not val.isascii():
        return f"{len(val)}-bytes"
    return None
