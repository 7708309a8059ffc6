"""The statements that the agent's model "writes", what the agent must get for each, and whether the server may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "00000"
REFUSED: Final = "refused"  # no session came about, so psql tells no SQLSTATE


@dataclass(frozen=True, slots=True)
class Query:
    """One statement. `status` is the SQLSTATE that psql got; `contains` must be in what it printed."""

    sql: str
    status: str
    verdict: str
    contains: str
    arrives: bool = False
    note: str = ""
    direct: bool = False  # asked at the server's real address


QUERIES: Final = (
    Query("SELECT name, email, phone FROM customers ORDER BY id", OK, "allowed, masked", "Ada Example", arrives=True),
    Query("SELECT number AS n FROM cards", OK, "allowed, masked", "", arrives=True, note="under another name"),
    Query("SELECT customer, status FROM orders WHERE id = 4", OK, "allowed", "2|cancelled", arrives=True),
    Query("DROP TABLE orders", "42501", "denied", "sql-no-drop"),
    Query("SELECT 1; DELETE FROM customers", "42501", "denied", "sql-no-unbounded-change", note="behind a read"),
    Query(
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM gone",
        "42501",
        "denied",
        "sql-no-unbounded-change",
        note="hidden in a CTE",
    ),
    Query("SELECT pg_read_file('/etc/passwd')", "42501", "denied", "sql-no-server-files"),
    Query("UPDATE orders SET status = 'paid' WHERE id = 8", OK, "allowed", "UPDATE 1", arrives=True),
    Query("DELETE FROM orders WHERE status = 'cancelled'", OK, "held, approved", "DELETE 4", arrives=True, note="needs a dba"),
    Query("SELECT 1", REFUSED, "refused", "authentication failed", note="at the server's real address, with the token", direct=True),
)

_CODE = """Now the database. psql knows the way from its environment.
```python
import json, os, re, subprocess
def ask(sql, note, **changed):
    words = ["%(psql)s", "-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-c", sql]
    done = subprocess.run(words, env={**os.environ, **changed}, capture_output=True, text=True, timeout=80)
    found = re.search("(?:ERROR|FATAL): +([0-9A-Z]{5}):", done.stderr)
    state = found[1] if found else "00000" if done.returncode == 0 else "refused"
    hop = {"client": "psql", "request": sql, "status": state, "text": done.stdout + done.stderr, "note": note}
    print("HOP " + json.dumps(hop), flush=True)

%(calls)s
```"""


def message(psql: str, port: int) -> str:
    """The model's turn: `psql` is the program, `port` the server's own."""
    real = f', PGPORT="{port}", PGUSER="app"'
    calls = "\n".join(f"ask({each.sql!r}, {each.note!r}{real if each.direct else ''})" for each in QUERIES)
    return _CODE % {"psql": psql, "calls": calls}
