"""One gateway on one state directory: a lock that lasts as long as any process that holds its file open.

flock(2) belongs to the open file, not to the process: children that inherit the descriptor keep a gateway's directory taken even
when its supervisor was killed, and the kernel frees it when the last of them is gone. Nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from hopgate.errors import Misconfigured


class StateLock:
    """The exclusive use of a state directory. Close it, or end the process, to give it back."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor  # not inheritable unless passed on with `pass_fds`

    @classmethod
    def take(cls, state: Path) -> Self:
        """Raises Misconfigured, naming the pid that holds the directory, when another gateway uses it."""
        path = state / "lock"
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            named = f"the gateway with pid {holder}" if holder.isdigit() else "another gateway"
            raise Misconfigured(f"{state}: is in use by {named}: stop it, or name another state directory") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def close(self) -> None:
        os.close(self.descriptor)


def holder(state: Path) -> int | None:
    """The pid of the gateway that uses `state`, or None. Takes the lock for a moment when it is free."""
    try:
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)
