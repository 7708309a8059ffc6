"""The real PostgreSQL of the playground as a fixture. Import `postgres` in a conftest.py to have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from playground.postgres import Postgres, Unavailable


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole run. Tests that change rows use names of their own, or put back what they took."""
    server = Postgres()
    try:
        server.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.close()
