"""Which core runs what: for comparisons that are about the gateway, and not about how many cores a machine has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def apart(end: int, gateway: int) -> Iterator[bool]:
    """Inside, the process `end` and whatever we start run on one core, `gateway` and its children on another. False: there are not two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        yield False
        return
    ours = os.sched_getaffinity(0)
    try:
        _place(end, {cores[0]})
        os.sched_setaffinity(0, {cores[0]})
        for pid in family(gateway):
            _place(pid, {cores[1]})
        yield True
    finally:
        os.sched_setaffinity(0, ours)
        for pid in (end, *family(gateway)):
            _place(pid, ours)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(") ")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def _place(pid: int, cores: set[int]) -> None:
    """Every thread of a process; those that it starts follow the one that starts them."""
    for thread in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            os.sched_setaffinity(int(thread.name), cores)
