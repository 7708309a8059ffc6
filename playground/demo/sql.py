"""The demonstration's database part: who approves there, and what is checked from outside of the gateway."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from playground.demo.database import CONNECTION, DatabaseStage
from playground.demo.proof import key_forms
from playground.demo.queries import QUERIES
from playground.demo.report import Report
from playground.demo.stage import Failed, Stage
from playground.postgres import executed
from playground.records import CUSTOMERS

_LEFT: Final = "SELECT (SELECT count(*) FROM customers), count(*), count(*) FILTER (WHERE status = 'cancelled') FROM orders"


class Administrator(threading.Thread):
    """An administrator of one connection with a token of her own, who approves the first thing that waits there."""

    def __init__(self, stage: Stage, token: str, connection: str = CONNECTION, comment: str = "the condition is right") -> None:
        super().__init__(name=f"administrator of {connection}", daemon=True)
        self._stage, self._token, self._connection, self._comment = stage, token, connection, comment
        self._watching = stage.following("approvals", "watch", "--json")
        self.asked: dict[str, Any] = {}
        self.approved_at = 0.0
        self.error = ""

    def run(self) -> None:
        try:
            assert self._watching.stdout is not None
            waiting = map(json.loads, self._watching.stdout)
            self.asked = next((each for each in waiting if each["connection"] == self._connection), {})
            self._watching.terminate()
            if self.asked:
                self.approved_at = time.time()
                self._stage.hopgate("approvals", "approve", self.asked["id"], "--comment", self._comment, token=self._token)
        except (Failed, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            self.error = str(error)

    def stop(self) -> None:
        """Nothing more will wait."""
        self._watching.terminate()
        self._watching.wait(20)
        self.join(20)


def queries(report: Report, found: Sequence[Mapping[str, Any]]) -> None:
    """Each statement as the agent saw it, against what it must have seen."""
    for number, expected in enumerate(QUERIES):
        hop = found[number] if number < len(found) else {"request": "-", "status": "-", "text": "", "note": "did not happen"}
        held = (hop["request"], hop["status"]) == (expected.sql, expected.status) and expected.contains in hop["text"]
        note = f"({hop['note']})" if hop["note"] else ""
        shown = f"{expected.verdict:<18} psql      {expected.sql} → {hop['status']}"
        report.check(held, shown, note if held else f"{note} {hop['text']}".strip())
    if len(found) > len(QUERIES):
        report.check(False, f"{len(found) - len(QUERIES)} more statements than were expected")


def approved(report: Report, administrator: Administrator) -> None:
    asked = f"{administrator.asked.get('requester', '?')} asked for {administrator.asked.get('title', '?')}"
    held = administrator.approved_at > 0 and not administrator.error
    report.check(held, "local:dana of dba approved the deletion", administrator.error or asked)


def outside(report: Report, stage: DatabaseStage, output: str, approved_at: float) -> None:
    """The server's own log and tables, the ledger, the recordings. The gateway has stopped."""
    database, wanted = stage.database, [each.sql for each in QUERIES if each.arrives]
    asked = {each.sql for each in QUERIES}
    came = [text for text in database.statements() if text in asked]
    what = f"the server executed {len(came)} statements of the agent: exactly those that were allowed"
    report.check(came == wanted, what, "" if came == wanted else str(came))
    refused = [each.sql for each in QUERIES if each.verdict == "denied"]
    seen = [text for text in refused if database.mentions(text)]
    what = f"its log does not mention any of the {len(refused)} that were denied, not even as a failure"
    report.check(not seen, what, str(seen) if seen else "")
    held = next(each.sql for each in QUERIES if each.verdict.startswith("held"))
    deleted = [_moment(line) for line in database.log() if executed([line]) == [held]]
    report.check(len(deleted) == 1 and deleted[0] > approved_at > 0, "the held deletion ran once, after the approval")
    left = database.query(_LEFT).strip()
    report.check(left == f"{len(CUSTOMERS)}|16|0", "customers are all there; of 20 orders the 4 cancelled ones are gone", left)
    _masking(report, stage, output)
    _kept(report, stage, output)


def _masking(report: Report, stage: DatabaseStage, output: str) -> None:
    private = [str(row[name]) for row in CUSTOMERS for name in ("email", "phone", "card", "ssn")]
    leaked = [value for value in private if value in output]
    report.check(
        not leaked, f"none of {len(private)} private values of the tables reached the agent", f"leaked: {leaked}" if leaked else ""
    )
    total = sum(sum(event["counts"].values()) for event in stage.ledger_events() if event["event"] == "masked")
    least = 3 * len(CUSTOMERS)  # two columns of customers, one of cards
    report.check(total >= least, f"the relay's ledger counts {total} masked values")


def _kept(report: Report, stage: DatabaseStage, output: str) -> None:
    """The database's password, and what the recordings hold."""
    forms = [form for form in key_forms(stage.database.app_password) if len(form) > 8]
    report.check(not any(form in output for form in forms), "the database's password never reached the agent")
    files = {path: path.read_bytes() for path in stage.gateway.rglob("*") if path.is_file()}
    holding = [str(path.relative_to(stage.base)) for path, data in files.items() if any(form.encode() in data for form in forms)]
    report.check(not holding, "it is in none of the gateway's files", ", ".join(holding))
    sessions = {row["id"] for row in json.loads(stage.hopgate("sessions", "list", "--connection", CONNECTION, "--json"))}
    told = b"".join(data for path, data in files.items() if path.suffix == ".mitm" and path.stem in sessions)
    ran = [each.sql for each in QUERIES if each.arrives]
    missing = [text for text in ran if text.encode() not in told]
    refused, count = sum(each.verdict == "denied" for each in QUERIES), told.count(b"REFUSED ")
    what = f"the recordings hold the {len(ran)} statements that ran, and {refused} refusals"
    report.check(not missing and count == refused, what, f"missing: {missing}, refusals: {count}" if missing or count != refused else "")


def _moment(line: Mapping[str, Any]) -> float:
    return datetime.strptime(f"{line['timestamp']}+0000", "%Y-%m-%d %H:%M:%S.%f UTC%z").timestamp()
