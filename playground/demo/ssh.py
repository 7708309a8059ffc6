"""The demonstration's SSH part: what the agent saw, and what is checked from outside of the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from playground.demo.commands import COMMANDS, NOTES, REPORT, SECRETS, message
from playground.demo.host import CONNECTION, HostStage
from playground.demo.report import Report


def prepare(stage: HostStage) -> None:
    """What there is on the host."""
    srv = stage.host.srv
    (srv / "upload").mkdir(exist_ok=True)
    (srv / "notes.txt").write_text(NOTES)


def order(stage: HostStage) -> str:
    """The model's turn about the host."""
    host = stage.host
    real = stage.clients.options(host.port, "StrictHostKeyChecking=no", "IdentityFile=none")
    known = [word.replace("StrictHostKeyChecking=yes", "StrictHostKeyChecking=no") for word in real]
    known = [word.replace(str(stage.clients.known_hosts), "/dev/null") for word in known]
    options = stage.clients.options(stage.ssh_port, "IdentityFile=none")
    return message(options, f"{CONNECTION}@127.0.0.1", known, f"{host.user}@127.0.0.1", str(host.srv))


def environment(stage: HostStage, token: str) -> dict[str, str]:
    """What ssh needs to answer for its password."""
    given = stage.clients.environment(token)
    return {name: given[name] for name in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "HOPGATE_TOKEN")}


def commands(report: Report, found: Sequence[Mapping[str, Any]], stage: HostStage) -> None:
    """Each command as the agent saw it, against what it must have seen."""
    for number, expected in enumerate(COMMANDS):
        hop = found[number] if number < len(found) else {"client": "-", "request": "-", "status": "-", "text": "", "note": "did not happen"}
        wanted = expected.line.format(srv=stage.host.srv)
        held = (hop["request"], hop["status"]) == (wanted, expected.status) and expected.contains in hop["text"]
        note = f"({hop['note']})" if hop["note"] else ""
        shown = f"{expected.verdict:<18} {hop['client']:<9} {expected.line.format(srv='…/srv')} → {hop['status']}"
        report.check(held, shown, note if held else f"{note} {hop['text']}".strip())
    if len(found) > len(COMMANDS):
        report.check(False, f"{len(found) - len(COMMANDS)} more commands than were expected")


def outside(report: Report, stage: HostStage, output: str, approved_at: float) -> None:
    """The host's own files, the recordings. The gateway has stopped."""
    host, srv = stage.host, stage.host.srv
    there = sorted(str(path.relative_to(srv)) for path in srv.rglob("*"))
    report.check(there == ["notes.txt", "upload", "upload/report.txt"], "the host's files: all there, and the one upload", str(there))
    uploaded = srv / "upload" / "report.txt"
    report.check(uploaded.is_file() and uploaded.read_bytes() == REPORT, "it is what was uploaded, byte for byte")
    restarts = host.restarts()
    once = len(restarts) == 1 and restarts[0][0] > approved_at > 0 and restarts[0][1] == "restart orders"
    report.check(once, "the held restart ran once, after the approval", "" if once else str(restarts))
    report.check(not any(secret in output for secret in SECRETS), f"none of {len(SECRETS)} secrets in the host's file reached the agent")
    files = {path: path.read_bytes() for path in stage.gateway.rglob("*") if path.is_file()}
    told = b"".join(data for path, data in files.items() if path.suffix == ".mitm")
    held = b"exec uptime" in told and not any(secret.encode() in told for secret in SECRETS)
    report.check(held, "the recordings have the commands, and none of the secrets")
    private = host.key.read_bytes().splitlines()[2]
    report.check(not any(private in data for data in (*files.values(), output.encode())), "the account's key is with the gateway alone")
