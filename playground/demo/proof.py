"""What the demonstration claims, looked at from outside of the gateway: access log, recording, files, signatures."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playground.demo.report import Report
from playground.demo.stage import Stage
from playground.records import CUSTOMERS, api_keys


@dataclass(frozen=True, slots=True)
class Expected:
    """One hop that the generated code takes: what the agent must get, and whether the target may see it."""

    request: str
    status: int
    verdict: str
    contains: str  # of what the agent got
    arrives: bool = False
    masked: bool = False


HOPS = (
    Expected("GET /v1/customers", 200, "allowed, masked", '"customers"', arrives=True, masked=True),
    Expected("GET /v1/api-keys", 200, "allowed, masked", '"keys"', arrives=True, masked=True),
    Expected("GET /v1/diagnostics", 200, "allowed, masked", '"you_sent"', arrives=True, masked=True),
    Expected("GET /admin/users", 403, "denied", "no-admin"),
    Expected("GET /v1/%2e%2e/admin/users", 403, "denied", "urn:hopgate:problem:"),
    Expected("POST /v1/refunds", 201, "allowed", '"paid"', arrives=True),
    Expected("GET /v1/events", 200, "allowed, masked", '"event"', arrives=True, masked=True),
    Expected("DELETE /v1/customers/2", 403, "denied", "urn:hopgate:problem:denied"),
    Expected("GET http://169.254.169.254/latest/meta-data/", 403, "refused", "urn:hopgate:problem:"),
    Expected("GET http://127.0.0.1:{origin}/v1/customers", 403, "refused", "urn:hopgate:problem:"),
    Expected("GET /v1/customers", 407, "not authenticated", "urn:hopgate:problem:unauthenticated"),
    Expected("POST /v1/refunds", 201, "held, approved", '"paid"', arrives=True),
    Expected("POST /v1/refunds", 403, "held", "urn:hopgate:problem:pending"),
)
_MISSING: Final[Mapping[str, Any]] = {"client": "-", "request": "-", "status": 0, "text": "", "note": "did not happen"}


def hops(report: Report, found: Sequence[Mapping[str, Any]], stage: Stage) -> None:
    """Each hop as the agent saw it, against what it must have seen."""
    for number, expected in enumerate(HOPS):
        hop = found[number] if number < len(found) else _MISSING
        wanted = expected.request.format(origin=stage.origin)
        held = (hop["request"], hop["status"]) == (wanted, expected.status) and expected.contains in hop["text"]
        note = f"({hop['note']})" if hop["note"] else _message(hop["text"])
        report.check(held, f"{expected.verdict:<18} {hop['client']:<9} {hop['request']} → {hop['status']}", note)
    if len(found) > len(HOPS):
        report.check(False, f"{len(found) - len(HOPS)} more hops than were expected")


def masking(report: Report, output: str, stage: Stage) -> None:
    """Nothing that is masked reached the agent, and what hides it did."""
    private = [str(row[name]) for row in CUSTOMERS for name in ("email", "card", "ssn")]
    private += [row["secret"] for row in api_keys()] + [row["password"] for row in api_keys() if "password" in row]
    leaked = [value for value in private if value in output]
    report.check(not leaked, f"{len(private)} private values of the target never reached the agent", f"leaked: {leaked}" if leaked else "")
    names = [str(row["name"]) for row in CUSTOMERS]
    report.check(all(name in output for name in names), "what no rule hides did reach it", ", ".join(names))
    counts: Counter[str] = Counter()
    for line in (stage.state / "ledger" / "http-0.ndjson").read_text().splitlines():
        event = json.loads(line)
        counts.update(event["counts"] if event["event"] == "masked" else {})
    told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    report.check(counts["credential"] >= 2 and counts.total() >= len(private), f"the ledger counts {counts.total()} masked values", told)


def arrivals(report: Report, stage: Stage, approved_at: float) -> None:
    """The target's own log: what was allowed came once, with the key; what was denied never came."""
    log = stage.accesses()
    wanted = [hop.request for hop in HOPS if hop.arrives]
    came = [f"{line['method']} {line['path']}" for line in log]
    different = "" if came == wanted else str(came)
    report.check(came == wanted, f"the target saw {len(came)} requests: exactly those that were allowed", different)
    report.check(all(line["key"] == "valid" for line in log), "each carried the API key, which only the gateway has")
    report.check(not any(line["proxy_authorization"] for line in log), "none carried the agent's token")
    held = [line for line in log if '"amount": 250' in line["body"] or '"amount":250' in line["body"]]
    report.check(len(held) == 1 and held[0]["time"] > approved_at > 0, "the held refund came once, after the approval")


def secrets_kept(report: Report, output: str, stage: Stage, tokens: Mapping[str, str]) -> None:
    """The injected key in plain, base64 and URL form, and the tokens, in everything that was written or printed."""
    forms = list(key_forms(stage.key))
    report.check(not any(form in output for form in forms), "the API key never reached the agent", "plain, base64 and URL form")
    written = {path: path.read_bytes() for path in stage.gateway.rglob("*") if path.is_file()}
    for what, values in (("the API key is", forms), ("the tokens are", list(tokens.values()))):
        holding = [str(path.relative_to(stage.base)) for path, data in written.items() if any(value.encode() in data for value in values)]
        where = f"in none of the {len(written)} files of the gateway: recordings, ledgers, logs, database"
        report.check(not holding, f"{what} {where}", ", ".join(holding))


def key_forms(key: str) -> Iterator[str]:
    """The ways in which a value is likely to be repeated: base64 at each of its three alignments included."""
    yield key
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + key.encode()).decode()
        # the first and last characters also depend on what stands beside the key
        yield encoded[4 if shift else 0 : -4]
    if (quoted := urllib.parse.quote(key, safe="")) != key:
        yield quoted
    yield "".join(f"%{byte:02X}" for byte in key.encode())


def recording(report: Report, stage: Stage) -> Path | None:
    """The session's recording, read with stock mitmdump."""
    sessions = {row["id"] for row in json.loads(stage.hopgate("sessions", "list", "--connection", "billing", "--json"))}
    found = sorted(path for path in (stage.state / "recordings").rglob("*.mitm") if path.stem in sessions)
    report.check(len(found) == 1, "the session left a recording", str(found[0]) if found else "")
    if not found:
        return None
    # mitmdump of the installed package, without a script of ours and without a configuration of the user's
    program = "import sys; from mitmproxy.tools.main import mitmdump; mitmdump()"
    options = ["--set", f"confdir={stage.base / 'stock'}", "--set", "flow_detail=1"]
    done = stage.command([sys.executable, "-P", "-c", program, "-nr", str(found[0]), *options])
    recorded = [hop for hop in HOPS if hop.verdict not in ("not authenticated", "refused")]
    shown = [line for line in done.stdout.splitlines() if " << " in line]
    read = done.returncode == 0 and len(shown) == len(recorded)
    trouble = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
    report.check(read, f"stock mitmdump -nr reads {len(shown)} exchanges from it", trouble)
    return found[0]


def integrity(report: Report, stage: Stage, recorded: Path) -> None:
    """`hopgate verify` says whole; one flipped byte in a copy, and it says what happened and where."""
    whole = json.loads(stage.hopgate("verify", "--json"))
    report.check(whole["verdict"] == "whole", "hopgate verify: whole", whole["sentence"])
    copy = stage.gateway / "copy"
    shutil.copytree(stage.state, copy)
    path = copy / recorded.relative_to(stage.state)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    told = json.loads(stage.hopgate("verify", "--state", str(copy), "--json", fails=True))
    found = [each for each in told["findings"] if each["kind"] == "edited"]
    shown = f"{found[0]['kind']}: flow {found[0]['flow']}, byte {found[0]['offset']}" if found else told["sentence"]
    report.check(told["verdict"] == "altered" and bool(found), "a copy with one flipped byte: altered", shown)
    shutil.rmtree(copy)


def _message(text: str) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        return ""
    detail = answer.get("detail", "") if isinstance(answer, dict) else ""
    return f"({detail})" if detail else ""
