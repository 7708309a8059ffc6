"""The process that reads SQL too large or too deep for the one that serves sessions: it may crash, and be killed.

    python -c "… main()"    with requests on stdin and answers on stdout, each with its length before it

A request is a pickled `(text, state)` from the gateway itself; the answer is MessagePack and made of plain values only,
because what made it has read text that the caller chose. Everything runs in a thread with a large stack: the parser's
recursion is bounded by `rules.sql.bounds`, not by the parser.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import sys
import threading
from typing import BinaryIO, Final

import msgspec

from rules.sql.facts import to_wire
from rules.sql.postgres import facts_of

STACKS: Final = (512 << 20, 256 << 20, 64 << 20)  # bytes; the first that the system grants
MEMORY: Final = 4 << 30  # bytes of address space, the stack included
LENGTH: Final = struct.Struct("!I")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the gateway closes the pipe."""
    while header := requests.read(LENGTH.size):
        text, state = pickle.loads(requests.read(*LENGTH.unpack(header)))  # noqa: S301 - from our own parent process
        try:
            answer = msgspec.msgpack.encode([to_wire(facts) for facts in facts_of(text, state)])
        except MemoryError:
            os._exit(1)  # the gateway starts another
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))


def main() -> None:
    """Serve in a thread with the largest stack that the system grants."""
    _limit()
    for size in STACKS:
        threading.stack_size(size)
        thread = threading.Thread(target=serve, args=(sys.stdin.buffer, sys.stdout.buffer), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # can't start new thread
            continue
        thread.join()
        return
