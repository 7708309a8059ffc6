"""What must be in place before mitmproxy is imported."""

from __future__ import annotations

import os
import subprocess
import sys

from hopgate.proxy_process import SUPERVISOR


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=30)


def test_processes_share_a_port_only_when_asked() -> None:
    script = """
import asyncio
from hopgate.proxy_process import share_port
async def main():
    first = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = first.sockets[0].getsockname()[1]
    try:
        await asyncio.start_server(lambda r, w: None, "127.0.0.1", port)
    except OSError:
        print("alone")
    first.close()
    share_port()
    first = await asyncio.start_server(lambda r, w: None, "127.0.0.1", port)
    await asyncio.start_server(lambda r, w: None, "127.0.0.1", port)
    print("shared")
asyncio.run(main())
"""
    assert run(script).stdout.split() == ["alone", "shared"]


def test_no_core_dump_and_no_life_without_its_supervisor() -> None:
    script = "import resource; from hopgate.proxy_process import protect; protect(0); print(resource.getrlimit(resource.RLIMIT_CORE))"
    assert run(script).stdout.strip() == "(0, 0)"
    orphan = subprocess.run([sys.executable, "-m", "hopgate.proxy_process", "--version"], env={**os.environ, SUPERVISOR: "1"}, timeout=30)
    assert orphan.returncode == 1


def test_runs_mitmdump() -> None:
    done = subprocess.run([sys.executable, "-m", "hopgate.proxy_process", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Mitmproxy: 12.")
