"""What a decision's masks mean for one statement: may it run at all, and what stands in each column of its results.

A column that plainly is a table's is known by its origin on the wire (RowDescription's table OID and attribute number); for
expressions, set operations and functions the statement's lineage tells what a column may have been made from. Where neither
does, the column is masked: a masked value never passes.

Not hidden: that a value is NULL, how many rows there are, whether a column equals a value that the caller guessed, and what
triggers, functions and rules of the database's owner do with a value inside the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from relays.postgres.catalog import FIRST_USER_OID, Catalog, parts_of, reached
from relays.postgres.copying import CopyMasker, csv_options, text_options
from relays.postgres.masked_rows import RowMasker
from relays.postgres.values import Replace, Value, replacement
from rules.masking import Plan, compile_plan
from rules.masking.strategies import Treatment, strongest
from rules.model import Mask
from rules.patterns import compile_name
from rules.sql.lineage import ANYTHING, NOTHING, ColumnId, Flow, Lineage, Use
from rules.sql.lineage.model import DERIVED, UNKNOWN_RELATION

NO_CATALOG: Final = "columns are masked here, and the server's catalogue could not be read"


class Field(Protocol):
    """One column of a RowDescription, as relays.postgres.codec.Column."""

    @property
    def name(self) -> bytes: ...
    @property
    def table(self) -> int: ...
    @property
    def attribute(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def format(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A mask with its compiled patterns and its treatment."""

    mask: Mask
    treatment: Treatment
    patterns: tuple[Callable[[Sequence[str], bool], object], ...]

    def covers(self, parts: Sequence[str]) -> bool:
        return any(pattern(parts, False) is not False for pattern in self.patterns)


class Masking:
    """The masks of one decision over one state of the catalogue. Immutable but for what it remembers; share it."""

    def __init__(self, masks: tuple[Mask, ...], catalog: Catalog | None, *, secrets: tuple[bytes, ...] = (), hash_key: bytes = b"") -> None:
        self.catalog = catalog
        self.plan: Plan = compile_plan(masks, secrets=secrets, hash_key=hash_key)
        # known secrets are looked for in whole buffers, before rows are cut: only detectors and paths need every value
        self.by_form = not compile_plan(masks, hash_key=hash_key).empty
        self.rules = tuple(
            Rule(mask, Treatment.of(mask, hash_key), tuple(compile_name(pattern) for pattern in mask.columns))
            for mask in masks
            if mask.columns
        )
        self.active: Final = bool(self.rules)  # whether there are columns to hide at all
        self.empty: Final = not self.active and self.plan.empty
        self._anything = strongest(rule.treatment for rule in self.rules) if self.rules else None
        self._columns: dict[ColumnId, Treatment] = {}
        self._strict: frozenset[ColumnId] = frozenset()  # not to be used in predicates
        self._made: frozenset[ColumnId] = frozenset()  # masked, and made of a part of another column
        if self.rules and catalog is not None:
            self._find(catalog)
        self._relations = frozenset(oid for oid, _ in self._columns) | {UNKNOWN_RELATION}

    def _find(self, catalog: Catalog) -> None:
        start: dict[ColumnId, set[Rule]] = {}
        for relation in catalog.schema.relations.values():
            for number, name in relation.columns:
                parts = parts_of(relation, name)
                covering = {rule for rule in self.rules if rule.covers(parts)}
                if covering:
                    start[relation.oid, number] = covering
        everything = set(self.rules)
        start |= dict.fromkeys((*catalog.leaking, ANYTHING), everything)
        found = reached(start, catalog)
        self._columns = {column: strongest(rule.treatment for rule in rules) for column, rules in found.items()}
        self._strict = frozenset(column for column, rules in found.items() if any(rule.mask.predicates == "deny" for rule in rules))
        made = {column: {True} for column, sources in catalog.sources.items() if DERIVED in sources and column in found}
        self._made = frozenset(reached(made, catalog)) if made else NOTHING

    # --- may it run

    def refusal(self, lineage: Lineage) -> str | None:
        """Why a statement must not run: it would tell of a masked column elsewhere than in a masked value. Judge before forwarding."""
        if not self.active:
            return self._copy_refusal(lineage) if lineage.shape == "copy_out" else None
        if self.catalog is None:
            return None if lineage.shape == "nothing" and not lineage.uses else NO_CATALOG
        for use in sorted(lineage.uses, key=lambda use: (use.kind, use.detail)):
            columns = self._used(use)
            if columns:
                return _sentence(use, self._named(columns))
        if lineage.shape == "copy_out":
            return self._copy_refusal(lineage)
        if lineage.shape == "unknown":
            return f"columns are masked here, and it cannot be told whether this uses them: {lineage.reason or 'its form is not known'}"
        return None

    def _copy_refusal(self, lineage: Lineage) -> str | None:
        if self.empty or text_options(lineage.options):
            if not any(self.treatment(output.flow) for output in lineage.outputs) or lineage.exact:
                return None
            return "COPY of what may be a masked column cannot be masked: name its columns, or use SELECT"
        if any(self.treatment(output.flow) for output in lineage.outputs):
            return "COPY of masked columns is possible in text format with its default options; or use SELECT"
        if not self.plan.empty and not csv_options(lineage.options):
            return "values are masked here by their form: COPY is possible in text or CSV format; or use SELECT"
        return None

    def _used(self, use: Use) -> Flow:
        """The columns that forbid this use. `predicates: allow` does not let a value go where no mask finds it."""
        if use.kind in _CARRIES_OFF:
            return use.flow & self._columns.keys()
        if use.kind == "guess":
            return use.flow & self._made & self._strict
        return use.flow & self._strict

    def _named(self, columns: Flow) -> str:
        assert self.catalog is not None
        for oid, number in sorted(columns):
            relation = self.catalog.schema.relations.get(oid)
            name = dict(relation.columns).get(number) if relation is not None else None
            if relation is not None and name is not None:
                return f"`{relation.name}.{name}`"
        return "what may be a masked column"

    # --- what its results carry

    def treatment(self, flow: Flow) -> Treatment | None:
        """How to hide a value that may have been made from `flow`; None when it may pass."""
        if not self.active:
            return None
        if self.catalog is None:
            return self._anything
        found = [self._columns[column] for column in flow if column in self._columns]
        if not found:
            return None
        chosen = strongest(found)
        # the end of a part is another part, and equal digests of short parts tell what they are
        return replace(chosen, strategy="redact") if DERIVED in flow and chosen.strategy in _OF_THE_VALUE else chosen

    def origin(self, table: int, attribute: int) -> Treatment | None:
        """How to hide a column of a relation, by its numbers."""
        if self.catalog is None:
            return self._anything
        if (table, attribute) in self._columns:
            return self._columns[table, attribute]
        relation = self.catalog.schema.relations.get(table)
        if relation is None:
            return None if 0 < table < FIRST_USER_OID else self._anything
        known = attribute < 0 or any(number == attribute for number, _ in relation.columns)
        return None if known else self._anything  # a column younger than what we know of the catalogue

    def treatments(self, lineage: Lineage, fields: Sequence[Field]) -> list[Treatment | None]:
        """One for each result column."""
        if not self.active:
            return [None] * len(fields)
        flows = lineage.flows([field.name.decode("utf-8", "replace") for field in fields])
        return [
            self.origin(field.table, field.attribute) if field.table and field.attribute else self.treatment(flow)
            for field, flow in zip(fields, flows, strict=True)
        ]

    def rows(self, lineage: Lineage, fields: Sequence[Field], formats: Sequence[int] | None = None) -> RowMasker | None:
        """What masks the rows of a result set; None when they may pass as they are, but for known secrets.

        `formats` are the result format codes of Bind (none, one for all, or one for each); without them the description's count.
        """
        if self.empty:
            return None
        texts = self.catalog.texts if self.catalog is not None else frozenset[int]()
        chosen = _formats(fields, formats)
        columns: list[tuple[Treatment, Value | Replace] | None] = []
        for treatment, field, format in zip(self.treatments(lineage, fields), fields, chosen, strict=True):
            columns.append(None if treatment is None else (treatment, replacement(treatment, field.type, format, texts)))
        kinds = [(field.type, format) for field, format in zip(fields, chosen, strict=True)]
        masker = RowMasker(columns, kinds, self.plan, texts, by_form=self.by_form)
        return None if masker.idle else masker

    def copy(self, lineage: Lineage) -> CopyMasker | None:
        """What masks the data of a COPY … TO STDOUT that was not refused; None when it may pass as it is."""
        if self.empty:
            return None
        chosen = [self._copied(output.flow) for output in lineage.outputs] if lineage.exact else []
        if any(column is not None for column in chosen):
            return CopyMasker(chosen, self.plan)
        return None if self.plan.empty else CopyMasker(None, self.plan, csv=csv_options(lineage.options))

    def _copied(self, flow: Flow) -> tuple[Treatment, Value | Replace] | None:
        treatment = self.treatment(flow)
        if treatment is None or self.catalog is None:
            return None
        kinds = {self.catalog.types.get(column, 0) for column in flow}
        kind = kinds.pop() if len(kinds) == 1 and DERIVED not in flow else 0
        return treatment, replacement(treatment, kind, 0, self.catalog.texts) if kind else None

    # --- what else it says

    def clean_table(self, schema: str, table: str) -> bool:
        """Whether the catalogue knows the relation and no column of it is masked."""
        if self.catalog is None or not table:
            return False
        known = self.catalog.schema.find(schema, table, None)
        return bool(known) and not any((relation.oid, number) in self._columns for relation in known for number, _ in relation.columns)

    def touches(self, lineage: Lineage) -> bool:
        """Whether messages about the statement may quote a masked value: it reads or writes a relation that has one, or may."""
        if not self.active:
            return False
        if self.catalog is None:
            return True
        return bool(lineage.relations & self._relations) or any(use.flow & self._columns.keys() for use in lineage.uses)

    def computes(self, lineage: Lineage) -> bool:
        """Whether masked values are given to code that may fail because of what they are, and say so."""
        return any(use.kind != "guess" and use.flow & self._columns.keys() for use in lineage.uses)


_CARRIES_OFF: Final = frozenset({"write", "define", "code"})
_OF_THE_VALUE: Final = frozenset({"partial", "hash"})
_WHY: Final[Mapping[str, str]] = {
    "guess": "is made of a part of a masked one and must not be compared",
    "predicate": "is masked and may only be compared with a literal or a parameter by `=` or IN",
    "join": "is masked and must not be used to join or match rows",
    "sort": "is masked and must not be sorted by",
    "group": "is masked and must not be used in GROUP BY, DISTINCT, PARTITION BY or a set operation",
    "write": "is masked and must not be written to another place",
    "compute": "is masked and must not be computed with",
    "rows": "is masked and must not decide how many rows there are",
    "define": "is masked and its relation must not be changed or renamed",
    "code": "is masked and must not be given to code that the gateway cannot read",
}


def _sentence(use: Use, column: str) -> str:
    if column.startswith("what") and use.kind == "code":
        return f"columns are masked here, and what this code does with them cannot be told ({use.detail})"
    return f"{column} {_WHY[use.kind]}" + (f" ({use.detail})" if use.detail else "")


def _formats(fields: Sequence[Field], formats: Sequence[int] | None) -> list[int]:
    if formats is None:
        return [field.format for field in fields]
    if len(formats) == 0:
        return [0] * len(fields)
    if len(formats) == 1:
        return [formats[0]] * len(fields)
    return [formats[index] if index < len(formats) else -1 for index in range(len(fields))]
