"""The ordered list of our addons, and how they get into mitmproxy's master for good."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions, hooks
from mitmproxy.proxy import mode_specs

from addons import dispatch, fast_paths, http1, known, options, websocket_messages
from addons.fail_closed import on_failure
from addons.gate import Gate
from hopgate.config import Config, load_config
from hopgate.errors import HopgateError, Misconfigured
from hopgate.mask_key import mask_key
from hopgate.proxy_process import SUPERVISOR
from hopgate.state_lock import StateLock
from hopgate.tasks import spawn

_held: list[StateLock] = []  # for as long as the process lives


def build(gate: Gate, script: str) -> list[Any]:
    """Our addons, first gate first. They run after all of mitmproxy's own, so that they judge what will be sent."""
    from addons.destinations import Destinations
    from addons.enforce import Enforce
    from addons.identify import Identify
    from addons.listener import Listener
    from addons.mask import Mask
    from addons.memory import Memory
    from addons.record import Record
    from addons.tunnels import Tunnels

    destinations = Destinations(gate.config.connections)
    listener = Listener(gate)
    record = Record(gate)
    return [
        options.Options(script),
        Lifecycle(gate),
        Tunnels(),
        listener,
        Identify(gate, destinations, listener),
        destinations,
        Enforce(gate, destinations),
        websocket_messages.WebSockets(record),
        Mask(gate),
        record,
        Memory(),
    ]


class Lifecycle:
    """Starts the services when mitmproxy runs, moves the listener to where the configuration wants it, and ends everything."""

    name = "hopgate_lifecycle"

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._began = False

    async def running(self) -> None:
        from hopgate.services import Services

        if self._began:
            return
        self._began = True
        try:
            self.gate.hash_key = mask_key(self.gate.config.state)
            self.gate.services = await Services.start(self.gate.config, process=ctx.options.hopgate_process)
        except HopgateError as error:
            _give_up(error)
        on_failure.append(self.gate.services.metrics.failed_closed)
        proxyserver: Any = ctx.master.addons.get("proxyserver")
        await proxyserver.servers.update([mode_specs.ProxyMode.parse(mode) for mode in ctx.options.mode])

    async def done(self) -> None:
        if self.gate.ready:
            services, self.gate.services = self.gate.services, None
            await services.close()


def hand_over(loader: Any) -> None:
    """Called by the script's `load`: check, configure, and put our addons into the master's own chain. Exits 1 when that cannot be."""
    loader.add_option("hopgate", str, "hopgate.yaml", "The gateway's configuration file.")
    loader.add_option("hopgate_process", str, "http", "What this process is called in the ledger; no two may share a name.")
    loader.add_option("hopgate_dispatch", bool, True, "Look the hooks of each event up once. Off: mitmproxy's own dispatch.")
    manager = ctx.master.addons
    if manager.get("hopgate_options") is not None:
        return  # the script was reloaded: what runs is the chain that was handed over first
    try:
        _begin(manager)
    except HopgateError as error:
        _give_up(error)
    except exceptions.OptionsError as error:
        _give_up(Misconfigured(str(error)))
    except Exception as error:
        # mitmproxy would log it and serve without a single gate
        _give_up(Misconfigured(f"the gateway cannot be loaded: {type(error).__name__}: {error}"))


def _begin(manager: Any) -> None:
    known.check()
    # --set values of options that exist only now are applied now
    ctx.options.process_deferred()
    scripts = ctx.options.scripts
    script = scripts[0] if scripts else ""
    options.check_start(ctx.options, script)
    config = load_config(Path(ctx.options.hopgate).expanduser().absolute())
    if not os.environ.get(SUPERVISOR):
        _held.append(StateLock.take(config.state))  # under `hopgate up` the supervisor holds it for all of its processes
    http1.install()
    websocket_messages.install()
    _set_options(config)
    gate = Gate(config)
    chain = build(gate, script)
    if dispatch.install(manager, wanted=ctx.options.hopgate_dispatch):
        fast_paths.install()
    for addon in chain:
        if manager.get(addon.name) is None:
            manager.add(addon)
            manager.invoke_addon_sync(addon, hooks.ConfigureHook(set(ctx.options.keys())))
    proxyserver: Any = manager.get("proxyserver")
    if proxyserver is not None and proxyserver.is_running:
        spawn(manager.get("hopgate_lifecycle").running(), name="start of the services")


def _set_options(config: Config) -> None:
    if config.listen.http is None:
        raise Misconfigured(f"{config.path}: listen: has no http listener: name one, as in http: 127.0.0.1:8080")
    address = config.listen.http.address
    # mitmproxy makes the directory of its CA with the umask's mode, and the CA's key is in there
    directory = config.state / "ca"
    config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    ctx.options.update(**options.required_values(ctx.options, config.state, address.host, address.port))


def _give_up(error: HopgateError) -> None:
    """mitmproxy would log this with a traceback, or go on without us."""
    print(f"hopgate: {error}", file=sys.stderr, flush=True)
    # SystemExit would be kept in the task that loads the script while the port stays open for a moment
    os._exit(1)
