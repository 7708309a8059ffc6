"""A real PostgreSQL for the tests that need one."""

from tests.peers.postgres import postgres

__all__ = ["postgres"]
