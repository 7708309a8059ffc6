"""The masks of one session: its catalogue, and for each text that runs, what may be told and what is put in place of what.

For the relay, in this order: `needs_catalog` before a statement with masks is judged (send catalog.QUERY while the session is idle,
give its one row to `learn`); `judge` the text, and refuse it where `refusal` says so; `rows`, `copy` and `report` for what
comes back. `forget` the catalogue after a statement that may have changed the schema, and where a session is old.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relays.postgres.catalog import Catalog
from relays.postgres.codec import Report
from relays.postgres.copying import CopyMasker
from relays.postgres.masked_reports import masked_report
from relays.postgres.masked_rows import RowMasker
from relays.postgres.masking import Field, Masking
from rules.model import Mask
from rules.sql import bounds
from rules.sql.libpg_query import LibraryMissing, SyntaxRefused, parse
from rules.sql.lineage import Context, Lineage, lineage
from rules.sql.session import Prepared, SessionState

_CACHED: Final = 256  # texts whose lineage a session remembers
_CACHED_BYTES: Final = 16 << 10
_CACHED_SIZE: Final = 1 << 20  # of all of them together, in bytes of text and 16 for each column; in memory it is some ten times that
_NO_CURSORS: Final[Mapping[str, Lineage]] = {}
_FETCHING: Final = frozenset({"FetchStmt", "ClosePortalStmt", "TransactionStmt"})  # what does not open a cursor
_RENAMING: Final = frozenset({"PrepareStmt", "DeallocateStmt", "DiscardStmt"})


@dataclass(frozen=True, slots=True)
class Judged:
    """One text under the masks of its decision. `lineages` has one for each of its statements, `refusal` why it must not run."""

    masking: Masking
    lineages: tuple[Lineage, ...]
    refusal: str | None

    def lineage(self, index: int) -> Lineage:
        """Of the statement that `index` result sets and completions came before."""
        return self.lineages[index] if 0 <= index < len(self.lineages) else Lineage.unknown("there are more results than statements")

    def rows(self, index: int, columns: Sequence[Field], formats: Sequence[int] | None = None) -> RowMasker | None:
        """What masks the rows that RowDescription `columns` announces; `formats` are Bind's. None: they pass as they are."""
        return self.masking.rows(self.lineage(index), columns, formats)

    def copy(self, index: int) -> CopyMasker | None:
        """What masks the payloads of a COPY … TO STDOUT; None: they pass as they are."""
        return self.masking.copy(self.lineage(index))

    def shown(self, text: bytes) -> bytes:
        """What the recording has of the text and its values."""
        return text if self.masking.plan.empty else self.masking.plan.text(text).data

    def report(self, report: Report, index: int | None = None) -> Report:
        """What the client may read of an error or notice; the very same object where that is all of it."""
        if index is None and all(not one.writes and not self.masking.touches(one) for one in self.lineages):
            index = 0
        return masked_report(report, self.masking, None if index is None else self.lineage(index))


class SessionMasks:
    """What a session knows for masking. `secrets` are hidden in everything; without `hash_key` the strategy hash is redact."""

    def __init__(self, *, secrets: tuple[bytes, ...] = (), hash_key: bytes = b"", cursors: Mapping[str, Lineage] = _NO_CURSORS) -> None:
        """`cursors` is looked at whenever a text fetches: the lineage of those that SQL has declared, by name."""
        self._cursors = cursors
        self._secrets = secrets
        self._hash_key = hash_key
        self.catalog: Catalog | None = None
        self._maskings: dict[tuple[Mask, ...], Masking] = {}
        self._read: dict[tuple[bytes, tuple[str, ...] | None], tuple[Lineage, ...]] = {}
        self._read_size = 0

    # --- the catalogue

    def needs_catalog(self, masks: tuple[Mask, ...]) -> bool:
        """Whether catalog.QUERY is to be asked before a text with these masks is judged."""
        return self.catalog is None and any(mask.columns for mask in masks)

    def learn(self, row: bytes, state: SessionState | None = None) -> None:
        """The body of the one DataRow that answers catalog.QUERY, whatever the state it was asked in. Raises BadCatalog."""
        self.forget()
        self.catalog = Catalog.of_row(row)

    def forget(self) -> None:
        """The schema may have changed."""
        self.catalog = None
        self._maskings.clear()
        self._read.clear()
        self._read_size = 0

    # --- texts

    def masking(self, masks: tuple[Mask, ...]) -> Masking:
        """The masks of a decision over what is known of the catalogue."""
        found = self._maskings.get(masks)
        if found is None:
            if len(self._maskings) >= _CACHED:
                self._maskings.clear()
            found = Masking(masks, self.catalog, secrets=self._secrets, hash_key=self._hash_key)
            self._maskings[masks] = found
        return found

    def judge(self, text: bytes, masks: tuple[Mask, ...], state: SessionState) -> Judged:
        """Judge a text before it is forwarded. `state.prepared` are the statements that EXECUTE in it reaches."""
        masking = self.masking(masks)
        lineages = self._lineages(text, state)
        return Judged(masking, lineages, next((sentence for one in lineages if (sentence := masking.refusal(one)) is not None), None))

    def _lineages(self, text: bytes, state: SessionState) -> tuple[Lineage, ...]:
        key = (text, state.schemas)
        found = self._read.get(key)
        if found is not None:
            return found
        if self.catalog is None:
            return (Lineage.unknown("the catalogue is not known"),)
        try:
            bounds.measure(text)
            statements = parse(text)
        except (bounds.Exceeded, SyntaxRefused, LibraryMissing) as error:
            return (Lineage.unknown(str(error)),)
        kinds = {kind for statement in statements for kind in statement}
        # names that the text itself gives or takes mean something else halfway through
        certain = len(statements) == 1 or not kinds & _RENAMING
        executes = _executed(statements)
        prepared = self._prepared(executes, state) if executes and certain else {}
        fetches = "FetchStmt" in kinds
        # a text that also opens or closes cursors, or runs code, may give a name another meaning halfway through
        cursors = self._cursors if kinds <= _FETCHING else _NO_CURSORS
        context = Context(self.catalog.schema, state.schemas, prepared, cursors)
        found = tuple(lineage(statement, context, len(text) // len(statements)) for statement in statements)
        if not executes and not fetches and len(text) <= _CACHED_BYTES:
            size = len(text) + 16 * sum(len(one.outputs) for one in found)
            if len(self._read) >= _CACHED or self._read_size + size > _CACHED_SIZE:
                self._read.clear()
                self._read_size = 0
            self._read[key] = found
            self._read_size += size
        return found

    def _prepared(self, names: Iterable[str], state: SessionState) -> Mapping[str, Lineage]:
        """Those that are named alone: a session may have prepared thousands."""
        return {name: self._of_prepared(name, prepared, state) for name in names if (prepared := state.prepared.get(name)) is not None}

    def _of_prepared(self, name: str, prepared: Prepared, state: SessionState) -> Lineage:
        """The lineage of a prepared statement, from the text of its Parse or of the query with its PREPARE."""
        assert self.catalog is not None
        context = Context(self.catalog.schema, state.schemas)
        try:
            bounds.measure(prepared.text)
            statements = parse(prepared.text)
        except (bounds.Exceeded, SyntaxRefused, LibraryMissing) as error:
            return Lineage.unknown(str(error))
        given = [one["PrepareStmt"] for one in statements if one.get("PrepareStmt", {}).get("name") == name]
        if len(given) == 1:
            return lineage(given[0].get("query", {}), context, len(prepared.text))
        if not given and len(statements) == 1 and not statements[0].keys() & _RENAMING:
            return lineage(statements[0], context, len(prepared.text))
        return Lineage.unknown("it is not certain which statement was prepared under this name")


def _executed(statements: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The names of prepared statements that a text runs: by EXECUTE, EXPLAIN EXECUTE and CREATE TABLE AS EXECUTE."""
    found = list(statements)
    for one in statements:
        found += [fields["query"] for fields in one.values() if isinstance(fields.get("query"), dict)]
    return frozenset(one["ExecuteStmt"].get("name", "") for one in found if "ExecuteStmt" in one)
