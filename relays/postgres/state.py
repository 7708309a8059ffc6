"""What a server's session has become, as far as it changes what later statements mean: asked of the server itself, in one query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from relays.postgres.codec import DataRow, Query
from relays.wire import RemoteProtocolError
from rules.sql.session import Prepared, SessionState

# settings that change meaning, at the values for which the grammar and the tables of the rules hold
DEFAULTS: Final[Mapping[str, str]] = {
    "transform_null_equals": "off",
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "row_security": "on",
    "session_replication_role": "origin",
    "server_encoding": "UTF8",
}
_MAX_SCHEMAS: Final = 64

# Every name is qualified and no operator is used: what the query means must not depend on the search path that it asks about.
# json_build_array takes any number of arguments (VARIADIC "any").
SQL: Final = (
    "SELECT pg_catalog.json_build_array(pg_catalog.current_database(), current_user, session_user,"
    " pg_catalog.current_schemas(false),"
    " pg_catalog.current_setting('standard_conforming_strings'),"
    " pg_catalog.current_setting('client_encoding'), " + ", ".join(f"pg_catalog.current_setting('{name}', true)" for name in DEFAULTS) + ")"
).encode()
QUERY: Final = Query(SQL).build()


def parse_state(row: bytes, prepared: Mapping[str, Prepared]) -> SessionState:
    """The state from the body of the one DataRow that answers QUERY. Raises RemoteProtocolError."""
    values = DataRow.parse(row).values
    try:
        found = json.loads(values[0] or b"")
        database, user, session_user, schemas, conforming, encoding, *settings = found
        if not all(isinstance(each, str) for each in (database, user, session_user, conforming, encoding, *schemas)):
            raise ValueError
    except (ValueError, TypeError, IndexError, RecursionError):
        raise RemoteProtocolError("the target does not tell its session's state as PostgreSQL does") from None
    others = tuple(
        (name, str(value)) for (name, usual), value in zip(DEFAULTS.items(), settings, strict=False) if value is not None and value != usual
    )
    return SessionState(
        database=database,
        user=session_user,
        role=user,
        schemas=tuple(schemas) if len(schemas) <= _MAX_SCHEMAS else None,
        standard_conforming_strings=conforming == "on",
        client_encoding=encoding,
        settings=others,
        prepared=prepared,
    )
