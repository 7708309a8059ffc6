"""What an approval covers: which exact operation, of whom, and how often."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rules.model import Exact, Hold, Principal


def fingerprint(principal: Principal, connection: str, exact: Exact) -> str:
    """`v1:` and a SHA-256 over this principal, this connection and these exact bytes. Title and text only show the bytes."""
    digest = hashlib.sha256(b"hopgate approval fingerprint v1\0")
    for field in (principal.issuer.encode(), principal.subject.encode(), connection.encode(), exact.payload):
        digest.update(len(field).to_bytes(8, "big") + field)
    return f"v1:{digest.hexdigest()}"


def scope_seconds(scope: str) -> float:
    """How long a scope lasts: 0 for `once`, else the N minutes (up to a day) of `fingerprint-Nm`. Raises ValueError."""
    if scope == "once":
        return 0.0
    number = scope.removeprefix("fingerprint-").removesuffix("m")
    if scope != f"fingerprint-{number}m" or not (number.isascii() and number.isdecimal()) or not 0 < int(number) <= 24 * 60:
        raise ValueError(f"{scope!r} is no scope; expected once or fingerprint-15m")
    return int(number) * 60.0


def common_scopes(holds: Iterable[Hold]) -> tuple[str, ...]:
    """The scopes that every hold offers, the narrowest first."""
    offered = [frozenset(hold.scopes) for hold in holds]
    return tuple(sorted(frozenset.intersection(*offered), key=scope_seconds)) if offered else ()
