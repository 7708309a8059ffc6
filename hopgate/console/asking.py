"""Commands of `hopgate` that the console runs for a page: what takes long or reads what somebody typed, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from hopgate.errors import Denied, Unavailable
from hopgate.tasks import spawn

_ANSWER: Final = 4 << 20  # bytes
_AT_ONCE: Final = asyncio.Semaphore(2)


async def run(config: Path, arguments: Sequence[str], *, stdin: bytes = b"", seconds: float = 20.0, fine: Sequence[int] = (0,)) -> Any:
    """What `hopgate ARGUMENTS --json` prints. Raises Denied with its sentence, Unavailable when it takes too long."""
    async with _AT_ONCE:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "hopgate", *arguments, "--json", "--config", str(config),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(stdin)
        except TimeoutError:
            raise Unavailable(f"no answer within {seconds:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    if process.returncode not in fine or len(out) > _ANSWER:
        line = err.decode("utf-8", "replace").strip().splitlines()
        raise Denied(line[-1].removeprefix("hopgate: ") if line else "the command failed")
    return orjson.loads(out)


async def explain(
    config: Path, connection: str, kind: str, subject: str, groups: Sequence[str], run_claim: str, text: str, body: str = ""
) -> dict[str, Any]:
    """What would be decided. `kind` is sql, http, ssh or session. Raises Denied, Unavailable."""
    arguments = ["explain", f"--connection={connection}", f"--as={subject}", *(f"--group={group}" for group in groups)]
    if run_claim:
        arguments.append(f"--claim=run={run_claim}")
    stdin = b""
    if kind in ("sql", "ssh"):
        arguments.append(f"--{kind}=-")
        stdin = text.encode("utf-8", "replace")
    elif kind == "http":
        arguments.append(f"--http={text.strip() if text.strip() != '-' else ''}")
        if body:
            arguments.append("--body=-")
            stdin = body.encode("utf-8", "replace")
    found: dict[str, Any] = await run(config, arguments, stdin=stdin)
    return found


@dataclass(slots=True)
class Verification:
    """The last `hopgate verify`, and the one that runs. It reads every ledger and recording, so it is run when somebody asks."""

    config: Path
    at: float = 0.0
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    failed: str = ""
    _running: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self) -> bool:
        """Begin, unless one runs."""
        if self.running:
            return False
        self._running = spawn(self._verify(), name="verify")
        return True

    async def wait(self) -> None:
        if self._running is not None:
            await asyncio.shield(self._running)

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _verify(self) -> None:
        began = time.monotonic()
        try:
            self.report, self.failed = await run(self.config, ["verify"], seconds=600.0, fine=(0, 1)), ""
        except (Denied, Unavailable, ValueError) as error:
            self.failed = str(error)
        self.at, self.seconds = time.time(), time.monotonic() - began
