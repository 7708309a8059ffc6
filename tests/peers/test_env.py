"""Real programs with nothing but what `hopgate env` prints: they go through the gateway, over HTTP and HTTPS, and trust its authority."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.peers.live import Live, missing

RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: http, match: {method: GET, path: "/v1/**"}, effect: allow}
  - {id: hide, on: http, effect: mask, mask: {jsonpath: ["$..ssn"], strategy: redact}}
"""
PROGRAMS = {
    "curl": ("curl", "-sS", "-w", "\n%{http_code}"),
    "urllib": (
        sys.executable,
        "-c",
        "import sys, urllib.request as u, urllib.error as e\n"
        "try: r = u.urlopen(sys.argv[1], timeout=20)\n"
        "except e.HTTPError as error: r = error\n"
        "print(r.read().decode()); print(r.status)",
    ),
    "requests": (
        sys.executable,
        "-c",
        "import sys, requests; r = requests.get(sys.argv[1], timeout=20); print(r.text); print(r.status_code)",
    ),
    "httpx": (sys.executable, "-c", "import sys, httpx; r = httpx.get(sys.argv[1], timeout=20); print(r.text); print(r.status_code)"),
}
pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    stage = Live(tmp_path_factory.mktemp("env"), RULES)
    stage.hosts = '"billing.internal:80", "billing.internal:443"'
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def environment(live: Live) -> dict[str, str]:
    variables = json.loads(live.hopgate("env", "--json", token=live.token("agent-7", "agents")))
    # what a shell or an image may have set before
    return {"PATH": os.environ["PATH"], "HOME": str(live.agent), "REQUEST_METHOD": "GET", "NO_PROXY": "*", **variables}


def fetch(program: str, url: str, environment: dict[str, str]) -> tuple[str, str]:
    done = subprocess.run([*PROGRAMS[program], url], env=environment, capture_output=True, text=True, timeout=60, check=False)
    text, _, status = done.stdout.strip().rpartition("\n")
    return status, text + done.stderr


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "program", [pytest.param("curl", marks=pytest.mark.skipif(missing("curl"), reason="curl is not installed")), *list(PROGRAMS)[1:]]
)
def test_goes_through_the_gateway(live: Live, environment: dict[str, str], program: str, scheme: str) -> None:
    before = len(live.accesses())
    status, text = fetch(program, f"{scheme}://billing.internal/v1/customers/1", environment)
    assert status == "200", text
    assert json.loads(text)["ssn"] == "[redacted]"
    status, text = fetch(program, f"{scheme}://billing.internal/admin/users", environment)
    assert status == "403", text
    assert json.loads(text)["type"] == "urn:hopgate:problem:denied"
    assert [(line["path"], line["key"]) for line in live.accesses()[before:]] == [("/v1/customers/1", "valid")]


@pytest.mark.parametrize("program", ["urllib", "requests", "httpx"])
def test_without_the_bundle_the_gateway_is_not_trusted(live: Live, environment: dict[str, str], program: str) -> None:
    bare = {name: value for name, value in environment.items() if not value.endswith(".pem")}
    status, text = fetch(program, "https://billing.internal/v1/customers/1", bare)
    assert not status.isdigit()
    assert "CERTIFICATE_VERIFY_FAILED" in text
