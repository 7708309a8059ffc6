"""What one process of a gateway without a console does for all: tells reviewers what waits, and puts what the ledgers tell where the
console of another machine finds it. `python -m hopgate.keeper --config hopgate.yaml`; `hopgate up` starts it where it is needed.

With a console, that does the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from hopgate.config import Config, load_config
from hopgate.errors import HopgateError, Misconfigured
from hopgate.history import History
from hopgate.metrics import Metrics
from hopgate.notifications import Notifier
from hopgate.proxy_process import SUPERVISOR, protect
from hopgate.secret_store import SecretStore
from hopgate.shared_store import open_store
from hopgate.sources import Sources


async def keep(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises Misconfigured, Unavailable."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as closing:
        store = await open_store(config)
        closing.push_async_callback(store.close)
        sources = Sources(SecretStore(store, config.state))
        closing.push_async_callback(sources.close)
        if config.store is not None:
            history = await History.open(config, store)
            closing.push_async_callback(history.close)
            history.start()
        notifier = await Notifier.open(config, store, sources, console=config.console.url, count=Metrics().notified)
        closing.push_async_callback(notifier.close)
        await notifier.start()
        await stopping.wait()


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after a clean end, 2 for what the configuration says wrong, 1 for what else keeps it from starting."""
    parser = argparse.ArgumentParser(prog="python -m hopgate.keeper", description="Notifications and the index, without a console.")
    parser.add_argument("--config", type=Path, default=Path("hopgate.yaml"))
    options = parser.parse_args(arguments)
    protect(int(os.environ.get(SUPERVISOR, "0")))
    logging.basicConfig(level=logging.WARNING, format="keeper-0: %(message)s")
    try:
        asyncio.run(keep(load_config(options.config)))
    except HopgateError as error:
        print(f"keeper-0: {error}", file=sys.stderr)
        return 2 if isinstance(error, Misconfigured) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
