"""Telling reviewers that something waits.

notifier = await Notifier.open(config, store, sources, console="https://hopgate.example")
await notifier.start()
…
await notifier.close()
"""

from __future__ import annotations

from hopgate.notifications.channels import AppriseChannel, Channel, WebhookChannel, signed, signing_key
from hopgate.notifications.message import Message, message_of
from hopgate.notifications.notifier import Notifier

__all__ = ["AppriseChannel", "Channel", "Message", "Notifier", "WebhookChannel", "message_of", "signed", "signing_key"]
