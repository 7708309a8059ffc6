"""The clients of docs/postgres.md, run as they stand there, with nothing but what `hopgate env` prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.demo.database import DatabaseStage, relay_missing
from playground.postgres import Postgres

DOCUMENT = (Path(__file__).parents[2] / "docs" / "postgres.md").read_text()
EXAMPLES = re.findall(r"^(\w+)[^\n]*:\n```python\n(.*?)```", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
WANTED = {"psycopg": "[(1, 'paid')]", "asyncpg": "paid", "SQLAlchemy": "20", "AutoGen": "[(20,)]"}
live_only = pytest.mark.skipif(bool(relay_missing()), reason=relay_missing() or "-")


def test_every_client_has_an_example() -> None:
    assert [name for name, _ in EXAMPLES] == list(WANTED)
    for name, code in EXAMPLES:
        compile(code, name, "exec")


def test_the_configuration_loads(tmp_path: Path) -> None:
    from hopgate.config import load_config

    (part,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    (tmp_path / "hopgate.yaml").write_text("version: 1\nidentity: {issuers: [{name: local, local: true}]}\n" + part)
    config = load_config(tmp_path / "hopgate.yaml")
    assert [each.name for each in config.connections] == ["orders-db"]
    assert str(config.listen.postgres) == "127.0.0.1:15432"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[dict[str, str]]:
    stage = DatabaseStage(tmp_path_factory.mktemp("doc"), database=postgres)
    try:
        stage.open()
        variables = json.loads(stage.hopgate("env", "--json", token=stage.token("agent-7", "agents")))
        yield {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **variables}
    finally:
        stage.close()


@live_only
@pytest.mark.peer
@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_it_works_as_it_stands(environment: dict[str, str], name: str, code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == WANTED[name]
    if name == "AutoGen":
        assert lines[1].startswith("42501: ")
        assert "sql-no-drop" in lines[1]
