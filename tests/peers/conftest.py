"""Fixtures of the tests with real peers."""

from __future__ import annotations

from tests.peers.postgres import postgres as postgres
