"""Scopes of a query: which relations its names stand for, and which columns of which relations it uses.

Column references are resolved when the whole statement was walked, so that the order of the walk does not matter. Without
the server's catalogue a bare column is certain only where one relation can have it; otherwise it stays a bare name, which
every rule about a relation's columns leaves unknown.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rules.sql.functions import catalog

type Parts = tuple[str, ...]

ROW: Final = "*"


class Mode(enum.Enum):
    """When what the scope says happens."""

    NOW = "now"
    PLAN = "only planned"  # EXPLAIN without ANALYZE
    LATER = "stored"  # definitions of views, rules, functions


class Source:
    """Something in FROM. `bases` are the relations that it shows rows of; a query's own columns were found when it was walked."""

    __slots__ = ("bases", "called", "outputs", "renamed")

    def __init__(
        self,
        bases: Sequence[Parts] = (),
        outputs: Callable[[], frozenset[str]] | None = None,
        renamed: bool = False,
        called: bool = False,
    ) -> None:
        self.called = called  # what a function gives: its name may stand for one value
        self.bases = tuple(bases)
        self.outputs = outputs  # names that it certainly has, worked out when asked for
        self.renamed = renamed  # its columns have other names in here

    def certainly_has(self, column: str) -> bool:
        return self.outputs is not None and column in self.outputs()


class Ctes:
    """The names that a WITH clause gives to queries, as one of them or the statement itself sees them: the first `visible`.

    They share one table: a copy for each would be quadratic in a statement with thousands of them.
    """

    __slots__ = ("_outer", "_table", "_visible")

    def __init__(self, outer: Ctes | None, table: Mapping[str, tuple[int, Source]], visible: int) -> None:
        self._outer = outer
        self._table = table
        self._visible = visible

    def find(self, name: str) -> Source | None:
        ctes: Ctes | None = self
        while ctes is not None:
            found = ctes._table.get(name)
            if found is not None and found[0] < ctes._visible:
                return found[1]
            ctes = ctes._outer
        return None


class Scope:
    """One query level. `outer` is the level whose columns it may use too."""

    __slots__ = ("_only", "ctes", "mode", "outer", "sources")

    def __init__(self, outer: Scope | None, ctes: Ctes | None, mode: Mode) -> None:
        self.outer = outer
        self.ctes = ctes
        self.mode = mode
        self.sources: list[tuple[str, Source]] = []
        self._only: tuple[frozenset[str], Parts] | None = None

    def inside(self, mode: Mode | None = None) -> Scope:
        """A level below that sees this one's columns."""
        return Scope(self, self.ctes, mode or self.mode)

    def beside(self) -> Scope:
        """A level that does not see this one's columns: CTEs, non-lateral subqueries, the arms of UNION."""
        return Scope(self.outer, self.ctes, self.mode)

    def cte(self, name: str) -> Source | None:
        return None if self.ctes is None else self.ctes.find(name)

    def add(self, alias: str, source: Source) -> None:
        self.sources.append((alias, source))

    def only_base(self, column: str) -> Parts:
        """The one relation that a bare column can belong to, where but one is in sight; () where it takes a closer look."""
        if self._only is None:
            self._only = self._find_only()
        aliases, base = self._only
        return () if column in aliases else base

    def _find_only(self) -> tuple[frozenset[str], Parts]:
        sources = [found for scope in self.levels() for found in scope.sources]
        bases = {base for _, source in sources for base in source.bases}
        if len(bases) == 1 and not any(source.renamed or source.outputs is not None for _, source in sources):
            return frozenset(alias for alias, _ in sources), bases.pop()
        return frozenset(), ()

    def levels(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def in_sight(self) -> Iterator[tuple[str, Source]]:
        """All sources, each with its alias."""
        for scope in self.levels():
            yield from scope.sources

    def find(self, qualifier: Sequence[str]) -> Source | None:
        """What `qualifier` stands for: an alias, a relation's name, or a schema and a relation."""
        name = qualifier[-1]
        for scope in self.levels():
            for alias, source in scope.sources:
                if len(qualifier) == 1 and alias == name:
                    return source
                if len(qualifier) > 1 and any(_same(base, qualifier) for base in source.bases):
                    return source
        return None


def _same(base: Parts, qualifier: Sequence[str]) -> bool:
    length = min(len(base), len(qualifier))
    return base[-length:] == tuple(qualifier[-length:])


def resolve(scope: Scope, names: Sequence[str], *, star: bool) -> Iterator[Parts]:
    """The columns that a reference `names` (or `names.*`) uses, each as its parts; `*` as last part is the whole row."""
    if star:
        yield from _whole_rows(scope, names)
    elif len(names) == 1:
        yield from _bare(scope, names[0])
    elif names:
        yield from _qualified(scope, names[:-1], names[-1])


def field_of(scope: Scope, name: str, field: str) -> Iterator[Parts]:
    """The columns of `(name).field`: a column of the relation `name`, or a field of the column `name`."""
    if scope.find((name,)) is not None:
        yield from _qualified(scope, (name,), field)
    yield from _column(scope, name)


def _whole_rows(scope: Scope, qualifier: Sequence[str]) -> Iterator[Parts]:
    if not qualifier:
        for _, source in scope.sources:
            yield from ((*base, ROW) for base in source.bases)
        return
    found = scope.find(qualifier)
    if found is None:
        yield (*qualifier, ROW)
    else:
        yield from ((*base, ROW) for base in found.bases)


def _bare(scope: Scope, name: str) -> Iterator[Parts]:
    row = scope.find((name,))
    rows = [] if row is None else [(*base, ROW) for base in row.bases]
    yield from rows  # a relation's name as a value is its whole row, but a column of that name goes before
    yield from (column for column in _column(scope, name) if (*column[:-1], ROW) not in rows)


def _column(scope: Scope, name: str) -> Iterator[Parts]:
    candidates: list[Source] = []
    found_sources = False
    for level in scope.levels():
        found_sources = found_sources or bool(level.sources)
        if any(source.certainly_has(name) for _, source in level.sources):
            break
        candidates += [source for _, source in level.sources if source.bases]
    bases = [(source, base) for source in candidates for base in source.bases]
    distinct = {base for _, base in bases}
    if len(distinct) == 1:
        yield (*distinct.pop(), ROW if any(source.renamed for source, _ in bases) else name)
    elif distinct:
        yield (name,)
        yield from ((*base, ROW) for source, base in bases if source.renamed)
    elif not found_sources:
        yield (name,)


def _qualified(scope: Scope, qualifier: Sequence[str], column: str) -> Iterator[Parts]:
    source = scope.find(qualifier)
    if source is None:
        yield (*qualifier, column)
        return
    row_function = column in catalog().row_functions
    for base in source.bases:
        if source.renamed or row_function:
            yield (*base, ROW)  # `t.row_to_json` calls the function with the whole row where no such column is
        if not source.renamed and len(source.bases) == 1:
            yield (*base, column)
    if len(source.bases) > 1:
        yield (column,)


def output_names(query: Mapping[str, Any]) -> frozenset[str]:
    """Names of columns that a SelectStmt certainly gives; those that are hard to tell are left out."""
    while "larg" in query:
        query = query["larg"]
    names = set()
    for target in query.get("targetList", ()):
        result = target.get("ResTarget", {})
        name = result.get("name") or _implied_name(result.get("val", {}))
        if name:
            names.add(name)
    return frozenset(names)


def _implied_name(value: Mapping[str, Any]) -> str:
    reference = value.get("ColumnRef")
    if reference is None:
        return ""
    last = reference["fields"][-1].get("String")
    return last.get("sval", "") if last else ""
