"""The tables of node kinds are whole: compared with libpg_query's own description and with each other."""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from rules.sql import postgres
from rules.sql.functions import DANGEROUS, HARMLESS_VOLATILE, catalog, words
from rules.sql.nodes import FIELDS, WRAPPED
from rules.sql.postgres import HANDLERS, LEAVES, not_read
from rules.sql.scopes import Mode, Scope
from rules.sql.walk import Walk
from rules.vocabulary import SQL_EFFECTS
from tests.rules.sql.reading import STATE, read

# fields that only later stages of the server fill in
LATER = words("xpr funcexpr viewQuery cooked_default ctecoltypes ctecoltypmods ctecolcollations ctecolnames outargs old_conpfeqop")


def described() -> dict[str, dict[str, str]]:
    """Kind -> field -> kind of the node in it, from the description that the wheel brings."""
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    spec = importlib.util.find_spec("postgast")
    assert spec is not None
    assert spec.origin is not None
    files = descriptor.FileDescriptorSet()
    files.ParseFromString(pathlib.Path(spec.origin).with_name("pg_query.desc").read_bytes())
    kinds: dict[str, dict[str, str]] = {}
    for message in (message for file in files.file for message in file.message_type):
        fields = {field.json_name: field.type_name.rpartition(".")[2] for field in message.field if field.type == field.TYPE_MESSAGE}
        kinds[message.name] = {name: WRAPPED if kind == "Node" else kind for name, kind in fields.items() if name not in LATER}
    return kinds


def test_every_field_that_holds_a_node_is_listed() -> None:
    kinds = described()
    assert {kind: dict(fields) for kind, fields in FIELDS.items()} == {kind: kinds[kind] for kind in FIELDS}


def test_every_unwrapped_node_is_of_a_known_kind() -> None:
    assert {kind for fields in FIELDS.values() for kind in fields.values()} - {WRAPPED} <= FIELDS.keys()


def test_every_statement_has_a_handler() -> None:
    statements = {kind for kind in FIELDS if kind.endswith("Stmt")}
    # a replica identity is part of ALTER TABLE; RETURN is part of a function's body
    assert statements - HANDLERS.keys() == {"ReplicaIdentityStmt", "ReturnStmt"}
    assert HANDLERS.keys() <= FIELDS.keys()
    assert LEAVES.isdisjoint(kind for kind in FIELDS if kind.endswith("Stmt") and kind != "ReplicaIdentityStmt")


def test_what_the_tables_say_is_in_the_vocabulary() -> None:
    assert {effect for effects in DANGEROUS.values() for effect in effects} <= SQL_EFFECTS
    assert not HARMLESS_VOLATILE & DANGEROUS.keys()
    assert catalog().functions.keys() >= HARMLESS_VOLATILE
    assert {"count", "row_to_json", "to_jsonb"} <= catalog().row_functions
    assert not any(catalog().is_harmless(name, count) for name in DANGEROUS for count in range(10))


def walked(tree: dict[str, Any]) -> Walk:
    walk = Walk(STATE, HANDLERS, LEAVES, lambda text: not_read(STATE, "not asked for"))
    walk.statement(tree, Scope(None, None, Mode.NOW))
    walk.run()
    return walk


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"NewStmt": {}}, "NewStmt"),
        ({"SelectStmt": {"newClause": [{"DeleteStmt": {}}]}}, "newClause of SelectStmt"),
        ({"SelectStmt": {"newClause": {"x": 1}}}, "newClause of SelectStmt"),
        ({"SelectStmt": {"whereClause": {"NewExpr": {}}}}, "NewExpr"),
        ({"SelectStmt": {"fromClause": [{"NewRange": {}}]}}, "NewRange"),
        ({"SelectStmt": {"whereClause": {"A_Expr": {"third": {"ColumnRef": {}}}}}}, "third of A_Expr"),
        ({"SelectStmt": {"targetList": [{"ResTarget": {"other": {"ColumnRef": {}}}}]}}, "other of ResTarget"),
        ({"DeleteStmt": {"relation": {"relname": "t"}, "more": [{}]}}, "more of DeleteStmt"),
        ({"TransactionStmt": {"kind": "TRANS_STMT_NEW"}}, "transaction"),
        ({"MergeStmt": {"relation": {"relname": "t"}, "mergeWhenClauses": [{"MergeWhenClause": {"commandType": "CMD_NEW"}}]}}, "MERGE"),
    ],
)
def test_an_unknown_node_or_field_is_incomplete(tree: dict[str, Any], reason: str) -> None:
    assert reason in walked(tree).reason


def test_a_tree_of_an_unforeseen_shape_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "parse", lambda text: [{"SelectStmt": {"fromClause": 5}}, {"DeleteStmt": {}}, {}])
    operation = read("x")
    assert not operation.complete
    assert [part.complete for part in operation.parts] == [False, False, False]


def test_a_failing_parser_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: bytes) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(postgres, "parse", fail)
    assert not read("select 1").complete
    assert "hunter2" not in read("select 1").reason


def test_importing_rules_loads_no_library() -> None:
    code = "import rules.sql.postgres, sys; print(open('/proc/self/maps').read().count('libpg_query'))"
    if not pathlib.Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "0"
