"""A doorbell between the processes that share a SQLite store: after a commit each of the others gets one datagram.

Only a doorbell: who hears it looks at the database, and who does not looks a little later. The sockets lie in `run/bells` of the state
directory, which is the owner's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

_GONE: Final = (errno.ECONNREFUSED, errno.ENOENT)
_LONGEST: Final = 100  # bytes of a socket's path: the system's bound is 104 to 108


class Bell:
    """This process's socket, and the way to those of the others. Where sockets cannot be had it does nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._fd = -1
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def listen(self, rung: Callable[[], None]) -> None:
        """Call `rung` on the running loop whenever another process has committed."""
        if self._fd < 0 or self._loop is not None:
            return
        with contextlib.suppress(OSError, NotImplementedError):
            heard = self._opened()
            heard.bind(self._path(self._name))
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(heard.fileno(), self._hear, heard, rung)

    def ring(self) -> None:
        """Tell the others. Never waits: one that does not empty its socket has heard enough."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            sender = self._opened()
            for name in os.listdir(self._fd):
                if name == self._name:
                    continue
                try:
                    sender.sendto(b"!", self._path(name))
                except OSError as error:
                    if error.errno in _GONE:  # its process was killed
                        with contextlib.suppress(OSError):
                            os.unlink(name, dir_fd=self._fd)

    def close(self) -> None:
        """Hear and tell nothing any more. May be called again."""
        if self._loop is not None and self._socket is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.remove_reader(self._socket.fileno())
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._fd)
        if self._socket is not None:
            self._socket.close()
        self._loop = self._socket = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        return self._socket

    def _path(self, name: str) -> str:
        path = str(self._directory / name)
        # a socket's path is short, a state directory's need not be: Linux leads to it by the descriptor
        return path if len(os.fsencode(path)) <= _LONGEST else f"/proc/self/fd/{self._fd}/{name}"

    def _hear(self, heard: socket.socket, rung: Callable[[], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.recv(16)
        rung()
