"""Lineage against a real PostgreSQL: where a column's mark turns up in a result, the lineage of that result says so.

Every column of every table holds a mark of its own. Random queries over them are run; a mark that is found in an output whose
flow does not name its column is a leak that masking would not see.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres
from relays.postgres.catalog import QUERY, Catalog, reached
from rules.sql.lineage import ANYTHING, Context, lineage_of_text

pytestmark = pytest.mark.peer

SCHEMA = """
CREATE SCHEMA far;
CREATE TABLE a (x text, y text, z text); INSERT INTO a VALUES ('«ax»', '«ay»', '«az»');
CREATE TABLE b (x text, y text, w text); INSERT INTO b VALUES ('«bx»', '«by»', '«bw»');
CREATE TABLE far.a (x text, q text); INSERT INTO far.a VALUES ('«fx»', '«fq»');
CREATE VIEW v AS SELECT a.x AS one, b.y || a.z AS two, b.w FROM a CROSS JOIN b;
CREATE VIEW far.b AS SELECT one AS x, q FROM v, far.a;
"""
MARKS = {"«ax»": ("a", "x"), "«ay»": ("a", "y"), "«az»": ("a", "z"), "«bx»": ("b", "x"), "«by»": ("b", "y"), "«bw»": ("b", "w")}
SEEDS = range(4000)
FAR = {"«fx»": "x", "«fq»": "q"}


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[tuple[psycopg.Connection[Any], Catalog]]:
    with psycopg.connect(postgres.url("owner", "postgres"), autocommit=True) as owner:
        owner.execute("CREATE DATABASE lineage")
    try:
        with psycopg.connect(postgres.url("owner", "lineage"), autocommit=True) as connection:
            connection.execute(SCHEMA)
            answer = connection.pgconn.exec_(QUERY.encode()).get_value(0, 0)
            assert answer is not None
            yield connection, Catalog.of(answer)
    finally:
        with psycopg.connect(postgres.url("owner", "postgres"), autocommit=True) as owner:
            owner.execute("DROP DATABASE lineage WITH (FORCE)")


class Queries:
    """Makes queries. Many are none: names are guessed, so that shadowing and ambiguity come up."""

    NAMES = ("x", "y", "z", "w", "q", "one", "two", "a", "b", "s", "t", "column1", "max", "coalesce", "case")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.depth = 0
        self.ctes: list[str] = []
        self.scope: list[tuple[str, list[str]]] = []  # what may be in scope; wrong now and then
        self.named: list[str] = []  # columns of the query that was made last

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def query(self, *, columns: int | None = None) -> str:
        self.depth += 1
        try:
            return self._query(columns or self.random.randint(1, 3), columns is None)
        finally:
            self.depth -= 1

    def _query(self, columns: int, free: bool) -> str:
        known = len(self.ctes)
        head = ""
        if self.depth < 3 and self.chance(0.25):
            name = self.pick("a", "c", "s", "v")
            recursive = self.chance(0.4)
            if recursive:
                self.ctes.append(name)
                body = (
                    f"{self.query(columns=2)} UNION ALL (SELECT {self.pick('j, i', 'i, j', 'i, i', 'j, q')} FROM {name}, far.a WHERE false)"
                )
            else:
                body = self.query(columns=2)
                self.ctes.append(name)
            head = f"WITH {'RECURSIVE ' if recursive else ''}{name}{'(i, j)' if recursive or self.chance(0.5) else ''} AS ({body}) "
        if self.depth < 3 and self.chance(0.15):
            found = f"{head}({self.query(columns=columns)}) UNION ALL ({self.query(columns=columns)})"
        elif self.chance(0.05):
            found = head + "VALUES (" + ", ".join(self.value() for _ in range(columns)) + ")"
        else:
            above, self.scope = self.scope, list(self.scope)
            sources = ", ".join(self.source() for _ in range(self.random.randint(1, 2)))
            stars = free or self.chance(0.2)
            chosen = [self.target(stars) for _ in range(columns)]
            self.scope = above
            self.named = [one.rpartition(" AS ")[2] for one in chosen if " AS " in one and ")" not in one.rpartition(" AS ")[2]]
            targets = ", ".join(chosen)
            found = f"{head}SELECT {targets} FROM {sources}{self.pick('', '', ' LIMIT 3')}"
        del self.ctes[known:]
        return found

    def source(self) -> str:
        kind = self.random.random()
        if kind < 0.5 or self.depth > 3:
            name = self.pick("a", "b", "far.a", "far.b", "v", *(self.ctes or ["a"]))
            columns = {"a": "xyz", "b": "xyw", "far.a": "xq", "far.b": "xq"}.get(name, "ij")
            alias = self.pick("", "", " s", " t", " a", " AS b(y, x)", " AS x")
            self.visible((alias.split("(")[0].split() or [name.rpartition(".")[2]])[-1], [*columns] if "(" not in alias else ["y", "x"])
            return name + alias
        if kind < 0.7:
            lateral = self.pick("", "LATERAL ")
            above, self.scope = self.scope, list(self.scope) if lateral else []
            query = self.query()
            self.scope, names = above, self.pick("", "(x)", "(y, z)")
            alias = self.pick("s", "t", "a", "j")
            self.visible(alias, ["x"] if names == "(x)" else ["y", "z"] if names else self.named)
            return f"{lateral}({query}) {alias}{names}"
        if kind < 0.73:
            return f"unnest(ARRAY[{self.value()}]) {self.pick('s', 't', 'x', 's(q)')}"
        on = self.pick(
            "JOIN {} ON true",
            "LEFT JOIN {} ON true",
            "JOIN {} USING (x)",
            "LEFT JOIN {} USING (y, x)",
            "NATURAL FULL JOIN {}",
            "FULL JOIN {} USING (x)",
        )
        joined = f"{self.source()} {on.format(self.source())}"
        return joined if self.chance(0.7) else f"({joined}){self.pick('', ' AS j', ' AS j(x, y)', ' AS a')}"

    def visible(self, alias: str, columns: list[str]) -> None:
        self.scope.append((alias, columns or ["x"]))

    def target(self, stars: bool) -> str:
        if stars and self.chance(0.25):
            return self.pick("*", "a.*", "s.*", "t.*", "b.*", "j.*", "public.a.*")
        return self.value() + (f" AS {self.pick(*self.NAMES[:10])}" if self.chance(0.4) else "")

    def value(self) -> str:
        kind = self.random.random()
        if kind < 0.65 or self.depth > 4:
            if not self.scope or self.chance(0.05):
                return self.pick(*self.NAMES)
            alias, columns = self.random.choice(self.scope)
            column = self.pick(*columns)
            return column if self.chance(0.3) else alias if self.chance(0.05) else f"{alias}.{column}"
        self.depth += 1
        try:
            one, other = self.value(), self.value()
            if kind < 0.72:
                return f"(SELECT {one} FROM ({self.query()}) {self.pick('s', 't', 'a')} LIMIT 1)"
            if kind < 0.76:
                return f"(SELECT {one})"
            row, table, field = self.pick("a", "s", "t", "v", "b"), self.pick("a", "s", "t", "b"), self.pick("x", "y", "z", "text")
            return self.pick(
                f"{one}::text || {other}::text",
                f"coalesce({one}::text, {other}::text)",
                f"upper({one}::text)",
                f"CASE WHEN true THEN {one}::text ELSE {other}::text END",
                f"({one})::text",
                f"row_to_json({row})",
                f"ROW({one}, {other})",
                f"ARRAY[{one}]",
                f"({table}).{field}",
                f"(lag({one}) OVER ())::text || {other}::text",
                f'{one} COLLATE "C"',
                f"ARRAY({self.query(columns=1)})",
                f"max({one}::text)",
                f"concat({one}, {other})",
                f"to_jsonb({one})",
            )
        finally:
            self.depth -= 1


def test_no_mark_turns_up_unannounced(database: tuple[psycopg.Connection[Any], Catalog]) -> None:
    connection, catalog = database
    schema = catalog.schema
    numbers = {(one.schema, one.name, name): (one.oid, number) for one in schema.relations.values() for number, name in one.columns}
    marks = {mark: numbers["public", *name] for mark, name in MARKS.items()} | {
        mark: numbers["far", "a", name] for mark, name in FAR.items()
    }
    carriers = {mark: reached({column: {True}}, catalog).keys() for mark, column in marks.items()}
    ran = found = known = 0
    for seed in SEEDS:
        sql = Queries(seed).query()
        result = connection.pgconn.exec_(f"EXPLAIN {sql}".encode())
        if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
            continue
        result = connection.pgconn.exec_(sql.encode())
        if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
            continue
        ran += 1
        (lineage,) = lineage_of_text(sql.encode(), Context(schema))
        names = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
        flows = lineage.flows(names)
        known += all(ANYTHING not in flow for flow in flows)
        for n, flow in enumerate(flows):
            values = {(result.get_value(row, n) or b"").decode().lower() for row in range(result.ntuples)}
            for mark, columns in carriers.items():
                if any(mark in value for value in values):
                    found += 1
                    assert ANYTHING in flow or flow & columns, (
                        f"{sql}\nshows {mark} in column {n + 1} ({names[n]}), which carries {set(flow)}"
                    )
    assert ran > len(SEEDS) / 15
    assert found > ran
    assert known > ran * 0.6  # unknown would be sound, and useless
