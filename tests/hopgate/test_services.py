"""The bundle starts whole or not at all, and closes what it opened."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from hopgate.anchors import heads_in
from hopgate.config import Config, load_config
from hopgate.errors import Misconfigured, Unavailable
from hopgate.services import Services
from hopgate.store import Store

CONFIG = """
version: 1
state: var
rules: [rules.yaml]
identity: {issuers: [{name: local, local: true}]}
"""
RULES = "version: 1\nrules:\n  - {id: nothing, on: http, effect: deny}\n"


def config(tmp_path: Path, more: str = "") -> Config:
    (tmp_path / "hopgate.yaml").write_text(CONFIG + more)
    (tmp_path / "rules.yaml").write_text(RULES)
    return load_config(tmp_path / "hopgate.yaml")


def events(state: Path, process: str) -> list[str]:
    return [orjson.loads(line)["event"] for line in (state / "ledger" / f"{process}.ndjson").read_bytes().splitlines()]


async def test_it_starts_and_closes_and_says_so_in_the_ledger(tmp_path: Path) -> None:
    services = await Services.start(config(tmp_path), process="http-0")
    assert services.rules.current.version
    await services.close()
    told = events(services.config.state, "http-0")
    assert [event for event in told if event != "checkpoint"] == ["started", "rules_loaded"]
    assert told[-1] == "checkpoint"


async def test_the_last_head_is_remembered_and_anchored(tmp_path: Path) -> None:
    kept = tmp_path / "heads"
    made = config(tmp_path, f"ledger: {{anchor: 'command:tee -a {kept}'}}\n")
    services = await Services.start(made, process="http-0")
    await services.close()
    assert services.ledger.head is not None
    assert services.ledger.head.final
    assert heads_in(kept.read_text().splitlines())[-1] == services.ledger.head
    store = await Store.open(made.state)
    assert [(head.n, head.head, head.final) for head in await store.list_heads()] == [
        (services.ledger.head.i, services.ledger.head.h, True)
    ]
    await store.close()


async def test_a_second_gateway_on_the_same_state_is_refused(tmp_path: Path) -> None:
    services = await Services.start(config(tmp_path), process="http-0")
    with pytest.raises(Unavailable, match="another process writes this ledger"):
        await Services.start(services.config, process="http-0")
    await services.close()


async def test_it_does_not_start_on_broken_rules(tmp_path: Path) -> None:
    made = config(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES.replace("effect", "efect"))
    with pytest.raises(Misconfigured, match=r"rules\.yaml"):
        await Services.start(made, process="http-0")


async def test_broken_rules_leave_the_old_ones_in_force_and_are_told(tmp_path: Path) -> None:
    services = await Services.start(config(tmp_path), process="http-0")
    version = services.rules.current.version
    (tmp_path / "rules.yaml").write_text(RULES.replace("deny", "alow"))
    await services._refresh_rules()
    assert services.rules.current.version == version
    (tmp_path / "rules.yaml").write_text(RULES + "# changed\n")
    await services._refresh_rules()
    assert services.rules.current.version != version
    await services.close()
    told = events(services.config.state, "http-0")
    assert told.count("rules_refused") == 1
    assert told.count("rules_loaded") == 2
