"""What a SQL session has become: everything outside a statement's text that changes what the text means."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rules.sql.facts import SqlFacts


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the session prepared under a name: its exact text and what it does when it runs.

    `meaning` is that of the state in which the facts were read. The server looks names up again when the search path or the
    role has changed, so in another state the text is read again.
    """

    text: bytes
    facts: SqlFacts
    meaning: str = ""


@dataclass(frozen=True)
class SessionState:
    """The state that one statement is read in. Frozen: the adapter makes a new one when the session changes.

    `schemas` are the existing schemas of the search path in order, without the implicit pg_catalog and temporary ones; None
    when the adapter does not know them. With exactly one, unqualified names are that schema's; otherwise they stay
    unqualified, which no rule about a schema allows. `generation` is to be counted up whenever `prepared` changes.
    """

    database: str = ""
    user: str = ""
    role: str = ""
    schemas: tuple[str, ...] | None = ("public",)
    standard_conforming_strings: bool = True
    client_encoding: str = "UTF8"
    settings: tuple[tuple[str, str], ...] = ()  # others that change meaning and are not at their defaults
    prepared: Mapping[str, Prepared] = field(default_factory=dict, compare=False)
    generation: int = 0
    meaning: str = field(init=False, compare=False, default="")  # digest of all but the prepared statements
    epoch: str = field(init=False, compare=False, default="")  # digest of all, for the keys of caches
    path: str = field(init=False, compare=False, default="")  # the schema of unqualified names; "" when it is not certain
    built_in_first: bool = field(init=False, compare=False, default=True)  # pg_catalog comes before every other schema

    def __post_init__(self) -> None:
        schemas = ("?",) if self.schemas is None else self.schemas
        parts = [self.database, self.user, self.role, str(self.standard_conforming_strings), self.client_encoding, str(len(schemas))]
        parts += [*schemas, *(part for setting in self.settings for part in setting)]
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            encoded = part.encode("utf-8", "surrogateescape")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        own = [schema for schema in self.schemas or () if schema != "pg_catalog"]
        object.__setattr__(self, "path", own[0] if len(own) == 1 else "")
        object.__setattr__(self, "built_in_first", self.schemas is not None and "pg_catalog" not in self.schemas[1:])
        object.__setattr__(self, "meaning", digest.hexdigest())
        object.__setattr__(self, "epoch", f"{digest.hexdigest()}.{self.generation}")
