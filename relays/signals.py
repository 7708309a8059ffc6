"""How one connection finds the relay of another, wherever among this gateway's processes that runs: PostgreSQL's cancel requests.

Each process listens on a datagram socket in a private directory of the state. A key is a secret (whoever has it may signal), so it is
sent there only, and nobody is told whether it was known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

MAX_KEY: Final = 256  # bytes
_log = logging.getLogger("hopgate.relays")


class Signals:
    """Keys of this process, and the way to those of the others."""

    def __init__(self, directory: Path, process: str) -> None:
        self._directory = directory
        self._name = process
        self._keys: dict[bytes, Callable[[], None]] = {}
        self._fd = -1
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen for the other processes. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._fd)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(self._path(self._name))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._fd)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def register(self, key: bytes, call: Callable[[], None]) -> None:
        """Let `key` call this. Raises ValueError for a key that cannot be sent, or is in use."""
        if not 0 < len(key) <= MAX_KEY:
            raise ValueError(f"a key has 1 to {MAX_KEY} bytes")
        if key in self._keys:
            raise ValueError("the key is in use")
        self._keys[key] = call

    def unregister(self, key: bytes) -> None:
        self._keys.pop(key, None)

    def send(self, key: bytes) -> None:
        """Call whoever has registered `key`, here or in another process. Nobody learns whether there was one."""
        call = self._keys.get(key)
        if call is not None:
            call()
        elif self._socket is not None and 0 < len(key) <= MAX_KEY:
            for name in os.listdir(self._fd):
                if name != self._name:
                    with contextlib.suppress(OSError):  # that process is gone, or busy
                        self._socket.sendto(key, self._path(name))

    def _path(self, name: str) -> str:
        # a socket's path has at most 107 bytes, a state directory's may be longer
        return f"/proc/self/fd/{self._fd}/{name}"

    def _readable(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                call = self._keys.get(self._socket.recv(MAX_KEY + 1))
                if call is not None:
                    call()
