"""Verify: prove that ledgers and recordings are as they were written, or name what happened to them. No gateway, no database."""

from hopgate.verify.report import ALTERED, KINDS, Finding, Report
from hopgate.verify.state import verify_state

__all__ = ["ALTERED", "KINDS", "Finding", "Report", "verify_state"]
