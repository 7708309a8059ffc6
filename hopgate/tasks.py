"""Background tasks that are not lost to the garbage collector and do not fail in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_running: set[asyncio.Task[Any]] = set()


def spawn[T](coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start `coroutine` on the running loop. asyncio holds tasks weakly, so a reference is kept here until it ends."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        # the type only: an exception's text may quote what it was working on
        logging.getLogger("hopgate").error("background task %s ended: %s", task.get_name(), type(error).__name__)
