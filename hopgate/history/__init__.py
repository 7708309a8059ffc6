"""What happened, for people. The ledgers are the evidence; an index that is made from them answers at once.

history = await History.open(config, store)
history.start()
…
await history.close()
"""

from __future__ import annotations

from hopgate.history.history import History, quorum_progress, view
from hopgate.history.projector import Progress, Projector
from hopgate.history.rows import Card, HopNode, Hops, QuorumProgress, RuleStatistics
from hopgate.store.index import Event, Hop, Page, Seen, SessionFound, SessionQuery

__all__ = [
    "Card",
    "Event",
    "History",
    "Hop",
    "HopNode",
    "Hops",
    "Page",
    "Progress",
    "Projector",
    "QuorumProgress",
    "RuleStatistics",
    "Seen",
    "SessionFound",
    "SessionQuery",
    "quorum_progress",
    "view",
]
