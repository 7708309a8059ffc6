"""The index: what the ledgers tell, in tables that answer the console's questions at once. Derived: it can be deleted and comes back."""

from __future__ import annotations

from hopgate.store.index.reading import IndexReading
from hopgate.store.index.rows import Event, Hop, LedgerEvent, Page, RuleCount, Seen, SessionFound, SessionQuery, Source, storable
from hopgate.store.index.writing import IndexWriting

__all__ = ["Event", "Hop", "Index", "LedgerEvent", "Page", "RuleCount", "Seen", "SessionFound", "SessionQuery", "Source", "storable"]


class Index(IndexReading, IndexWriting):
    """The index of one gateway. Every method raises Unavailable when its database does not answer."""
