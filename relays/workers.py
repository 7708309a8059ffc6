"""Threads with a big stack for work that would stall the event loop: the parsing of long statements.

libpg_query recurses on the C stack: a flat chain of 70,000 operators overflows 8 MB, and then the whole process is gone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

STACK_BYTES: Final = 256 << 20  # of address space; only what is used becomes memory
THREADS: Final = 2


class Workers:
    """A small pool. All its threads exist from the start: the size of a stack is a setting of the process, at the moment of creation."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="relay-work")
        before = threading.stack_size(STACK_BYTES)
        try:
            together = threading.Barrier(threads + 1)
            for _ in range(threads):
                self._pool.submit(together.wait)
            together.wait()
        finally:
            threading.stack_size(before)

    async def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Start nothing more; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
