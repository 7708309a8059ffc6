"""What the playground's real servers have in common: a process, and a directory of its own that goes with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self


class Unavailable(Exception):
    """No server can run here; the text says why, in one line."""


class Server:
    """One server, from `start` to `close`. `base` has its files."""

    base: Path
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Make its files and run it. Raises Unavailable."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it and every connection to it."""
        raise NotImplementedError

    def close(self) -> None:
        self.stop()
        if self.base.is_dir():
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of the process that accepts connections."""
        assert self._process is not None
        return self._process.pid

    @property
    def home(self) -> Path:
        return self.base / "home"
