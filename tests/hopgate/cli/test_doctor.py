"""`hopgate doctor`: each thing that it looks at, once well and once ill."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from hopgate import doctor
from hopgate.addresses import Address
from hopgate.config import load_config
from hopgate.doctor import Finding, examine, probe_wall
from tests.hopgate.cli.conftest import Hopgate

Usage = namedtuple("Usage", "total used free")


def of(findings: list[Finding], what: str) -> list[str]:
    return [each.status for each in findings if each.what == what]


@pytest.fixture
def ready(hopgate: Hopgate, config: Path) -> Path:
    """A configuration whose state directory has keys, a database and an authority."""
    hopgate("secrets", "set", "billing", stdin="value")
    hopgate("ca", "create")
    return config


def test_a_healthy_gateway(ready: Path) -> None:
    found = examine(load_config(ready), "65534")
    assert {each.status for each in found} <= {"ok", "warn"}
    assert of(found, "configuration") == ["ok"]
    assert of(found, "agents' user") == ["ok"]
    assert of(found, "key file")


@pytest.mark.parametrize("user", [str(os.getuid()), "root", "no-such-user"])
def test_agents_that_could_read_the_keys(ready: Path, user: str) -> None:
    assert of(examine(load_config(ready), user), "agents' user") == ["fail"]


@pytest.mark.parametrize(
    ("path", "what"), [("var", "directory"), ("var/keys/secrets.key", "key file"), ("var/ca/mitmproxy-ca.pem", "key file")]
)
def test_what_others_can_read(ready: Path, path: str, what: str) -> None:
    (ready.parent / path).chmod(0o644)
    assert "fail" in of(examine(load_config(ready)), what)


def test_a_full_disk(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, 0))
    assert of(examine(load_config(ready)), "disk") == ["fail"]


def test_a_clock_that_went_back(ready: Path) -> None:
    ledger = ready.parent / "var" / "ledger" / "cli.ndjson"
    os.utime(ledger, (4e9, 4e9))
    assert of(examine(load_config(ready)), "clock") == ["fail"]


def test_somebody_else_on_our_port(ready: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.write_text(ready.read_text().replace("127.0.0.1:18080", f"127.0.0.1:{server.getsockname()[1]}"))
        assert of(examine(load_config(ready)), "http listener") == ["fail"]


def test_rules_that_do_not_load(ready: Path) -> None:
    (ready.parent / "my.yaml").write_text("version: 1\nrules: [{id: 1}]\n")
    assert of(examine(load_config(ready)), "configuration") == ["fail"]


def test_the_wall(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_names(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    monkeypatch.setattr(doctor, "_DOCKER", ())
    monkeypatch.setenv("HTTP_PROXY", "http://agent:token@gateway:8080")
    gateway = Address("gateway", 8080)
    walled = probe_wall(None, ("10.0.0.5:5432",), lambda address: address == gateway)
    assert {each.status for each in walled} == {"ok"}
    open_field = probe_wall(load_config(config), ("10.0.0.5:5432",), lambda _: True)
    failed = {each.what for each in open_field if each.status == "fail"}
    assert failed >= {"direct IPv4", "direct IPv6", "cloud metadata", "target", "target of billing"}
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.delenv("http_proxy", raising=False)
    assert of(probe_wall(None, (), lambda _: False), "gateway") == ["fail"]


def test_the_command(hopgate: Hopgate, ready: Path) -> None:
    done = hopgate("doctor", "--agent-user", "root", "--json")
    assert done.status == 1
    assert {"status": "fail", "what": "agents' user"}.items() <= next(
        each for each in json.loads(done.out) if each["status"] == "fail"
    ).items()
    assert hopgate("doctor").out.count("\n") > 5


def test_a_refused_connection_says_that_packets_came_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1])
        assert doctor.reachable(address)
    assert not doctor.reachable(address)  # on loopback a refusal means only that nobody listens
