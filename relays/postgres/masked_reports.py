"""Errors and notices of the server without the values that they quote.

`invalid input syntax for type integer: "…"`, `Key (email)=(…) already exists.`, `Failing row contains (…)`, and whatever a
trigger raises: a message about a statement that may touch a masked column is passed only where its kind quotes no values.
"""

from __future__ import annotations

from typing import Final

from relays.postgres.codec import Report
from relays.postgres.masking import Masking
from rules.sql.lineage import Lineage

HIDDEN: Final = b"the server's message is hidden: it may quote a masked value"

# classes of SQLSTATE (PostgreSQL 18, appendix A) whose messages quote names and the statement's own text, never stored values
_QUOTES_NOTHING: Final = frozenset(
    {
        b"03",
        b"08",
        b"0A",
        b"0B",
        b"25",
        b"26",
        b"28",
        b"2B",
        b"2D",
        b"34",
        b"3B",
        b"3D",
        b"3F",
        b"40",
        b"42",
        b"53",
        b"54",
        b"55",
        b"57",
        b"58",
    }
)
_INTEGRITY: Final = b"23"
_KEPT: Final = frozenset({b"S", b"V", b"C", b"s", b"t", b"c", b"d", b"n", b"F", b"L", b"R", b"P"})  # names and places
_NAMES: Final = frozenset({b"S", b"V", b"C", b"F", b"L", b"R", b"P", b"p"})
_RAISED: Final = frozenset({b"exec_stmt_raise", b"plpgsql_exec_stmt_raise"})


def masked_report(report: Report, masking: Masking, lineage: Lineage | None) -> Report:
    """What the client may read of an ErrorResponse or NoticeResponse. `lineage` is that of the statement that runs; None: not known."""
    if masking.empty:
        return report
    if masking.active and not _passes(report, masking, lineage):
        fields = tuple((letter, value) for letter, value in report.fields if letter in _KEPT)
        report = Report((*fields, (b"M", HIDDEN)))
    if masking.plan.empty:
        return report
    return Report(tuple((letter, value if letter in _NAMES else masking.plan.text(value).data) for letter, value in report.fields))


def _passes(report: Report, masking: Masking, lineage: Lineage | None) -> bool:
    if lineage is not None and not lineage.writes and not masking.touches(lineage):
        return True
    if report.get(b"W") or report.get(b"R") in _RAISED:  # raised by code, which may say anything under any code
        return False
    code = report.get(b"C")[:2]
    if code in _QUOTES_NOTHING:
        # `relation "…" does not exist` quotes what was cast to regclass, if the rule lets masked values be computed with
        return lineage is None or not masking.computes(lineage)
    return code == _INTEGRITY and masking.clean_table(_text(report.get(b"s")), _text(report.get(b"t")))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
