"""Which relation columns the results of a SQL statement may carry, and where else the statement uses them."""

from rules.sql.lineage.model import ANYTHING, NOTHING, UNKNOWN_FLOW, ColumnId, Flow, Lineage, Output, Relation, Schema, Use
from rules.sql.lineage.statements import Context, lineage, lineage_of_text

__all__ = [
    "ANYTHING",
    "NOTHING",
    "UNKNOWN_FLOW",
    "ColumnId",
    "Context",
    "Flow",
    "Lineage",
    "Output",
    "Relation",
    "Schema",
    "Use",
    "lineage",
    "lineage_of_text",
]
