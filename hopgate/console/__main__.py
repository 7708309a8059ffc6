"""The console's process: `python -m hopgate.console --config hopgate.yaml --process console-0`. `hopgate up` starts it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn

from hopgate.config import Config, load_config
from hopgate.console.app import build
from hopgate.console.connection import Connection
from hopgate.console.desk import Desk
from hopgate.errors import HopgateError, Misconfigured, Unavailable
from hopgate.proxy_process import SUPERVISOR, protect
from hopgate.tasks import spawn

STOP_SECONDS: Final = 3  # for answers that are on their way; streams end at once
CONNECTIONS: Final = 600


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: ours end the desk as well."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(config: Config, desk: Desk) -> uvicorn.Server:
    """The HTTP server of the console, not yet listening."""
    address, tls = desk.place.address, config.tls if desk.place.tls else None
    settings = uvicorn.Config(
        build(desk),
        host=address.host,
        port=address.port,
        loop="none",
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,  # paths hold what people search for, and links hold tokens
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=True,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=str(tls.cert) if tls is not None else None,
        ssl_keyfile=str(tls.key) if tls is not None else None,
        h11_max_incomplete_event_size=64 << 10,
    )
    return _Server(settings)


async def serve(config: Config, name: str) -> None:
    """Run until SIGTERM or SIGINT. Raises Misconfigured, Unavailable."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    desk = await Desk.open(config, process=name)
    try:
        http = server(config, desk)
        serving = spawn(_listen(http, desk), name="console")
        waiting = spawn(stopping.wait(), name="stop")
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        http.should_exit = True
        await desk.inbox.close()
        await serving
    finally:
        await desk.close()


async def _listen(http: uvicorn.Server, desk: Desk) -> None:
    try:
        await http.serve()
    except SystemExit:  # uvicorn's way to say that it cannot listen
        raise Unavailable(f"listen.console: cannot listen on {desk.place.address}") from None


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hopgate.console", description="The console of hopgate.")
    parser.add_argument("--config", type=Path, default=Path("hopgate.yaml"))
    parser.add_argument("--process", default="console-0", help="names this process in the ledger")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after a clean end, 2 for what the configuration says wrong, 1 for what else keeps it from starting."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    protect(int(os.environ.get(SUPERVISOR, "0")))
    logging.basicConfig(level=logging.WARNING, format=f"{options.process}: %(message)s")
    try:
        config = load_config(options.config)
        asyncio.run(serve(config, options.process))
    except HopgateError as error:
        print(f"{options.process}: {error}", file=sys.stderr)
        return 2 if isinstance(error, Misconfigured) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
