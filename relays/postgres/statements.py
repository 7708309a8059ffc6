"""What a PostgreSQL session knows by name, prepared statements and portals, and what the gateway thinks of each.

A name counts once the server has confirmed it, or as long as nothing but the same unsynced stretch of messages stands between: there,
a message that failed makes the server skip all that follow. What the server may know under a name and we do not is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relays.postgres.codec import Bind, Column
from relays.postgres.fast_path import Entry
from relays.postgres.masks import Judged
from relays.wire import RemoteProtocolError
from rules.model import UNKNOWN, Decision, Operation
from rules.sql.libpg_query import LibraryMissing, SyntaxRefused, parse
from rules.sql.lineage import Lineage
from rules.sql.postgres import operation_from, operation_of
from rules.sql.postgres import statements as parts_of
from rules.sql.session import Prepared, SessionState

CACHED: Final = 512  # statements whose reading and decision a session remembers
CACHED_BYTES: Final = 16 << 10  # longer ones are read anew each time
CACHED_TEXT: Final = 1 << 20  # bytes of all of them together; what is known of a text may take some ten times as many
MAX_NAMES: Final = 10_000  # prepared statements, and portals, of one session
MAX_HELD: Final = 128 << 20  # bytes of their texts and values together
SHORT: Final = 4 << 10
INLINE: Final = 2_000  # bytes of a text that is looked at for names on the event loop

# effects after which the session may be another than before; a statement that is not understood may do anything
_CHANGING: Final = frozenset({"lexer_state", "identity_change", "settings", "dynamic_sql", "calls_unknown_function", "code_load"})
_NAMING: Final = frozenset({"prepare", "deallocate", "reset", "cursor"})
_PLANNED: Final = frozenset({"select", "insert", "update", "delete", "merge"})  # what Bind plans; all else is a utility statement


@dataclass(slots=True, eq=False)
class Reading:
    """A text as it was read, and what was decided of it. `known` is kept for as long as the session's state has the same meaning."""

    text: bytes
    operation: Operation
    state: SessionState
    known: Decision | None = None
    changes: bool = False  # the session may be another after it
    copies_in: bool = False
    copies_out: bool = False
    has_params: bool = False
    reuses: bool = False  # runs prepared statements: what it does depends on them
    prepares: tuple[str, ...] = ()
    forgets: tuple[str, ...] = ()
    forgets_all: bool = False
    declares: tuple[str, ...] = ()
    declaration: int | None = None  # which statement of the text declares the one cursor whose lineage can be told afterwards
    fetches: bool = False  # what comes back is what a cursor of that name gives
    cursors: bool = False  # opens or closes portals by SQL
    defines: bool = False  # may change the schema
    late: bool = False  # the server looks its names up when it runs, not when it is bound


@dataclass(slots=True, eq=False)
class Statement:
    """A prepared statement."""

    name: bytes
    reading: Reading
    types: tuple[int, ...]
    segment: int
    confirmed: bool = False
    described: bool = False  # `types` are the server's
    fast: Entry | None = None  # it may pass without being judged again


@dataclass(slots=True, eq=False)
class Portal:
    """A bound statement, and the decision that permitted it."""

    name: bytes
    statement: Statement
    bind: Bind
    operation: Operation
    decision: Decision
    segment: int
    epoch: tuple[str, int] = ("", 0)  # what names meant when it was judged
    confirmed: bool = False
    judged: Judged | None = None  # what is masked of its rows
    columns: tuple[Column, ...] | None = None
    description: bytes | None = None  # the RowDescription that told of them
    executed: bool = False


@dataclass(slots=True)
class Names:
    """The prepared statements and portals of one session."""

    statements: dict[bytes, Statement] = field(default_factory=dict)
    portals: dict[bytes, Portal] = field(default_factory=dict)
    cursors: set[bytes] = field(default_factory=set)  # portals that SQL's DECLARE made: to be described, not to be executed
    prepared: dict[str, Prepared] = field(default_factory=dict)  # those that SQL's EXECUTE reaches
    declared: dict[str, Lineage] = field(default_factory=dict)  # cursor -> lineage of its DECLARE; of others FETCH gives anything
    came: int = 0  # bytes of texts and values: what is held cannot be more
    openings: int = 0  # counts what was sent that may open a portal by name
    epoch: int = 0  # counts what was sent that may give names another meaning: of relations, of prepared statements
    late: tuple[str, int] | None = None  # the epoch of the first portal under a name whose statement looks names up when it runs
    late_segment: int = 0  # and the last one's segment
    opaque: bool = False  # a FETCH may run code that opens portals

    def confirm(self, one: Statement | Portal) -> None:
        one.confirmed = True
        if isinstance(one, Statement) and one.name and self.statements.get(one.name) is one:
            facts: Any = one.reading.operation.facts
            self.prepared[_text(one.name)] = Prepared(one.reading.text, facts, one.reading.state.meaning)

    def prepare(self, name: str, reading: Reading) -> None:
        """A PREPARE of SQL has succeeded. Only EXECUTE reaches it here; Bind would, at the server."""
        facts: Any = reading.operation.facts
        self.prepared[name] = Prepared(reading.text, facts, reading.state.meaning)

    def drop(self, one: Statement | Portal) -> None:
        """It was never made: its message failed, or was skipped."""
        if isinstance(one, Statement):
            if self.statements.get(one.name) is one:
                self.forget(one.name)
        elif self.portals.get(one.name) is one:
            del self.portals[one.name]

    def forget(self, name: bytes) -> None:
        """A statement's name is gone."""
        self.epoch += 1
        self.statements.pop(name, None)
        self.prepared.pop(_text(name), None)

    def check_room(self, size: int) -> None:
        """Raise RemoteProtocolError when `size` more bytes of text or values are too many. Of short ones there may be MAX_NAMES.

        What is held is counted only where it may be too much: everything that came since it was counted last would be.
        """
        self.came += size
        if size <= SHORT or self.came <= MAX_HELD:
            return
        held = sum(len(one.reading.text) for one in self.statements.values())
        held += sum(len(value) for portal in self.portals.values() for value in portal.bind.values if value is not None)
        self.came = held + size
        if self.came > MAX_HELD:
            raise RemoteProtocolError(f"prepared statements and portals of one session hold more than {MAX_HELD >> 20} MiB", "54000")

    # --- cursors of SQL: the lineage of a name counts from the moment when the server has confirmed its DECLARE, which fails where there
    # is one of that name, until something is sent that may open another. One that has been closed meanwhile does no harm.

    def opens(self, reading: Reading) -> None:
        """A statement is sent that may open cursors: those that it declares, or any."""
        self.openings += 1
        self.opaque = self.opaque or (reading.defines and bool(reading.declares))
        if reading.defines:  # code may close and open what it likes; in another schema the same words mean something else
            self.declared.clear()
        for name in reading.declares:
            self.declared.pop(name, None)
        self._forget_fetching()

    def opens_portal(self, name: bytes, reading: Reading) -> None:
        """A Bind message is sent; SQL reaches its portal, too."""
        self.openings += 1
        self.opaque = self.opaque or reading.defines
        if self.declared.pop(_text(name), None) is not None:
            self._forget_fetching()

    def _forget_fetching(self) -> None:
        """A portal of FETCH that has not run yet would get its rows from another cursor than the one that it was judged by."""
        self.portals = {name: portal for name, portal in self.portals.items() if portal.executed or not portal.statement.reading.fetches}

    def declare(self, reading: Reading, judged: Judged, openings: int) -> None:
        """A DECLARE has succeeded; `openings` was the count when it had been sent."""
        if openings == self.openings and not self.opaque and reading.declaration is not None and len(self.declared) < MAX_NAMES:
            self.declared[reading.declares[0]] = judged.lineage(reading.declaration)

    def forget_all(self) -> None:
        self.epoch += 1
        self.statements.clear()
        self.prepared.clear()

    def end_transaction(self, segment: int) -> None:
        """Portals do not outlive their transaction; those of later segments are not made yet. Cursors WITH HOLD do."""
        if self.late_segment <= segment:
            self.late = None
        if self.portals:
            self.portals = {name: portal for name, portal in self.portals.items() if portal.segment > segment}


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def read(text: bytes, state: SessionState) -> Reading:
    """Read a text here and now. Long ones take long: `rules.sql.postgres.is_small` says which."""
    return reading_of(operation_of(text, state), text, state)


def reading_of(operation: Operation, text: bytes, state: SessionState) -> Reading:
    """What else the relay must know of a text whose operation this is."""
    every = [part.facts for part in parts_of(operation)]
    verbs = {verb for facts in every for verb in facts.get("verbs")}
    effects = {effect for facts in every for effect in facts.get("effects")}
    found = Reading(text, operation, state)
    found.copies_in = "copy_in" in verbs
    found.copies_out = "copy_out" in verbs
    found.fetches = "fetch" in verbs
    found.has_params = any(facts.get("params") is UNKNOWN for facts in every)
    found.reuses = "execute" in verbs
    found.changes = bool(effects & _CHANGING) or not operation.complete or "prepare" in verbs or "reset" in verbs
    found.defines = "ddl" in effects or found.changes
    found.late = not operation.complete or not verbs <= _PLANNED
    if "ddl" in effects and b"schema" in text.lower():
        found.changes = True  # a schema that comes or goes may be one of the search path
    if verbs & _NAMING or not operation.complete:
        _find_names(found, text)
    return found


def _find_names(found: Reading, text: bytes) -> None:
    found.cursors = True
    if not found.operation.complete:
        # it may have done anything: nothing that the session had prepared counts any more
        found.forgets_all = True
        return
    try:
        trees = parse(text)
    except (SyntaxRefused, LibraryMissing):
        found.forgets_all = True
        return
    found.declaration = _declaration(trees)
    for tree in trees:
        for kind, node in tree.items():
            if kind == "PrepareStmt":
                found.prepares += (node.get("name", ""),)
            elif kind == "DeclareCursorStmt":
                found.declares += (node.get("portalname", ""),)
            elif kind == "DeallocateStmt" and not node.get("isall"):
                found.forgets += (node.get("name", ""),)
            elif kind == "DeallocateStmt" or (kind == "DiscardStmt" and node.get("target", "DISCARD_ALL") == "DISCARD_ALL"):
                found.forgets_all = True


def _declaration(trees: Sequence[Mapping[str, Any]]) -> int | None:
    """The place of the one DECLARE, where all else is the beginning of its transaction."""
    kinds = [next(iter(tree), "") for tree in trees]
    if kinds.count("DeclareCursorStmt") != 1:
        return None
    for kind, tree in zip(kinds, trees, strict=True):
        if kind != "DeclareCursorStmt" and tree.get(kind, {}).get("kind") not in ("TRANS_STMT_BEGIN", "TRANS_STMT_START"):
            return None
    return kinds.index("DeclareCursorStmt")


class Readings:
    """What was read before, by exact text and what it meant. Bounded: the oldest goes first."""

    def __init__(self, size: int = CACHED) -> None:
        self._size = size
        self._bytes = 0
        self._kept: dict[tuple[bytes, str], Reading] = {}

    def get(self, text: bytes, state: SessionState) -> Reading | None:
        return self._kept.get((text, state.meaning))

    def keep(self, reading: Reading) -> None:
        if len(reading.text) > CACHED_BYTES or reading.reuses:
            return
        key = (reading.text, reading.state.meaning)
        if key not in self._kept:
            self._bytes += len(reading.text)
            while len(self._kept) >= self._size or self._bytes > CACHED_TEXT:
                oldest = next(iter(self._kept))
                self._bytes -= len(oldest[0])
                del self._kept[oldest]
        self._kept[key] = reading

    def __len__(self) -> int:
        return len(self._kept)


def bound(reading: Reading, values: Sequence[Any], binding: bytes, shown: Callable[[], Sequence[str]]) -> Operation:
    """The operation of running a text with these values; `binding` is the exact message that binds them, `shown` how people read them."""
    facts: Any = [part.facts for part in parts_of(reading.operation)]
    return operation_from(facts, reading.text, reading.state, values, binding, shown)
