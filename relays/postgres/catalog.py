"""What the server's catalogue says about relations, asked once on a connection of our own: names for column numbers, and what
columns are made of others (views, generated columns, partitions).

Sans-IO: send QUERY as one simple query, on a side connection or on the session's own while it is idle and outside of a transaction
(it leaves nothing behind), and give its one row to `Catalog.of_row`. Ask again when a statement of kind ddl has run, and now
and then: others may change the schema too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec

from rules.sql.lineage import ANYTHING, UNKNOWN_FLOW, ColumnId, Context, Flow, Relation, Schema, lineage_of_text
from rules.sql.lineage.carriers import LEAKING
from rules.sql.lineage.model import DERIVED

FIRST_USER_OID: Final = 16384  # FirstNormalObjectId (access/transam.h): lower ones were made by initdb

_LEAKING_NAMES: Final = ", ".join(f"'{name}'" for name in sorted(LEAKING))
# With pg_catalog alone in the search path, pg_get_viewdef qualifies every other name.
QUERY: Final = f"""
BEGIN READ ONLY;
SET LOCAL search_path = pg_catalog;
SELECT json_build_object(
  'relations', (SELECT coalesce(json_agg(json_build_array(c.oid::bigint, n.nspname, c.relname, c.relkind::text,
      (SELECT coalesce(json_agg(json_build_array(a.attnum, a.attname, coalesce(nullif(t.typbasetype, 0), t.oid)::bigint)
          ORDER BY a.attnum), '[]') FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
      CASE WHEN c.relkind IN ('v', 'm') AND n.nspname <> 'pg_catalog' THEN pg_get_viewdef(c.oid) END)), '[]')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema'
      AND (n.nspname NOT IN ('pg_catalog', 'pg_toast') OR (n.nspname = 'pg_catalog' AND c.relname IN ({_LEAKING_NAMES})))),
  'inherits', (SELECT coalesce(json_agg(json_build_array(inhrelid::bigint, inhparent::bigint)), '[]') FROM pg_inherits),
  'generated', (SELECT coalesce(json_agg(DISTINCT jsonb_build_array(a.attrelid::bigint, a.attnum, p.refobjsubid)), '[]')
    FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid > 0
        AND p.refobjsubid <> a.attnum AND (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
          OR p.classid = 'pg_class'::regclass AND p.objid = a.attrelid AND p.objsubid = a.attnum)
    WHERE a.attgenerated <> ''),
  'functions', (SELECT coalesce(json_agg(DISTINCT p.proname), '[]') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')),
  'operators', (SELECT coalesce(json_agg(DISTINCT o.oprname), '[]') FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE n.nspname <> 'pg_catalog'),
  'texts', (SELECT coalesce(json_agg(t.oid::bigint), '[]') FROM pg_type t
    WHERE t.oid >= {FIRST_USER_OID} AND (t.typcategory = 'S' OR t.typtype = 'e'))
)::text;
COMMIT
"""  # noqa: S608 — names of our own


class BadCatalog(ValueError):
    """The server's answer to QUERY is not one."""


@dataclass(frozen=True)
class Catalog:
    """The relations of one database at one moment. `sources`: what a column's values are made of, in columns; ANYTHING where not known."""

    schema: Schema
    sources: Mapping[ColumnId, Flow] = field(default_factory=dict)
    texts: frozenset[int] = frozenset()  # OIDs of types beyond the built-in ones whose values are text
    types: Mapping[ColumnId, int] = field(default_factory=dict)  # OIDs, those of domains replaced by what they are made of
    leaking: frozenset[ColumnId] = frozenset()  # of system relations that hold values of any other

    @classmethod
    def of(cls, answer: bytes) -> Catalog:
        """From the JSON that QUERY gives. Raises BadCatalog."""
        try:
            found = msgspec.json.decode(answer)
            relations = [
                (Relation(oid, schema, name, kind, tuple((number, column) for number, column, _ in columns)), definition)
                for oid, schema, name, kind, columns, definition in found["relations"]
            ]
            schema = Schema(
                {relation.oid: relation for relation, _ in relations}, frozenset(found["functions"]), frozenset(found["operators"])
            )
            sources = _Sources(schema)
            for relation, definition in relations:
                if definition is not None:
                    sources.view(relation, definition)
            for table, column, source in found["generated"]:
                sources.add((table, column), ((table, source), DERIVED))
            sources.inherit(found["inherits"])
            types = {(oid, number): kind for oid, _, _, _, columns, _ in found["relations"] for number, _, kind in columns}
            return cls(schema, sources.found, frozenset(found["texts"]), types, _leaking(schema))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise BadCatalog("the server's catalogue could not be read") from error

    @classmethod
    def of_row(cls, row: bytes) -> Catalog:
        """From the body of the DataRow that answers QUERY. Raises BadCatalog."""
        if row[:2] != b"\0\x01" or len(row) < 6 or int.from_bytes(row[2:6], "big") != len(row) - 6:
            raise BadCatalog("the server's catalogue could not be read")
        return cls.of(row[6:])

    @cached_property
    def dependants(self) -> Mapping[ColumnId, Sequence[ColumnId]]:
        """Column -> the columns that are made of it."""
        found: dict[ColumnId, list[ColumnId]] = {}
        for column, sources in self.sources.items():
            for source in sources:
                found.setdefault(source, []).append(column)
        return found


def _leaking(schema: Schema) -> frozenset[ColumnId]:
    return frozenset(
        (relation.oid, number)
        for relation in schema.relations.values()
        if relation.schema == "pg_catalog"
        for number, name in relation.columns
        if name in LEAKING.get(relation.name, ())
    )


class _Sources:
    """Collects what columns are made of."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.context = Context(schema, ())
        self.found: dict[ColumnId, Flow] = {}

    def add(self, column: ColumnId, sources: Iterable[ColumnId]) -> None:
        self.found[column] = self.found.get(column, frozenset()).union(sources)

    def view(self, relation: Relation, definition: str) -> None:
        read = lineage_of_text(definition.encode(), self.context)
        found = read[0] if len(read) == 1 and read[0].shape == "rows" else None
        exact = found is not None and found.exact and len(found.outputs) == len(relation.columns)
        for index, (number, _) in enumerate(relation.columns):
            flow = found.outputs[index].flow if found is not None and exact else UNKNOWN_FLOW
            if flow:
                self.add((relation.oid, number), flow)

    def inherit(self, pairs: Iterable[tuple[int, int]]) -> None:
        """A row of a child is a row of its parents too, under the same column names."""
        for child, parent in pairs:
            below, above = self.schema.relations.get(child), self.schema.relations.get(parent)
            if below is None or above is None:
                continue
            numbers = {name: number for number, name in above.columns}
            for number, name in below.columns:
                if name in numbers:
                    self.add((child, number), ((parent, numbers[name]),))
                    self.add((parent, numbers[name]), ((child, number),))


def parts_of(relation: Relation, column: str) -> tuple[str, ...]:
    """A column's name as rules match it."""
    return (relation.schema, relation.name, column)


def reached(start: Mapping[ColumnId, Any], catalog: Catalog) -> dict[ColumnId, set[Any]]:
    """Column -> everything that `start` gives to it or to a column that it is made of."""
    found: dict[ColumnId, set[Any]] = {column: set(given) for column, given in start.items()}
    waiting = list(found)
    while waiting:
        column = waiting.pop()
        for dependant in catalog.dependants.get(column, ()):
            known = found.setdefault(dependant, set())
            if not found[column] <= known:
                known |= found[column]
                waiting.append(dependant)
    return found


__all__ = ["ANYTHING", "FIRST_USER_OID", "QUERY", "BadCatalog", "Catalog", "parts_of", "reached"]
