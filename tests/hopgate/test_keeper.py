"""A gateway without a console still tells reviewers, and its ledgers still get where a console finds them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hopgate.config import load_config
from hopgate.history import SessionQuery
from hopgate.shared_store import open_index, open_store
from hopgate.supervise import command, needs_keeper, worker_names
from tests.hopgate.history.telling import Told
from tests.hopgate.notifications.test_notifier import Receiver
from tests.hopgate.notifications.test_notifier import receiver as receiver
from tests.hopgate.people import EXACT, HOLD, desk, person
from tests.hopgate.places import Databases

BASE = "version: 1\nidentity: {issuers: [{name: local, local: true}]}\n"
NOTIFY = "approvals: {notify: ['json://localhost/']}\n"


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ("", False),
        (NOTIFY, True),
        (NOTIFY + "listen: {console: '127.0.0.1:8443'}\n", False),
        ("store: 'postgresql+asyncpg://u@127.0.0.1/h'\n", True),
    ],
)
def test_it_is_started_where_it_is_needed(tmp_path: Path, more: str, needed: bool) -> None:
    (tmp_path / "hopgate.yaml").write_text(BASE + more)
    config = load_config(tmp_path / "hopgate.yaml")
    assert needs_keeper(config) is needed
    assert ("keeper-0" in worker_names(1, keeper=needs_keeper(config))) is needed
    assert command(config, "keeper-0")[1:4] == ("-P", "-m", "hopgate.keeper")


async def test_it_notifies_and_indexes(tmp_path: Path, databases: Databases, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with databases.fresh() as name:
        url = databases.url(name)
        monkeypatch.setenv("HOPGATE_STORE", url)
        notify = f"approvals: {{notify: ['json://127.0.0.1:{receiver.port}/']}}\n"
        (tmp_path / "hopgate.yaml").write_text(BASE + "state: var\ngateway: east\nstore: '${env:HOPGATE_STORE}'\n" + notify)
        config = load_config(tmp_path / "hopgate.yaml")
        process = subprocess.Popen(command(config, "keeper-0"))  # noqa: ASYNC220
        try:
            index, store = await open_index(config), await open_store(config)
            Told(config.state, index, None).session("s1", process="east.http-0", operations=[{}])  # type: ignore[arg-type]
            async with desk(url) as at:
                at.clock.now = time.time()
                await at.ask(principal=person("agent", "agents"), holds=(HOLD,), exact=EXACT)
            until = time.monotonic() + 60
            while not (receiver.requests and (await index.search_sessions(SessionQuery())).items):
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.05)  # noqa: ASYNC251
            assert [each.process for each in (await index.search_sessions(SessionQuery())).items] == ["east.http-0"]
            await index.close()
            await store.close()
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_a_mistake_ends_it_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "hopgate.yaml").write_text(BASE + "approvals: {notify: ['nothing://x']}\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hopgate.keeper", "--config", str(tmp_path / "hopgate.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "keeper-0: approvals.notify[0] nothing: is no URL that apprise understands\n"
