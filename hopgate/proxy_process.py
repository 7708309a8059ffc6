"""Starts mitmdump in this process, made ready to be one of several on a port: `python -m hopgate.proxy_process [mitmdump's arguments]`.

Everything here must happen before mitmproxy is imported; a script given with `-s` comes too late.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import resource
import signal
import sys
from importlib.metadata import entry_points

SHARED_PORT = "HOPGATE_SHARED_PORT"  # "1": listen with SO_REUSEPORT
SUPERVISOR = "HOPGATE_SUPERVISOR"  # pid of the process that this one must not outlive
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def share_port() -> None:
    """mitmproxy calls asyncio.start_server without a way to ask for SO_REUSEPORT, and a second process could not bind."""
    asyncio.start_server = functools.partial(asyncio.start_server, reuse_port=True)


def protect(supervisor: int) -> None:
    """No core dumps, no debugger of the same user, no life after the supervisor (Linux), and as many open files as are allowed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # two for each connection and one for each session's recording: the usual 1024 are soon gone
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if supervisor:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the line above
            sys.exit(1)


def main() -> None:
    protect(int(os.environ.get(SUPERVISOR, "0")))
    if os.environ.get(SHARED_PORT) == "1":
        share_port()
    (mitmdump,) = entry_points(group="console_scripts", name="mitmdump")
    sys.argv[0] = "mitmdump"
    sys.exit(mitmdump.load()())


if __name__ == "__main__":
    main()
