"""What real bash runs of a command line: in an empty directory, with a PATH of stubs that only write down how they were called."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

BASH = shutil.which("bash")
STUBS = ("va", "vb", "vc", "no", "fromstdin")  # `no` fails, the others succeed
REAL = ("env", "nice", "nohup", "timeout", "xargs", "find", "sh", "bash", "setsid", "stdbuf", "cat")  # which run or feed the stubs
SECONDS = 5.0
_STUB = '#!/bin/sh\nr="${{0##*/}}"; for x; do r="$r\x1f$x"; done\nprintf "%s\\036" "$r" >> {log}\nexit {status}\n'


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command line."""

    commands: tuple[tuple[str, ...], ...]  # every stub that was run, with its words
    files: tuple[str, ...]  # that are there afterwards


class RealBash:
    """A place to run command lines in. As root they run as a user that nobody is, which may have 64 processes."""

    def __init__(self, directory: Path) -> None:
        self._programs, self._log, self._directory = directory / "programs", directory / "log", directory / "empty" / "cwd"
        self._programs.mkdir()
        for name in STUBS:
            stub = self._programs / name
            stub.write_text(_STUB.format(log=self._log, status=int(name == "no")))
            stub.chmod(0o755)
        for name in REAL:
            found = shutil.which(name)
            if found is not None:
                (self._programs / name).symlink_to(found)
        self._user = 60_000 + os.getpid() % 5000 if os.geteuid() == 0 else None
        if self._user is not None:  # directories of tests are for their owner alone
            for each in (directory, *directory.parents):
                if not (mode := each.stat().st_mode) & 0o001:
                    each.chmod(mode | 0o111)

    def run(self, text: str) -> Ran:
        shutil.rmtree(self._directory.parent, ignore_errors=True)
        self._directory.mkdir(parents=True)
        self._directory.chmod(0o777)
        self._log.write_bytes(b"")
        self._log.chmod(0o666)
        assert BASH is not None
        process = subprocess.Popen(
            [BASH, "-c", text],
            cwd=self._directory,
            env={"PATH": str(self._programs), "HOME": str(self._directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user is not None else None,
            preexec_fn=self._limit,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(b"fromstdin\n", timeout=SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        calls = self._log.read_bytes().decode(errors="replace").split("\x1e")[:-1]
        files = tuple(sorted(path.name for path in self._directory.parent.rglob("*") if path != self._directory))
        return Ran(tuple(tuple(call.split("\x1f")) for call in calls), files)

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (3, 3))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        if self._user is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
