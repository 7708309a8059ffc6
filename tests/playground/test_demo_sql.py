"""The demonstration's database part: a statement that did not go as told fails it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from playground.demo import __main__ as demo
from playground.demo import database, queries, sql
from playground.demo.database import DatabaseStage, relay_missing
from playground.demo.generated import messages
from playground.demo.queries import QUERIES
from playground.demo.report import Report
from playground.postgres import Postgres, Unavailable


def found() -> list[dict[str, Any]]:
    return [{"request": each.sql, "status": each.status, "text": each.contains, "note": each.note} for each in QUERIES]


@pytest.mark.parametrize("change", ["none", "missing", "status", "text", "extra", "another"])
def test_a_statement_that_did_not_go_so_fails(change: str) -> None:
    report, hops = Report(), found()
    if change == "missing":
        hops.pop()
    elif change == "extra":
        hops.append(hops[0])
    elif change != "none":
        name, value = {"status": ("status", "00000"), "text": ("text", ""), "another": ("request", "SELECT 2")}[change]
        hops[3][name] = value
    sql.queries(report, hops)
    assert len(report.failed) == (0 if change == "none" else 1)


def test_what_is_denied_may_not_arrive_and_what_arrives_is_allowed() -> None:
    for each in QUERIES:
        assert each.arrives is each.verdict.startswith(("allowed", "held, approved"))
        assert each.arrives is (each.status == queries.OK)
    assert len({each.sql for each in QUERIES}) == len(QUERIES)


def test_the_generated_code_asks_all_of_it() -> None:
    *_, turn, last = messages(9800, "/somewhere/psql", 5432)
    assert last == "TERMINATE"
    code = turn.partition("```python\n")[2].partition("```")[0]
    asked: list[tuple[str, dict[str, str]]] = []
    text = code.replace("def ask(", "def really_ask(")
    exec(compile(text, "generated", "exec"), {"ask": lambda sql, note, **changed: asked.append((sql, changed))})
    assert [sql for sql, _ in asked] == [each.sql for each in QUERIES]
    assert [changed.get("PGPORT") for _, changed in asked] == ["5432" if each.direct else None for each in QUERIES]
    assert "/somewhere/psql" in code


def test_without_a_database_nothing_is_asked_of_it() -> None:
    assert len(messages(9800)) == len(messages(9800, "psql", 1)) - 1


@pytest.mark.parametrize("name", ["relays.__main__", "relays.postgres.relay"])
def test_a_missing_relay_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(database, "find_spec", lambda wanted: None if wanted == name else object())
    assert relay_missing() == f"this hopgate has no {name}"


def test_the_stage_configures_what_it_runs(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = DatabaseStage(tmp_path / "stage", database=postgres)
    monkeypatch.setattr(stage, "start_gateway", lambda workers: None)
    try:
        stage.open()
        assert ": ok: 2 connections" in stage.hopgate("check")
        variables = stage.hopgate("env", "--dotenv", token=stage.token("a", "agents"))
        assert f"PGPORT={stage.sql}" in variables
        assert "PGUSER=orders-db" in variables
        listed = stage.hopgate("secrets", "list")
        assert "orders-db" in listed
        assert postgres.app_password not in stage.config.read_text() + listed
    finally:
        stage.close()
    assert postgres.query("SELECT 1") == "1\n"  # it was given, so it stays


def test_where_no_database_runs_the_demonstration_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Postgres) -> None:
        raise Unavailable("there is no other user")

    monkeypatch.setattr(Postgres, "start", refuse)
    stage = demo.staged(tmp_path, Report())
    assert not isinstance(stage, DatabaseStage)
    assert "without a database: there is no other user" in capsys.readouterr().out
    stage.close()
