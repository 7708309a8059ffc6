"""Everything that processes of one gateway share: every SQL statement of our own, and nothing of the database driver outside.

store = await Store.open(config.state)
…
await store.close()
"""

from __future__ import annotations

from hopgate.store.approval_records import ApprovalRecords, ApprovalTransaction
from hopgate.store.database import Subscription
from hopgate.store.notification_records import NotificationRecords
from hopgate.store.pruning import Pruning
from hopgate.store.records import Records
from hopgate.store.rows import (
    Approval,
    ApprovalState,
    Head,
    Kill,
    KillKind,
    Lock,
    LockKind,
    Notification,
    NotificationState,
    Pruned,
    Requirement,
    Revocation,
    SealedSecret,
    SessionRow,
    TokenRow,
    Verdict,
    Vote,
)

__all__ = [
    "Approval",
    "ApprovalState",
    "ApprovalTransaction",
    "Head",
    "Kill",
    "KillKind",
    "Lock",
    "LockKind",
    "Notification",
    "NotificationState",
    "Pruned",
    "Requirement",
    "Revocation",
    "SealedSecret",
    "SessionRow",
    "Store",
    "Subscription",
    "TokenRow",
    "Verdict",
    "Vote",
]


class Store(Records, ApprovalRecords, NotificationRecords, Pruning):
    """The database of one gateway. Every method raises Unavailable when it does not answer: then nothing passes."""
