"""The playground's own tests use the real server."""

from __future__ import annotations

from tests.peers.postgres import postgres as postgres
