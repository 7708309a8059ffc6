"""`hopgate up` with real proxies: one gateway a state directory, several processes a port, crashes, approvals in another process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.peers.live import Live, missing, until

RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: http, match: {method: GET}, effect: allow}
  - {id: refund, on: http, match: {method: POST, path: /v1/refunds}, effect: hold, hold: {reviewers: [finance]}}
"""
pytestmark = [pytest.mark.peer, pytest.mark.skipif(missing("curl"), reason="curl is not installed")]
CUSTOMERS = "http://billing.internal/v1/customers"
REFUND = ("-X", "POST", "-H", "Content-Type: application/json", "http://billing.internal/v1/refunds")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    stage = Live(tmp_path, RULES)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A running gateway for tests that leave it as they found it, each with a subject of its own."""
    stage = Live(tmp_path_factory.mktemp("up"), RULES)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


def health(live: Live) -> dict[str, Any]:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://127.0.0.1:{live.health}/healthz", timeout=5
        ) as answer:
            return dict(json.load(answer))
    except OSError:
        return {"ok": False, "workers": []}


def test_a_second_gateway_is_refused(shared: Live) -> None:
    other = shared.gateway / "other.yaml"
    other.write_text(shared.config.read_text().replace(str(shared.proxy), "1").replace(str(shared.health), "2"))
    for words in (["-m", "hopgate", "up", "--config", str(other)], ["-m", "hopgate", "up", "--config", str(shared.config)]):
        done = shared.command([sys.executable, *words])
        assert done.returncode == 1
        assert "is in use by the gateway with pid" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_processes_share_the_port_and_the_approvals(live: Live) -> None:
    live.open(workers=2)
    agent, alice = live.token("agent-7", "agents"), live.token("alice", "finance")
    for _ in range(24):
        assert live.curl(agent, CUSTOMERS).stdout.endswith("\n200")
    assert until(lambda: len({event["session"] for event in live.ledger() if event["event"] == "session_opened"}) >= 2), (
        "one process served all"
    )
    # held by one process, approved in a third, spent by whichever gets the repeated request
    pending = live.curl(agent, "-H", "Prefer: respond-async", *REFUND, body='{"customer": 1, "amount": 9}')
    number = json.loads(pending.stdout.rpartition("\n")[0])["approval"]
    live.hopgate("approvals", "approve", number, token=alice)
    assert live.curl(agent, *REFUND, body='{"customer": 1, "amount": 9}').stdout.endswith("\n201")
    again = live.curl(agent, "-H", "Prefer: respond-async", *REFUND, body='{"customer": 1, "amount": 9}')
    assert again.stdout.endswith("\n403")
    assert [line["status"] for line in live.accesses() if line["method"] == "POST"] == [201]
    live.stop_gateway()
    assert json.loads(live.hopgate("verify", "--json"))["verdict"] == "whole"


def test_a_killed_process_comes_back_and_verify_says_interrupted(live: Live) -> None:
    live.open()
    agent = live.token("agent-7", "agents")
    assert live.curl(agent, CUSTOMERS).stdout.endswith("\n200")
    pid = health(live)["workers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)

    def comes_back() -> bool:
        told = health(live)  # one answer: right after the kill one may still say ok, and the next one is a 503
        return bool(told["ok"]) and told["workers"][0]["pid"] != pid

    assert until(comes_back, 30)
    assert live.curl(agent, CUSTOMERS).stdout.endswith("\n200")
    live.stop_gateway()
    told = json.loads(live.hopgate("verify", "--json", fails=True))
    assert told["verdict"] == "interrupted"
    assert {"interrupted"} <= {each["kind"] for each in told["findings"]} <= {"interrupted", "torn", "whole"}


def test_nothing_outlives_a_killed_supervisor(live: Live) -> None:
    live.open()
    pids = [each["pid"] for each in health(live)["workers"]]
    live.gateway_process.kill()
    live.gateway_process.wait()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)
    live.stop_gateway()
    live.start_gateway()  # the directory is free again
    assert health(live)["ok"]


def test_a_decision_in_another_process_resumes_the_request(shared: Live) -> None:
    agent, alice = shared.token("agent-8", "agents"), shared.token("alice", "finance")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shared.curl, agent, *REFUND, body='{"customer": 1, "amount": 9}')
        asked = json.loads(shared.hopgate("approvals", "watch", "--once", "--json"))
        assert not waiting.done()
        assert not [line for line in shared.accesses() if line["method"] == "POST"]
        shared.hopgate("approvals", "approve", asked["id"], token=alice)
        assert waiting.result(20).stdout.endswith("\n201")


def test_a_kill_ends_the_session_and_locks_the_principal(shared: Live) -> None:
    agent, olga = shared.token("agent-9", "agents"), shared.token("olga", "ops")
    assert shared.curl(agent, CUSTOMERS).stdout.endswith("\n200")
    shared.hopgate("sessions", "kill", "--subject", "local:agent-9", token=olga)
    assert until(lambda: not shared.curl(agent, CUSTOMERS).stdout.endswith("\n200"), 30)
    seen = len(shared.accesses())
    shared.hopgate("unlock", "subject", "local:agent-9", token=olga)
    assert until(lambda: shared.curl(agent, CUSTOMERS).stdout.endswith("\n200"), 30)
    assert len(shared.accesses()) == seen + 1


def test_metrics(shared: Live) -> None:
    shared.curl(shared.token("agent-10", "agents"), CUSTOMERS)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = ""

    def told() -> bool:
        nonlocal text
        with opener.open(f"http://127.0.0.1:{shared.health}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return re.search(r'hopgate_operations_total\{effect="allow",kind="http"\} [1-9]', text) is not None

    assert until(told), text
    assert "agent-10" not in text


def test_a_broken_configuration_starts_nothing(live: Live) -> None:
    live.config.write_text("version: 1\nidentity: {issuers: [{name: local, local: true}]}\nlisten: {http: 0.0.0.0:8080}\nfrob: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "hopgate", "up", "--config", str(live.config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert all(line.startswith(f"hopgate: {live.config}:") for line in done.stderr.splitlines())
    assert "frob" in done.stderr
