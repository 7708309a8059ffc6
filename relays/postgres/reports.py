"""What the gateway itself says to a PostgreSQL client: errors and notices with their SQLSTATE (PostgreSQL documentation, appendix A)."""

from __future__ import annotations

from typing import Final

from hopgate.errors import Denied, HopgateError, Misconfigured, Unauthenticated, Unavailable
from relays.postgres.codec import report
from relays.wire import ProtocolError
from rules.model import Decision

DENIED: Final = b"42501"  # insufficient_privilege
CANCELED: Final = b"57014"  # query_canceled
ENDED: Final = b"57P01"  # admin_shutdown
PROTOCOL: Final = b"08P01"  # protocol_violation
UNSUPPORTED: Final = b"0A000"  # feature_not_supported
NO_STATEMENT: Final = b"26000"  # invalid_sql_statement_name
DUPLICATE_STATEMENT: Final = b"42P05"  # duplicate_prepared_statement
NO_PORTAL: Final = b"34000"  # invalid_cursor_name
LIMIT: Final = b"53400"  # configuration_limit_exceeded
LOST: Final = b"08006"  # connection_failure
WARNING: Final = b"01000"


def error(code: bytes, sentence: str, *, detail: str = "", hint: str = "") -> bytes:
    """An ErrorResponse after which the session goes on."""
    return report(b"ERROR", code, sentence, detail=detail, hint=hint).build()


def fatal(code: bytes, sentence: str, *, detail: str = "", hint: str = "") -> bytes:
    """An ErrorResponse after which the connection is closed."""
    return report(b"FATAL", code, sentence, detail=detail, hint=hint).build()


def denied(decision: Decision) -> bytes:
    """The ErrorResponse of an operation that may not be."""
    return error(DENIED, decision.message or "this is not allowed", detail=_detail(decision), hint=_hint(decision))


def held(decision: Decision) -> bytes:
    """The NoticeResponse of an operation that waits for reviewers."""
    hint = "the statement goes on when it is approved; cancel it to withdraw the request"
    message = decision.message or "this waits for a reviewer"
    return report(b"NOTICE", b"00000", f"{message} (approval {decision.approval})", detail=_detail(decision), hint=hint).build(b"N")


def _detail(decision: Decision) -> str:
    parts = []
    if decision.rules:
        parts.append(f"{'rule' if len(decision.rules) == 1 else 'rules'}: {', '.join(decision.rules)}")
    if decision.operation:
        parts.append(f"operation: {decision.operation}")
    if decision.approval:
        parts.append(f"approval: {decision.approval}")
    return "; ".join(parts)


def _hint(decision: Decision) -> str:
    if decision.approval:
        return f"ask the reviewers about {decision.approval}, or change the statement"
    if decision.rules:
        return "change the statement so that the rule allows it, or ask for the rule to be changed"
    return "ask for a rule that allows it"


def of(problem: ProtocolError | HopgateError) -> bytes:
    """The FATAL error that ends a conversation."""
    if isinstance(problem, ProtocolError):
        return fatal(problem.code.encode() or PROTOCOL, problem.message)
    if isinstance(problem, Unauthenticated):
        return fatal(b"28P01", problem.message)
    if isinstance(problem, Denied):
        detail = f"rules: {', '.join(problem.rules)}" if problem.rules else ""
        return fatal(b"28000", problem.message, detail=detail)
    if isinstance(problem, Unavailable):
        return fatal(b"57P03", problem.message)
    if isinstance(problem, Misconfigured):
        # its text names files of the gateway's machine
        return fatal(b"F0000", "the connection is not configured as it must be: ask the gateway's operator")
    return fatal(b"58000", problem.message)
