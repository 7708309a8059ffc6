"""The SQL operation of `hopgate explain --sql`: read as the relay reads it, in a session that nothing has changed yet."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from hopgate.cli.common import Misuse

if TYPE_CHECKING:
    from hopgate.config import ConnectionConfig
    from rules.model import Operation

# a server takes such a text for a number or a truth value where it needs one: what it becomes is not known from the text
_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
_AMBIGUOUS: Final = re.compile(rf"\s*(?:{_NUMBER}|t|true|y|yes|on|f|false|n|no|off)\s*", re.IGNORECASE | re.ASCII)


def sql_operation(target: ConnectionConfig, text: str, params: list[str]) -> Operation:
    """`text` may be - for stdin. `params` are the values of `$1` …, sent as psql's \\bind sends them: as text, without a type.

    Without any, the statement's are unknown. Raises Misuse.
    """
    from hopgate.parsing import SqlReader
    from rules.sql.session import SessionState

    if target.kind != "postgres":
        raise Misuse(f"this hopgate does not read the SQL of {target.kind} yet")
    sent = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    state = SessionState(database=target.database)

    async def read() -> Operation:
        reader = SqlReader(workers=1)
        try:
            return await reader.facts_of(sent, state, [_bound(value) for value in params] or None)
        finally:
            await reader.close()

    return asyncio.run(read())


def _bound(value: str) -> Any:
    from rules.model import UNKNOWN

    return UNKNOWN if _AMBIGUOUS.fullmatch(value) else value
