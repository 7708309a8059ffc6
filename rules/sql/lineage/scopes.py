"""What the names of a query stand for: the sources in its FROM, their columns and what those carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rules.sql.lineage.model import NOTHING, UNKNOWN_FLOW, Flow, Output, union

SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


class Source:
    """Something in FROM. `rest`: what columns that are not listed carry; None where all are listed."""

    __slots__ = ("columns", "rest", "unnamed", "whole")

    def __init__(self, columns: Iterable[Output], rest: Flow | None = None) -> None:
        self.columns = tuple(columns)
        self.rest = rest
        unnamed = [column.flow for column in self.columns if not column.name]
        self.unnamed: Flow | None = union(unnamed) if unnamed else None  # of those whose names only the server knows
        self.whole: Flow = union(column.flow for column in self.columns) | (rest or NOTHING)

    def column(self, name: str) -> Flow | None:
        """What the column carries; None when there is none of that name for certain."""
        found = [column.flow for column in self.columns if column.name == name]
        if found:
            return union(found) | (self.rest or NOTHING)
        if self.rest is None:
            return self.unnamed
        return self.rest | (self.unnamed or NOTHING)

    def certainly_has(self, name: str) -> bool:
        return any(column.name == name for column in self.columns)

    def renamed(self, names: tuple[str, ...]) -> Source:
        """With a column alias list: the first columns get these names, whatever theirs are."""
        if not names:
            return self
        kept = self.columns[len(names) :]
        if self.rest is not None:  # which columns come first is not known either
            return Source(
                (*(Output(name, self.whole) for name in names), *(Output(old.name, self.whole) for old in self.columns)), self.whole
            )
        renamed = [Output(name, column.flow, True) for name, column in zip(names, self.columns, strict=False)]
        return Source((*renamed, *kept))

    def clean(self) -> Source:
        """The same columns, carrying nothing: EXCLUDED, whose values the statement brings itself."""
        return Source([Output(column.name, NOTHING, column.certain) for column in self.columns], None if self.rest is None else NOTHING)


class Scope:
    """One query level. `items` are what `*` stands for, in order; `named` what qualifiers stand for."""

    __slots__ = ("ctes", "items", "named", "outer")

    def __init__(self, outer: Scope | None = None, ctes: Mapping[str, Source] | None = None) -> None:
        self.outer = outer
        self.ctes: Mapping[str, Source] = ctes if ctes is not None else (outer.ctes if outer is not None else {})
        self.items: list[Source] = []
        self.named: list[tuple[str, Source]] = []

    def levels(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def relation(self, name: str, *, qualified: bool) -> Source | None:
        """What an alias or a relation's name stands for. With a schema before it, an inner alias of that name need not be meant."""
        found: list[Source] = []
        for level in self.levels():
            found += [source for alias, source in level.named if alias == name]
            if found and not qualified:
                break
        if len(found) < 2:
            return found[0] if found else None
        return Source((), union(source.whole for source in found))

    def bare(self, name: str) -> Flow:
        """A name that stands alone: a column of the innermost level that has it, else a relation's whole row."""
        carried: list[Flow] = []
        for level in self.levels():
            found = [flow for source in level.items if (flow := source.column(name)) is not None]
            carried += found
            if any(source.certainly_has(name) for source in level.items):
                return union(carried)
        row = self.relation(name, qualified=False)
        if row is not None:
            return union((*carried, row.whole))
        if carried:
            return union(carried)
        if name in SYSTEM_COLUMNS:
            return NOTHING
        return UNKNOWN_FLOW
