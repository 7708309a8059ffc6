"""`hopgate up`: takes the state directory, starts the proxies, restarts what crashes, stops all together.

A crashed proxy is down until it is back: nothing passes meanwhile, because there is no other way through. A proxy that cannot even
start is not tried again: what is wrong then (a port, a key, an option) does not go away by itself.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

from hopgate.addresses import Address
from hopgate.ca import create_ca
from hopgate.config import Config
from hopgate.errors import HopgateError, Misconfigured, Unavailable
from hopgate.health import HealthServer
from hopgate.proxy_process import SHARED_PORT, SUPERVISOR
from hopgate.state_lock import StateLock

RELAYED: Final = ("postgres", "ssh")  # of listen:, what `python -m relays` speaks
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
START_SECONDS: Final = 80.0  # a proxy that does not listen by then is taken for hanging
STOP_SECONDS: Final = 10.0  # grace between SIGTERM and SIGKILL; held requests are answered in it
_FIRST_PAUSE: Final = 0.5  # before a restart, doubled each time
_LONGEST_PAUSE: Final = 30.0
_STEADY: Final = 60.0  # seconds of running after which a crash counts as a first one
_POLL: Final = 0.1
PROBE_SECONDS: Final = 2.0
_UNSPECIFIED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(slots=True)
class Worker:
    """One proxy process and its restarts."""

    name: str
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    restarts: int = 0
    pause: float = _FIRST_PAUSE

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class Supervisor:
    """The processes of one gateway. `run()` returns the exit status when the gateway has stopped."""

    config: Config
    workers: list[Worker]
    say: Callable[[str], None]
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, lock: StateLock) -> int:
        environment = self._environment()
        try:
            for worker in self.workers:
                self._start(worker, lock, environment)
            self._await_listeners()
            with self._health():
                if self.stopping.is_set():
                    return 0
                addresses = ", ".join(str(address) for address in (self._address, *self._relayed))
                self.say(f"listening on {addresses}; {len(self.workers)} process{'es' if len(self.workers) > 1 else ''}")
                while not self.stopping.wait(_POLL):
                    self._restart_crashed(lock, environment)
        finally:
            self._stop()
        return 0

    def status(self) -> dict[str, Any]:
        """What /healthz says; `ok` only while every process runs and the port answers."""
        workers = [
            {"name": w.name, "pid": w.process.pid if w.process else 0, "running": w.running, "restarts": w.restarts} for w in self.workers
        ]
        ok = all(worker["running"] for worker in workers) and self._all_listen()
        return {"ok": ok, "status": "ok" if ok else "degraded", "listener": str(self._address), "workers": workers}

    @property
    def _address(self) -> Address:
        assert self.config.listen.http is not None
        return self.config.listen.http.address

    @property
    def _relayed(self) -> tuple[Address, ...]:
        return tuple(address for _, address in relayed(self.config))

    def _all_listen(self) -> bool:
        return serves(self._address, tls=self.config.tls is not None) and all(map(answers, self._relayed))

    @property
    def _metrics(self) -> Path:
        return self.config.state / "run" / "metrics"

    def _environment(self) -> dict[str, str]:
        shutil.rmtree(self._metrics, ignore_errors=True)  # counters of the last run
        self._metrics.mkdir(mode=0o700, parents=True)
        kinds = [worker.name.partition("-")[0] for worker in self.workers]
        shared = "1" if len(kinds) > len(set(kinds)) else "0"  # several on one port
        ours = {METRICS_VARIABLE: str(self._metrics), SHARED_PORT: shared, SUPERVISOR: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **ours}

    def _health(self) -> contextlib.AbstractContextManager[object]:
        if self.config.listen.health is None:
            return contextlib.nullcontext()
        return contextlib.closing(HealthServer(self.config.listen.health, self.status, self._metrics))

    def _start(self, worker: Worker, lock: StateLock, environment: dict[str, str]) -> None:
        worker.started_at = time.monotonic()
        # the lock's descriptor goes along: the directory stays taken while any process of this gateway lives
        worker.process = subprocess.Popen(worker.command, env=environment, stdin=subprocess.DEVNULL, pass_fds=(lock.descriptor,))  # noqa: S603

    def _await_listeners(self) -> None:
        """Until every port answers. Raises Unavailable when a process ends first: its own line says why."""
        deadline = time.monotonic() + START_SECONDS
        while not self.stopping.wait(_POLL):
            for worker in self.workers:
                if not worker.running:
                    raise Unavailable(f"{worker.name} did not start: the line before this one says why")
            if self._all_listen():
                return
            if time.monotonic() > deadline:
                addresses = " or ".join(str(address) for address in (self._address, *self._relayed))
                raise Unavailable(f"nothing listens on {addresses} after {START_SECONDS:.0f} seconds")

    def _restart_crashed(self, lock: StateLock, environment: dict[str, str]) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if worker.running:
                continue
            if worker.process is not None:
                self._note_crash(worker, worker.process, now)
            elif now >= worker.restart_at:
                worker.restarts += 1
                try:
                    self._start(worker, lock, environment)
                except OSError as error:  # no memory or no processes left: perhaps there are later
                    worker.restart_at = now + worker.pause
                    self.say(f"{worker.name} cannot be started ({error.strerror}); next try in {worker.pause:g} s")

    def _note_crash(self, worker: Worker, process: subprocess.Popen[bytes], now: float) -> None:
        if now - worker.started_at > _STEADY:
            worker.pause = _FIRST_PAUSE
        worker.process, worker.restart_at = None, now + worker.pause
        self.say(f"{worker.name} (pid {process.pid}) ended with status {process.returncode}; next start in {worker.pause:g} s")
        worker.pause = min(worker.pause * 2, _LONGEST_PAUSE)
        from prometheus_client.multiprocess import mark_process_dead

        with contextlib.suppress(OSError):  # counters are not worth the gateway
            mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]

    def _stop(self) -> None:
        running = [worker.process for worker in self.workers if worker.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def supervise(config: Config, *, workers: int = 1, say: Callable[[str], None]) -> int:
    """Run the gateway until SIGTERM or SIGINT. Raises Misconfigured before anything listens, Unavailable when it cannot start."""
    if config.listen.http is None:
        raise Misconfigured(f"{config.path}: listen: has no http listener: name one, as in http: 127.0.0.1:8080")
    if config.listen.http.address.port == 0:
        raise Misconfigured(f"{config.path}: listen.http: port 0 would move at each restart: name one")
    for wire, address in relayed(config):
        if address.port == 0:
            raise Misconfigured(f"{config.path}: listen.{wire}: port 0 would move at each restart: name one")
    config.check()
    lock = StateLock.take(config.state)
    supervisor = Supervisor(
        config, [Worker(name, command(config, name)) for name in worker_names(workers, relays=bool(relayed(config)))], say
    )
    try:
        if answers(config.listen.http.address):
            raise Misconfigured(f"{config.path}: listen.http: another program already listens on {config.listen.http.address}")
        for wire, address in relayed(config):
            if answers(address):
                raise Misconfigured(f"{config.path}: listen.{wire}: another program already listens on {address}")
        if create_ca(config.state):
            say(f"made a certificate authority below {config.state / 'ca'}")
        say(user_notice())
        with _signals(supervisor.stopping):
            return supervisor.run(lock)
    except OSError as error:
        raise Unavailable(f"{config.state}: {error.strerror or type(error).__name__}") from None
    finally:
        lock.close()


def worker_names(count: int, *, relays: bool = False) -> list[str]:
    """Names of the processes: `http-0` …, and with `relays` as many `relay-0` …"""
    kinds = ("http", "relay") if relays else ("http",)
    return [f"{kind}-{index}" for kind in kinds for index in range(count)]


def relayed(config: Config) -> tuple[tuple[str, Address], ...]:
    """What `python -m relays` listens on: (wire, address)."""
    return tuple((wire, address) for wire in RELAYED if (address := getattr(config.listen, wire)) is not None)


def command(config: Config, name: str) -> tuple[str, ...]:
    """The command line of one process. It holds no secret: any user of the machine can read it."""
    if name.startswith("relay-"):
        return (sys.executable, "-P", "-m", "relays", "--config", str(config.path.absolute()), "--process", name)
    spec = find_spec("addons.gateway")
    if spec is None or spec.origin is None:
        raise HopgateError("the addons package is not installed beside this one: install hopgate again")
    assert config.listen.http is not None
    address = config.listen.http.address
    # mitmproxy would begin on its own port 8080 before the gateway moves it, and fail where that is taken
    listener = (f"listen_host={address.host}", f"listen_port={address.port}")
    options = (f"hopgate={config.path.absolute()}", f"hopgate_process={name}", *listener, "termlog_verbosity=warn", "flow_detail=0")
    settings = [part for option in options for part in ("--set", option)]
    return (sys.executable, "-P", "-m", "hopgate.proxy_process", "-s", spec.origin, *settings)


def answers(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    host = _UNSPECIFIED.get(address.host, address.host)
    try:
        socket.create_connection((host, address.port), timeout=1).close()
    except OSError:
        return False
    return True


def serves(address: Address, *, tls: bool = False) -> bool:
    """Whether the proxy there answers: one that is still starting says 503, one that hangs says nothing.

    Asked in origin-form, which every caller may do and which no rule decides. Where the listener wants TLS, that it accepts is enough.
    """
    if tls and not address.loopback:
        return answers(address)
    host = _UNSPECIFIED.get(address.host, address.host)
    probe = http.client.HTTPConnection(host, address.port, timeout=PROBE_SECONDS)
    try:
        probe.request("GET", "/")
        return probe.getresponse().status != http.HTTPStatus.SERVICE_UNAVAILABLE
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return True  # it does not speak to this address, which is its right
    except (OSError, http.client.HTTPException):
        return False
    finally:
        probe.close()


def user_notice() -> str:
    """Who the gateway runs as, and what that means for agents on the same machine."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return f"running as {name} (uid {uid}): agents must run as another user or elsewhere, for whoever is {name} here can read its keys"


@contextlib.contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
