"""`python -m relays` starts whole or says in one line why not, relays, and ends cleanly; `hopgate up` starts it."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from hopgate import supervise
from hopgate.config import Config, load_config
from playground.postgres import free_port
from relays.__main__ import LISTENERS, RELAYS, Process, main, parse, relays_of
from tests.relays.plain import PlainRelay
from tests.relays.world import configure


def listening(tmp_path: Path, port: int, target: int = 1) -> Config:
    return configure(tmp_path, target, listen={"postgres": f"127.0.0.1:{port}"})


def test_the_command_line() -> None:
    options = parse(["--config", "x.yaml", "--process", "relay-3"])
    assert (options.config, options.process) == (Path("x.yaml"), "relay-3")


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({}, 2, "names nothing that the relays speak: postgres"),
        ({"listen": {"postgres": "127.0.0.1:1"}, "connections": [{"name": "x", "kind": "no"}]}, 2, "connections[0].kind"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path, change: dict[str, object], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.doubles import write_config

    path = write_config(tmp_path, state="var", **change)
    done = subprocess.run([sys.executable, "-m", "relays", "--config", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_relay_that_is_named_can_be_made(tmp_path: Path) -> None:
    (made,) = relays_of(listening(tmp_path, 15432)).values()
    assert made().kind == "postgres"
    assert set(RELAYS) | set(LISTENERS) == set(supervise.RELAYED)
    assert callable(main)


async def test_a_port_that_is_taken_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hopgate.errors import Unavailable

    monkeypatch.setattr("relays.__main__.relays_of", lambda _: {"postgres": PlainRelay})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = Process(listening(tmp_path, taken.getsockname()[1]), "relay-0")
        with pytest.raises(Unavailable, match="address already in use"):
            await process.open()
    again = Process(listening(tmp_path, free_port()), "relay-0")
    await again.open()
    await again.close()


async def test_two_processes_share_a_port_and_signal_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relays.__main__.relays_of", lambda _: {"postgres": PlainRelay})
    config = listening(tmp_path, free_port())
    one, two = Process(config, "relay-0", shared=True), Process(config, "relay-1", shared=True)
    await one.open()
    await two.open()
    heard = asyncio.Event()
    one.outside.signals.register(b"key", heard.set)
    two.outside.signals.send(b"other")
    assert not heard.is_set()
    two.outside.signals.send(b"key")
    await asyncio.wait_for(heard.wait(), 5)
    await one.close()
    two.outside.signals.send(b"key")  # nobody is there any more
    await two.close()


def test_it_listens_and_ends_with_the_signal(tmp_path: Path) -> None:
    port = free_port()
    config = listening(tmp_path, port)
    with subprocess.Popen([sys.executable, "-m", "relays", "--config", str(config.path)], stderr=subprocess.PIPE) as process:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
                break
            assert process.poll() is None, process.stderr.read() if process.stderr else b""
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    lines = [orjson.loads(line) for line in (config.state / "ledger" / "relay-0.ndjson").read_bytes().splitlines()]
    assert lines[0]["event"] == "started"
    assert lines[-1]["event"] == "checkpoint"
    assert lines[-1]["final"] is True


def test_up_starts_as_many_relays_as_proxies(tmp_path: Path) -> None:
    assert supervise.worker_names(2, relays=True) == ["http-0", "http-1", "relay-0", "relay-1"]
    config = load_config(listening(tmp_path, 15432).path)
    assert [(wire, address.port) for wire, address in supervise.relayed(config)] == [("postgres", 15432)]
    assert supervise.command(config, "relay-0")[-4:] == ("--config", str(config.path.absolute()), "--process", "relay-0")
