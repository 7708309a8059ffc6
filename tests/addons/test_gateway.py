"""The script of `mitmdump -s`: whatever happens to it, the gates stay; and a gateway that cannot gate does not start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import addons
from playground.postgres import free_port
from tests.addons.conftest import RULES
from tests.addons.live import PASSWORD, SECRET, Client, Gateway
from tests.addons.origin import Origin, json_response

CONNECTION = 'connections:\n  - {{name: api, kind: http, hosts: ["api.test:80"], target: "http://127.0.0.1:{port}"{more}}}\n'


@pytest.fixture
def alone(tmp_path: Path, origin: Origin) -> Iterator[Gateway]:
    """A gateway of the test's own, not started."""
    origin.clear()
    gateway = Gateway(tmp_path, CONNECTION.format(port=origin.port, more=""), RULES)
    yield gateway
    if gateway.process is not None:
        gateway.stop()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Gateway]:
    """A running gateway for tests that leave it as they found it. It was told another port than its configuration says."""
    gateway = Gateway(tmp_path_factory.mktemp("standing"), CONNECTION.format(port=origin.port, more=""), RULES)
    command = gateway.command()
    command[command.index("--listen-port") + 1] = str(free_port())
    gateway.command = lambda *more: [*command, *more]  # type: ignore[method-assign]
    gateway.start()
    yield gateway
    gateway.stop()


def test_touched_broken_and_deleted_it_still_denies(alone: Gateway, origin: Origin) -> None:
    alone.start()

    def check() -> None:
        origin.clear()
        assert alone.get("http://api.test/admin/x").problem["rule"] == "no-admin"
        assert bytes(origin.seen) == b""
        assert alone.get("http://api.test/items", credential=b"").status == 407
        assert alone.get("http://api.test/items").status == 200

    check()
    # mitmproxy looks once a second
    os.utime(alone.script)
    time.sleep(1.3)
    check()
    alone.script.write_text("def broken(:\n")
    time.sleep(1.3)
    check()
    alone.script.write_text("raise SystemError\n")
    time.sleep(1.3)
    check()
    alone.script.unlink()
    time.sleep(1.3)
    check()


def test_the_configuration_says_where_to_listen(standing: Gateway) -> None:
    """Given elsewhere, or not at all, the listener moves before anybody is served."""
    command = standing.command()
    elsewhere = int(command[command.index("--listen-port") + 1])
    assert standing.get("http://api.test/items").status == 200
    assert elsewhere != standing.port
    with pytest.raises(ConnectionRefusedError):
        Client(elsewhere)


def test_a_broken_rule_file_leaves_the_old_rules(standing: Gateway, origin: Origin) -> None:
    (standing.directory / "rules.yaml").write_text("version: 1\nrules: [{id: all, on: http, efect: allow}]\n")
    time.sleep(1.5)
    assert standing.get("http://api.test/admin/x").status == 403
    assert standing.get("http://api.test/items").status == 200
    (standing.directory / "rules.yaml").write_text(
        RULES.replace("id: read, on: http, match: {method: [GET, HEAD]}", "id: read, on: http, match: {method: HEAD}")
    )
    assert standing.eventually(lambda: standing.get("http://api.test/items").status == 403, 30)
    (standing.directory / "rules.yaml").write_text(RULES)
    assert standing.eventually(lambda: standing.get("http://api.test/items").status == 200, 30)


def test_without_the_cached_dispatch_it_gates_the_same(alone: Gateway, origin: Origin) -> None:
    alone.options["hopgate_dispatch"] = "false"
    alone.start()
    origin.answers["/json"] = json_response(b'{"password":"hunter2-secret"}')
    assert alone.get("http://api.test/json").body == b'{"password":"[redacted]"}'
    origin.clear()
    assert alone.get("http://api.test/admin/x").status == 403
    assert alone.get("http://api.test/items", credential=b"").status == 407
    assert bytes(origin.seen) == b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "stream_large_bodies=1m"], "option stream_large_bodies must not be set"),
        (["--map-remote", "|a|b"], "option map_remote must not be set"),
        (["--mode", "socks5"], "option mode must be regular"),
    ],
)
def test_a_dangerous_start_is_refused_in_one_line(alone: Gateway, arguments: list[str], words: str) -> None:
    done = subprocess.run(alone.command(*arguments), cwd="/", env=alone.environment(), capture_output=True, timeout=90, text=True)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert words in lines[0]


def test_a_missing_configuration_is_told_in_one_line(alone: Gateway) -> None:
    (alone.directory / "hopgate.yaml").unlink()
    done = subprocess.run(alone.command(), cwd="/", env=alone.environment(), capture_output=True, timeout=90, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "hopgate.yaml: cannot be read" in done.stderr


def test_a_second_gateway_on_one_state_directory_is_refused_in_one_line(standing: Gateway) -> None:
    other = standing.command("--set", "hopgate_process=another")
    second = subprocess.run(other, cwd="/", env=standing.environment(), capture_output=True, text=True, timeout=90)
    assert second.returncode == 1
    assert "is in use by the gateway with pid" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_key_logs_are_refused(alone: Gateway) -> None:
    environment = {**alone.environment(), "SSLKEYLOGFILE": str(alone.directory / "keys.log")}
    done = subprocess.run(alone.command(), cwd="/", env=environment, capture_output=True, timeout=90, text=True)
    assert done.returncode == 1
    assert "SSLKEYLOGFILE must not be set" in done.stderr


def test_broken_rules_at_start_are_refused(alone: Gateway) -> None:
    (alone.directory / "rules.yaml").write_text("version: 1\nrules: [{id: a, on: http, efect: allow}]\n")
    done = subprocess.run(alone.command(), cwd="/", env=alone.environment(), capture_output=True, timeout=90, text=True)
    assert done.returncode == 1
    assert "rules.yaml:2:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_private_directories_are_private(standing: Gateway) -> None:
    for name in (".", "ca", "keys", "recordings", "ledger"):
        path = standing.directory / "var" / name
        if path.exists():
            assert path.stat().st_mode & 0o077 == 0, name
    assert (standing.directory / "var" / "ca" / "mitmproxy-ca.pem").stat().st_mode & 0o077 == 0


FAULTS = """
import inspect
from addons import fail_closed
from addons.destinations import Destinations
from addons.enforce import Enforce
from addons.identify import Identify
from addons.mask import Mask
from addons.record import Record
from addons.tunnels import Tunnels

def faulty(cls, name):
    original = inspect.unwrap(getattr(cls, name))
    def wanted(data):
        path = data.request.path if hasattr(data, "request") else getattr(data.client, "boom", "")
        return path == f"/boom/{cls.__name__}/{name}"
    if inspect.iscoroutinefunction(original):
        async def hook(self, data):
            if wanted(data): raise RuntimeError("hunter2-secret")
            return await original(self, data)
    else:
        def hook(self, data):
            if wanted(data): raise RuntimeError("hunter2-secret")
            return original(self, data)
    hook.__name__ = name
    setattr(cls, name, fail_closed.fail_closed(hook))

for cls in (Identify, Enforce, Mask, Record, Tunnels):
    for name in ("requestheaders", "request", "responseheaders", "response"):
        if hasattr(cls, name): faulty(cls, name)

from addons.chain import hand_over
def load(loader): hand_over(loader)
"""
AFTER = {"Identify/requestheaders", "Enforce/request"}


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Gateway]:
    more = ', credential: {headers: {Authorization: "Bearer ${env:API_KEY}"}}'
    gateway = Gateway(tmp_path_factory.mktemp("faulty"), CONNECTION.format(port=origin.port, more=more), RULES)
    gateway.script.write_text(FAULTS)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.mark.parametrize(
    "hook",
    ["Identify/requestheaders", "Enforce/request", "Mask/responseheaders", "Mask/response", "Tunnels/responseheaders", "Record/response"],
)
def test_a_live_hook_that_raises_refuses(faulty: Gateway, origin: Origin, hook: str) -> None:
    origin.answers[f"/boom/{hook}"] = json_response(
        b'{"password":"hunter2-secret","token":"injected-credential-0123456789"}', b"X-Secret: hunter2-secret\r\n"
    )
    origin.clear()
    reply = faulty.get(f"http://api.test/boom/{hook}")
    assert reply.status in (0, 500, 502)
    assert PASSWORD not in reply.raw
    assert SECRET.encode() not in reply.raw
    if hook in AFTER:
        assert bytes(origin.seen) == b""
    assert "hunter2" not in faulty.output()
    # and the gateway goes on
    assert faulty.get("http://api.test/items").status == 200


def test_no_module_shadows_another() -> None:
    """mitmproxy leaves the script's directory first on sys.path."""
    ours = {path.stem for path in Path(addons.__file__).parent.glob("*.py")} - {"__init__"}
    installed = {name for name, owners in packages_distributions().items() if set(owners) != {"hopgate"}}
    assert not ours & (set(sys.stdlib_module_names) | installed)
