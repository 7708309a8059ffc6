"""`hopgate env` and `hopgate ca`: what an agent's place needs, and nothing that it must not have."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.hopgate.cli.conftest import Hopgate

VARIABLES = {
    *("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS"),
}


def test_a_shell_reads_it(hopgate: Hopgate) -> None:
    done = hopgate("env", token="tok.en-1")
    shell = subprocess.run(["sh", "-c", f"{done.out}\nenv"], capture_output=True, text=True, check=True, env={"NO_PROXY": "localhost"})
    found = dict(line.partition("=")[::2] for line in shell.stdout.splitlines())
    assert found.keys() >= VARIABLES
    assert found["https_proxy"] == found["HTTP_PROXY"] == "http://agent:tok.en-1@127.0.0.1:18080"
    assert found["NO_PROXY"] == found["no_proxy"] == ""
    assert "BEGIN CERTIFICATE" in Path(found["SSL_CERT_FILE"]).read_text()
    assert "PRIVATE KEY" not in Path(found["SSL_CERT_FILE"]).read_text()


def test_for_a_container(hopgate: Hopgate) -> None:
    done = hopgate("env", "--dotenv", "--bundle", "/etc/ca.pem", "--address", "gateway:8080", "--token", "-", stdin="abc\n")
    lines = dict(line.partition("=")[::2] for line in done.out.splitlines())
    assert lines.keys() == VARIABLES
    assert (lines["HTTP_PROXY"], lines["PIP_CERT"]) == ("http://agent:abc@gateway:8080", "/etc/ca.pem")
    assert json.loads(hopgate("env", "--json").out)["HTTP_PROXY"] == "http://agent:TOKEN@127.0.0.1:18080"


POSTGRES = '  - {name: %s, kind: postgres, target: "127.0.0.1:9", database: %s, credential: {username: app, password: "${secret:x}"}}\n'


@pytest.mark.parametrize(
    ("listen", "names", "address", "wanted"),
    [
        ("127.0.0.1:15432", ["orders-db"], "", {"PGHOST": "127.0.0.1", "PGPORT": "15432", "PGUSER": "orders-db", "PGDATABASE": "orders"}),
        ("127.0.0.1:15432", ["a", "b"], "", {"PGHOST": "127.0.0.1", "PGPORT": "15432"}),
        ("127.0.0.1:15432", ["a", "b"], "gateway:8080", {"PGHOST": "gateway", "PGPORT": "15432"}),
        ("127.0.0.1:15432", ["a", "b"], "[fd00::1]:8080", {"PGHOST": "fd00::1", "PGPORT": "15432"}),
        ("", ["a"], "", {}),
    ],
    ids=["one", "several", "elsewhere", "elsewhere by IPv6", "not spoken"],
)
def test_for_libpq(hopgate: Hopgate, config: Path, listen: str, names: list[str], address: str, wanted: dict[str, str]) -> None:
    text = config.read_text().replace("listen: {", f'listen: {{postgres: "{listen}", ' if listen else "listen: {")
    config.write_text(text.replace("connections:\n", "connections:\n" + "".join(POSTGRES % (name, "orders") for name in names)))
    done = hopgate("env", "--json", "--address", address, token="tok.en-1")
    found = {name: value for name, value in json.loads(done.out).items() if name.startswith("PG")}
    assert found == ({**wanted, "PGPASSWORD": "tok.en-1"} if wanted else {})


@pytest.mark.parametrize("token", ["a b", "$(reboot)", "a@evil:80/", "é"])
def test_a_token_that_would_become_something_else(hopgate: Hopgate, token: str) -> None:
    assert hopgate("env", "--token", token).status == 2


def test_the_authority(hopgate: Hopgate, config: Path, tmp_path: Path) -> None:
    assert "made" in hopgate("ca", "create").err
    assert "is there already" in hopgate("ca", "create").err
    shown = json.loads(hopgate("ca", "show", "--json").out)
    assert len(shown["sha256"].split(":")) == 32
    assert shown["sha256"] in hopgate("ca", "show").out
    alone = hopgate("ca", "export").out
    assert alone.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in alone
    target = tmp_path / "bundle.pem"
    assert hopgate("ca", "export", "--bundle", "--output", str(target)).status == 0
    assert target.read_text().count("BEGIN CERTIFICATE") > 50
