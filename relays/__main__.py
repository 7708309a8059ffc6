"""One process of relays: `python -m relays --config hopgate.yaml --process relay-0`. `hopgate up` starts it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from hopgate.addresses import Address
from hopgate.config import Config, load_config
from hopgate.errors import HopgateError, Misconfigured, Unavailable
from hopgate.proxy_process import SHARED_PORT, SUPERVISOR, protect
from hopgate.services import Services
from relays.listen import Listener, SocketListener
from relays.outside import Outside
from relays.relay import Relay
from relays.signals import Signals
from relays.workers import Workers

STOP_SECONDS: Final = 5.0  # for clients to take their last words
GC_THRESHOLD: Final = 20_000  # a relayed statement leaves no cycles; looking for them after every 700 objects walks all sessions
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
RELAYS: Final = {"postgres": "relays.postgres.relay:PostgresRelay"}  # listen.<wire>: what speaks it, sans-IO
LISTENERS: Final = {"ssh": "relays.ssh.listen:SshListener"}  # those whose library wants the transport to itself

_log = logging.getLogger("hopgate.relays")


class Process:
    """Services and listeners of one process, from `open` to `close`."""

    def __init__(self, config: Config, name: str, *, shared: bool = False) -> None:
        self.config = config
        self.name = name
        self.shared = shared
        self.listeners: dict[str, SocketListener] = {}

    async def open(self) -> None:
        """Start everything; the ports come last. Raises Misconfigured, Unavailable: then nothing listens."""
        self.services = await Services.start(self.config, process=self.name)
        self.outside = Outside(self.services, Workers(), Signals(self.config.state / "run" / "signals", self.name))
        try:
            self.outside.signals.open()
            for wire in wires(self.config):
                listener = self._listener(wire)
                listener.open()
                self.listeners[wire] = listener
        except OSError as error:
            await self.close()
            raise Unavailable(f"{self.config.state}: {error.strerror or type(error).__name__}") from None
        except BaseException:
            await self.close()
            raise

    def _listener(self, wire: str) -> SocketListener:
        address = _address(self.config, wire)
        if wire in LISTENERS:
            made: SocketListener = _named(LISTENERS[wire])(self.outside, address, shared=self.shared)
            return made
        return Listener(self.outside, address, relays_of(self.config)[wire], shared=self.shared)

    async def close(self) -> None:
        """Accept nothing more, tell every client, end every session."""
        for listener in self.listeners.values():
            listener.close()
        drivers = list(self.outside.drivers)
        for driver in drivers:
            driver.kill("the gateway is stopping")
        if drivers:
            await asyncio.wait([driver.closed for driver in drivers], timeout=STOP_SECONDS)
        self.outside.signals.close()
        self.outside.workers.close()
        await self.outside.reader.close()
        await self.services.close()


def wires(config: Config) -> tuple[str, ...]:
    """What is listened on and this program speaks."""
    return tuple(wire for wire in (*RELAYS, *LISTENERS) if getattr(config.listen, wire) is not None)


def relays_of(config: Config) -> dict[str, Callable[[], Relay]]:
    """What makes a relay, for each wire that is listened on and has relays."""
    return {wire: _named(RELAYS[wire]) for wire in wires(config) if wire in RELAYS}


def _named(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def _address(config: Config, wire: str) -> Address:
    address: Address = getattr(config.listen, wire)
    return address


async def serve(config: Config, name: str, *, shared: bool) -> None:
    """Run until SIGTERM or SIGINT. Raises Misconfigured, Unavailable."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    process = Process(config, name, shared=shared)
    await process.open()
    gc.freeze()
    try:
        for wire, listener in process.listeners.items():
            _log.info("%s: listening on %s", wire, listener.address)
        await stopping.wait()
    finally:
        await process.close()


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m relays", description="Relays of hopgate: everything but HTTP.")
    parser.add_argument("--config", type=Path, default=Path("hopgate.yaml"))
    parser.add_argument("--process", default="relay-0", help="names this process in the ledger")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after a clean end, 2 for what the configuration says wrong, 1 for what else keeps it from starting."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    protect(int(os.environ.get(SUPERVISOR, "0")))
    logging.basicConfig(level=logging.WARNING, format=f"{options.process}: %(message)s")
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    keep_freed_memory()
    try:
        config = load_config(options.config)
        if not wires(config):
            raise Misconfigured(f"{config.path}: listen: names nothing that the relays speak: {', '.join((*RELAYS, *LISTENERS))}")
        _run(serve(config, options.process, shared=os.environ.get(SHARED_PORT) == "1"))
    except HopgateError as error:
        print(f"{options.process}: {error}", file=sys.stderr)
        return 2 if isinstance(error, Misconfigured) else 1
    return 0


def keep_freed_memory() -> None:
    """Tell glibc to give memory back to the kernel in larger parts than it does by itself.

    What one read of a socket brings (256 KiB) would else be given back with each packet, and come anew page by page: 5 % of bulk data.
    """
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)


def _run(work: Coroutine[Any, Any, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(work)
        return
    import uvloop

    uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main())
