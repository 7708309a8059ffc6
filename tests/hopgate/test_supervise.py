"""Supervision with stand-ins for mitmdump: starts, crashes, restarts, stops. tests/peers drives the real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hopgate import supervise
from hopgate.addresses import Address
from hopgate.config import Config, load_config
from hopgate.errors import Misconfigured, Unavailable
from hopgate.health import HealthServer
from hopgate.state_lock import StateLock
from hopgate.supervise import Supervisor, Worker
from playground.postgres import free_port

# answers 501 to everything, as a proxy that is up answers something
LISTENS = "import http.server as h; h.ThreadingHTTPServer(('127.0.0.1', {port}), h.BaseHTTPRequestHandler).serve_forever()"


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "hopgate.yaml"
    path.write_text(
        f"version: 1\nstate: ./var\nidentity:\n  issuers:\n    - {{name: local, local: true}}\n"
        f'listen: {{http: "127.0.0.1:{free_port()}", health: "127.0.0.1:{free_port()}"}}\n'
    )
    return load_config(path)


class Running:
    """A supervisor in a thread, as its signal handlers would stop it."""

    def __init__(self, config: Config, script: str, count: int = 1) -> None:
        self.said: list[str] = []
        command = (sys.executable, "-c", script)
        self.supervisor = Supervisor(config, [Worker(name, command) for name in supervise.worker_names(count)], self.said.append)
        self.lock = StateLock.take(config.state)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.supervisor.run(self.lock)
        except Exception as error:
            self.error = error
        finally:
            self.lock.close()

    def stop(self) -> None:
        self.supervisor.stopping.set()
        self.thread.join(20)


@pytest.fixture
def run(config: Config) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(script: str = "", count: int = 1) -> Running:
        assert config.listen.http is not None
        started.append(Running(config, script or LISTENS.format(port=config.listen.http.address.port), count))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def health(config: Config, path: str = "/healthz") -> tuple[int, str]:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{config.listen.health}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_crashed_proxy_is_unhealthy_and_started_again(config: Config, run: Callable[..., Running]) -> None:
    running = run()
    until(lambda: running.said)
    status, text = health(config)
    first = json.loads(text)["workers"][0]
    assert (status, first["running"], first["restarts"]) == (200, True, 0)
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: health(config)[0] == 503)
    until(lambda: health(config)[0] == 200)
    again = json.loads(health(config)[1])["workers"][0]
    assert again["restarts"] == 1
    assert again["pid"] != first["pid"]
    assert any("ended with status -9; next start in 0.5 s" in line for line in running.said)


def test_a_machine_that_cannot_start_processes_for_a_while(
    config: Config, run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run()
    until(lambda: running.said)
    start = Supervisor._start

    def fail(*_: object) -> None:
        monkeypatch.setattr(Supervisor, "_start", start)
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Supervisor, "_start", fail)
    os.kill(running.supervisor.status()["workers"][0]["pid"], signal.SIGKILL)
    until(lambda: any("cannot be started" in line for line in running.said))
    until(lambda: health(config)[0] == 200)


def test_all_processes_end_with_the_supervisor(config: Config, run: Callable[..., Running]) -> None:
    running = run()
    until(lambda: running.said)
    pid = running.supervisor.status()["workers"][0]["pid"]
    running.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert running.error is None


def test_a_proxy_that_does_not_start_ends_the_start(run: Callable[..., Running]) -> None:
    running = run("raise SystemExit(1)")
    until(lambda: running.error)
    assert isinstance(running.error, Unavailable)
    assert "http-0 did not start" in str(running.error)


ANSWERS = "import socket; s = socket.create_server(('127.0.0.1', {{port}}))\nwhile True:\n    c = s.accept()[0]; {0}"


@pytest.mark.parametrize(
    ("answer", "serves"),
    [
        ("c.recv(999); c.sendall(b'HTTP/1.1 503 Starting\\r\\nContent-Length: 0\\r\\n\\r\\n')", False),
        ("c.recv(999); c.sendall(b'HTTP/1.1 404 Here\\r\\nContent-Length: 0\\r\\n\\r\\n')", True),
        ("c.recv(999); c.sendall(b'nonsense\\r\\n\\r\\n')", False),
        ("c.close()", True),  # not for this address
        ("kept = c", False),  # hangs
    ],
)
def test_a_proxy_is_up_when_it_answers(monkeypatch: pytest.MonkeyPatch, answer: str, serves: bool) -> None:
    import subprocess

    monkeypatch.setattr(supervise, "PROBE_SECONDS", 0.5)
    address = Address("127.0.0.1", free_port())
    assert not supervise.serves(address)
    process = subprocess.Popen([sys.executable, "-c", ANSWERS.format(answer).format(port=address.port)])
    try:
        until(lambda: supervise.answers(address))
        assert supervise.serves(address) is serves
    finally:
        process.kill()
        process.wait()


def test_refusals_before_anything_listens(config: Config, tmp_path: Path) -> None:
    assert config.listen.http is not None
    with (
        socket.create_server((config.listen.http.address.host, config.listen.http.address.port)),
        pytest.raises(Misconfigured, match="already"),
    ):
        supervise.supervise(config, say=lambda _: None)
    lock = StateLock.take(config.state)
    with pytest.raises(Misconfigured, match="in use by the gateway"):
        supervise.supervise(config, say=lambda _: None)
    lock.close()
    path = tmp_path / "none.yaml"
    path.write_text("version: 1\nidentity: {issuers: [{name: local, local: true}]}\n")
    with pytest.raises(Misconfigured, match="names nothing to run"):
        supervise.supervise(load_config(path), say=lambda _: None)
    path.write_text('version: 1\nidentity: {issuers: [{name: local, local: true}]}\nlisten: {http: "127.0.0.1:0"}\n')
    with pytest.raises(Misconfigured, match="port 0"):
        supervise.supervise(load_config(path), say=lambda _: None)


def test_the_command_line_names_the_configuration_and_holds_nothing_else(config: Config) -> None:
    command = supervise.command(config, "http-3")
    assert command[0] == sys.executable
    assert f"hopgate={config.path}" in command
    assert "hopgate_process=http-3" in command
    assert config.listen.http is not None
    assert f"listen_port={config.listen.http.address.port}" in command
    assert Path(command[command.index("-s") + 1]).name == "gateway.py"


def test_metrics_add_up_over_processes(tmp_path: Path) -> None:
    script = (
        "import asyncio\nfrom hopgate.metrics import Metrics\n"
        "m = Metrics()\nm.decided('http', 'deny')\nm.masked(2)\nm.sessions.set(1)\nasyncio.run(m.flush())\n"
    )
    import subprocess

    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, supervise.METRICS_VARIABLE: str(tmp_path)})
    port = free_port()
    server = HealthServer(Address("127.0.0.1", port), lambda: {"ok": False}, tmp_path)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert 'hopgate_operations_total{effect="deny",kind="http"} 2.0' in text
        assert "hopgate_masked_values_total 4.0" in text
        for path, expected in (("/healthz", 503), ("/", 404), ("/metrics/../lock", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                opener.open(f"http://127.0.0.1:{port}{path}", timeout=5)
            assert caught.value.code == expected
    finally:
        server.close()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Misconfigured, match=r"listen\.health: cannot listen"):
        HealthServer(Address("127.0.0.1", port), dict, tmp_path)
