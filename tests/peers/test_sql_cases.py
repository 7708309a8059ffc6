"""The decision table for SQL: `hopgate explain --sql` and the live gateway, asked with psql, must say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hopgate.cli.app import run

CASES = Path(__file__).parent.parent / "cases"
ROWS: list[dict[str, Any]] = YAML(typ="safe").load((CASES / "sql.yaml").read_text())["cases"]
WHO = {"agent": ("agent-7", "agents"), "eve": ("eve", "visitors")}
CONFIG = """\
version: 1
state: ./var
rules: [rules/packs/, ./rules.yaml]
identity: {issuers: [{name: local, local: true}]}
connections:
  - {name: orders-db, kind: postgres, target: "127.0.0.1:5432", database: orders,
     credential: {username: app, password: "${secret:orders-db}"}}
listen: {http: "127.0.0.1:18080"}
approvals: {reviewers: [dba]}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "hopgate.yaml"
    path.write_text(CONFIG)
    path.with_name("rules.yaml").write_text((CASES / "sql-rules.yaml").read_text())
    return path


def explained(config: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    subject, group = WHO[row.get("who", "agent")]
    words = ["explain", "--config", str(config), "--connection", "orders-db", "--as", subject, "--group", group, "--json"]
    assert run([*words, *(f"--param={value}" for value in row.get("params", ())), "--sql", row["sql"]]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_explain(config: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    told = explained(config, row, capsys)
    assert (told["effect"], told["decided"]) == (row["effect"], "session" if row.get("session") else "sql")
    if "rules" in row:
        assert told["rules"] == row["rules"]
