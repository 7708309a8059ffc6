"""What lineage is made of: columns by their numbers in the server's catalogue, flows (sets of them), outputs, uses.

A flow is what a value may have been made from. It never names less than that: where the text or the catalogue does not tell,
it holds ANYTHING, which every masked column is taken to be part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

type ColumnId = tuple[int, int]  # pg_attribute's attrelid and attnum
type Flow = frozenset[ColumnId]
type UseKind = Literal["guess", "predicate", "join", "sort", "group", "write", "compute", "rows", "define", "code"]
type Shape = Literal["rows", "copy_out", "copy_in", "explain", "nothing", "unknown"]

ANYTHING: Final[ColumnId] = (0, 0)
NOTHING: Final[Flow] = frozenset()
DERIVED: Final[ColumnId] = (0, -1)  # in a flow: not the columns' own values; a comparison may tell about a part of one
UNKNOWN_FLOW: Final[Flow] = frozenset({ANYTHING})
UNKNOWN_RELATION: Final = 0  # among `Lineage.relations`: a relation or a function whose reads are not known

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema"})


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view, materialized view, foreign table or sequence, as the catalogue has it. `columns` are the live ones in order."""

    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind
    columns: tuple[tuple[int, str], ...]  # attnum and name


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a result. `certain` says that the server gives it this name."""

    name: str
    flow: Flow
    certain: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """A place other than the results where a statement uses columns: rows, their order or an error can tell of them there."""

    kind: UseKind
    flow: Flow
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What one statement may carry where. `exact`: `outputs` are all result columns in their order; else only their union counts."""

    shape: Shape
    outputs: tuple[Output, ...] = ()
    exact: bool = True
    uses: frozenset[Use] = frozenset()
    relations: frozenset[int] = frozenset()  # oids that it touches; UNKNOWN_RELATION for what cannot be told
    writes: bool = False  # it may fire triggers and constraints
    reason: str = ""  # why it is not known
    options: tuple[tuple[str, str], ...] = ()  # of COPY: names in lower case and values as text

    @classmethod
    def unknown(cls, reason: str) -> Lineage:
        """Results that may carry anything."""
        everything = frozenset({UNKNOWN_RELATION})
        return cls("unknown", (Output("", UNKNOWN_FLOW),), False, relations=everything, writes=True, reason=reason)

    @property
    def everything(self) -> Flow:
        """What any result column may carry."""
        return union(output.flow for output in self.outputs)

    def flows(self, names: Sequence[str]) -> tuple[Flow, ...]:
        """A flow for each result column, given the names that the server describes them with."""
        if self.exact and len(names) == len(self.outputs):
            certain = all(not output.certain or output.name == name for output, name in zip(self.outputs, names, strict=True))
            if certain:
                return tuple(output.flow for output in self.outputs)
        # the catalogue has changed since, or a star stands for columns that nobody listed: any may be anywhere
        return (self.everything if self.exact is False and self.outputs else UNKNOWN_FLOW,) * len(names)


def derived(flow: Flow) -> Flow:
    """The flow of something made from what `flow` carries."""
    return flow | _DERIVED if flow else flow


_DERIVED: Final[Flow] = frozenset({DERIVED})


def union(flows: Iterable[Flow]) -> Flow:
    """What is in any of `flows`."""
    return NOTHING.union(*flows)


@dataclass(frozen=True)
class Schema:
    """What the catalogue of one database holds: relations, and the names of functions and operators that are not PostgreSQL's own."""

    relations: Mapping[int, Relation] = field(default_factory=dict)
    functions: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    _named: dict[str, list[Relation]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for relation in self.relations.values():
            self._named.setdefault(relation.name, []).append(relation)

    def find(self, schema: str, name: str, path: tuple[str, ...] | None, *, settled: bool = False) -> Sequence[Relation]:
        """The relations that a name may stand for; more than one where the search path does not tell which. Empty: none is known.

        All along the path count, for the first may have been dropped or renamed since the catalogue was read (in a transaction that
        only its own session sees, say), unless the name is as `settled` as the catalogue itself.
        """
        named = self._named.get(name, ())
        if schema:
            return [relation for relation in named if relation.schema == schema or (schema == "pg_temp" and _temporary(relation))]
        if path is None:
            return named
        found = [relation for relation in named if _temporary(relation)]
        for name_of_schema in ("pg_catalog", *path):
            at = [relation for relation in named if relation.schema == name_of_schema]
            found += at
            if at and settled and name_of_schema != "pg_catalog":
                break
        return found


def _temporary(relation: Relation) -> bool:
    return relation.schema.startswith("pg_temp_")
