"""`hopgate secrets`: a value goes in and never comes out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hopgate.secret_store import SecretStore
from hopgate.store import Store
from tests.hopgate.cli.conftest import Hopgate

VALUE = "bk_live_8Zk29fjq"


def revealed(state: Path, name: str) -> str:
    async def work() -> str:
        store = await Store.open(state)
        try:
            return (await SecretStore(store, state).get(name)).reveal()
        finally:
            await store.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("stdin", "stored"),
    [(VALUE, VALUE), (f"{VALUE}\n", VALUE), (f"{VALUE}\r\n", VALUE), ("-----BEGIN\nabc\n-----END\n", "-----BEGIN\nabc\n-----END\n")],
)
def test_set_reads_stdin(hopgate: Hopgate, config: Path, stdin: str, stored: str) -> None:
    assert hopgate("secrets", "set", "billing", stdin=stdin).out == "billing: version 1 stored\n"
    assert revealed(config.parent / "var", "billing") == stored


def test_no_command_and_no_file_shows_a_value(hopgate: Hopgate, config: Path) -> None:
    printed = []
    for arguments, stdin in (
        (("secrets", "set", "billing"), VALUE),
        (("secrets", "set", "billing"), VALUE + "2"),
        (("secrets", "list"), ""),
        (("secrets", "list", "--json"), ""),
        (("secrets", "rotate"), ""),
        (("secrets", "delete", "nothing"), ""),
    ):
        done = hopgate(*arguments, stdin=stdin)
        printed.append(done.out + done.err)
    assert VALUE not in "".join(printed)
    assert revealed(config.parent / "var", "billing") == VALUE + "2"
    assert not [path for path in config.parent.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()]
    events = [json.loads(line)["event"] for line in (config.parent / "var" / "ledger" / "cli.ndjson").read_text().splitlines()]
    assert [event for event in events if event != "checkpoint"] == ["secret_set", "secret_set", "secrets_rotated"]


def test_list_and_delete(hopgate: Hopgate) -> None:
    assert hopgate("secrets", "list").out == "no secrets\n"
    hopgate("secrets", "set", "billing", stdin=VALUE)
    hopgate("secrets", "set", "other", stdin=VALUE)
    assert [(each["name"], each["version"]) for each in json.loads(hopgate("secrets", "list", "--json").out)] == [
        ("billing", 1),
        ("other", 1),
    ]
    assert hopgate("secrets", "delete", "billing").status == 0
    done = hopgate("secrets", "delete", "billing")
    assert (done.status, done.err) == (2, "hopgate: there is no secret named billing\n")


def test_a_state_of_another_user_is_left_alone(hopgate: Hopgate, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hopgate("secrets", "list")
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    done = hopgate("secrets", "set", "billing", stdin=VALUE)
    assert done.status == 1
    assert "run this as the gateway's user" in done.err
