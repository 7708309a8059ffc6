"""What the server's catalogue says about relations, asked once on a connection of our own: names for column numbers, and what
columns are made of others (views, generated columns, partitions).

Sans-IO: send QUERY as one simple query on a connection of its own, logged in as the session is, and give its one row to
`Catalog.of_row`. Ask again when a statement of kind ddl has run, and now
and then: others may change the schema too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

import msgspec

from rules.sql.lineage import ANYTHING, UNKNOWN_FLOW, ColumnId, Context, Flow, Relation, Schema, lineage_of_text
from rules.sql.lineage.carriers import LEAKING
from rules.sql.lineage.model import DERIVED

FIRST_USER_OID: Final = 16384  # FirstNormalObjectId (access/transam.h): lower ones were made by initdb

_LEAKING_NAMES: Final = ", ".join(f"'{name}'" for name in sorted(LEAKING))
# Every name is qualified: what the query means must not depend on a search path that a client may have set.
_QUERY: Final = f"""
SELECT json_build_object(
  'path', pg_catalog.current_schemas(false),
  'relations', (SELECT json_agg(json_build_array(c.oid::int8, n.nspname, c.relname, c.relkind,
      (SELECT json_agg(json_build_array(a.attnum, a.attname,
          CASE WHEN t.typbasetype = 0 THEN t.oid ELSE t.typbasetype END::int8)
          ORDER BY a.attnum) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
      CASE WHEN c.relkind = ANY ('{{v,m}}'::"char"[]) AND n.nspname <> 'pg_catalog' THEN pg_get_viewdef(c.oid) END))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = ANY ('{{r,p,v,m,f,S}}'::"char"[]) AND n.nspname <> ALL ('{{information_schema,pg_toast}}'::name[])
      AND (n.nspname <> 'pg_catalog' OR c.relname = ANY (ARRAY[{_LEAKING_NAMES}]::name[]))),
  'inherits', (SELECT json_agg(json_build_array(i.inhrelid::int8, i.inhparent::int8)) FROM pg_inherits i),
  'generated', (SELECT json_agg(json_build_array(a.attrelid::int8, a.attnum, p.refobjsubid))
    FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      JOIN pg_depend p ON p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid > 0
        AND p.refobjsubid <> a.attnum::int4 AND (p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid
          OR p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = a.attrelid AND p.objsubid = a.attnum::int4)
    WHERE a.attgenerated <> ''::"char"),
  'functions', (SELECT json_agg(p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> ALL ('{{pg_catalog,information_schema}}'::name[])),
  'operators', (SELECT json_agg(o.oprname) FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE n.nspname <> 'pg_catalog'),
  'texts', (SELECT json_agg(t.oid::int8) FROM pg_type t
    WHERE t.oid >= {FIRST_USER_OID}::oid AND (t.typcategory = 'S'::"char" OR t.typtype = 'e'::"char"))
)::text
"""  # noqa: S608 — names of our own
_NAMES: Final = re.compile(
    r"(?<![.\w'])(json_build_object|json_build_array|json_agg|pg_get_viewdef|pg_[a-z]+(?= [a-z]\b))"
    r'|::(int8|int4|name|regclass|oid|text|"char")'
    r"|( (?:=|<>|>|>=) )"
)


def _qualified(query: str) -> str:
    def replace(match: re.Match[str]) -> str:
        name, kind, operator = match.groups()
        if name:
            return f"pg_catalog.{name}"
        return f"::pg_catalog.{kind}" if kind else f" OPERATOR(pg_catalog.{operator.strip()}) "

    return _NAMES.sub(replace, query)


# definitions of views take locks: the transaction that waits for this answer may hold what they wait for
_PATIENCE: Final = "SET lock_timeout = '2s'; SET statement_timeout = '20s';"
QUERY: Final = _PATIENCE + _qualified(_QUERY)


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

    @staticmethod
    @lru_cache(maxsize=8)  # sessions on one database get the same answer, and keep what is made of it
    def of(answer: bytes) -> Catalog:
        """From the JSON that QUERY gives. Raises BadCatalog."""
        try:
            found = {name: value if value is not None else [] for name, value in msgspec.json.decode(answer).items()}
            relations = [
                (Relation(oid, schema, name, kind, tuple((number, column) for number, column, _ in columns or ())), definition)
                for oid, schema, name, kind, columns, definition in found["relations"]
            ]
            schema = Schema(
                {relation.oid: relation for relation, _ in relations}, frozenset(found["functions"]), frozenset(found["operators"])
            )
            path = tuple(found["path"])  # definitions of views name what is in it without a schema
            sources = _Sources(schema, path)
            # pg_get_viewdef finds its rule by operators of the search path: an `=` before the server's own may give another view's
            trusted = "pg_catalog" not in path[1:]
            for relation, definition in relations:
                if relation.kind in ("v", "m") and relation.schema != "pg_catalog":
                    sources.view(relation, definition if definition and trusted else "")
            for table, column, source in found["generated"]:
                sources.add((table, column), ((table, source), DERIVED))
            sources.inherit(found["inherits"])
            types = {(oid, number): kind for oid, _, _, _, columns, _ in found["relations"] for number, _, kind in columns or ()}
            return Catalog(schema, sources.found, frozenset(found["texts"]), types, _leaking(schema))
        except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
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

    def __init__(self, schema: Schema, path: tuple[str, ...]) -> None:
        self.schema = schema
        self.context = Context(schema, path, settled=True)
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
