"""Verify a whole state directory: every ledger first, then every recording against what the ledgers say."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hopgate.ledger_format import PROCESS, Head, Line, ledger_names, lines_with
from hopgate.ledger_keys import public_key as read_public_key
from hopgate.verify.evidence import FILE, Gathered, unpack
from hopgate.verify.flows import compare
from hopgate.verify.ledgers import Claim, Walk, add_claim, claims_of
from hopgate.verify.report import Finding, Report


def verify_state(
    state: Path,
    public_key: Ed25519PublicKey | None = None,
    sessions: Collection[str] | None = None,
    *,
    heads: Iterable[Head] = (),
    anchors: Iterable[Head] = (),
) -> Report:
    """Read ledgers and recordings of `state` and report. Nothing is written, nothing else is needed.

    `public_key` defaults to keys/ledger.pub; `sessions` limits which recordings are read (ledgers always are). `heads` come from
    the store, `anchors` from off this machine: with them an end that was cut away is told from an interruption. Raises
    Misconfigured without a readable public key.
    """
    key = public_key or read_public_key(state / "keys" / "ledger.pub")
    outside = [(head, "the store", False) for head in heads] + [(head, "the anchor", True) for head in anchors]
    claims, findings = claims_of(outside, key)
    directory = state / "ledger"
    names = ledger_names(directory)
    _claims_of_neighbours(directory, claims)
    gathered = Gathered()
    anchored: dict[str, int] = {}
    for name in names:
        walk = Walk(directory / f"{name}.ndjson", f"ledger/{name}.ndjson", name, key, claims.pop(name, {}))
        walk.run(lambda line, walk: _gather(gathered, line, walk))
        findings += walk.findings
        if walk.anchored is not None:
            anchored[name] = walk.anchored
    for name, seen in claims.items():
        source = next(iter(seen.values()))[0].source
        findings.append(Finding("deleted", f"ledger/{name}.ndjson", f"the ledger is gone; {source} has seen event {max(seen)} of it"))
    if not names:
        findings.append(Finding("deleted", "ledger", "there is no ledger"))
    asked = gathered.keys() if sessions is None else gathered.keys() & set(sessions)
    findings += _recordings(state, gathered, sorted(asked))
    findings += _unknown_files(state, gathered) if sessions is None else _unknown_sessions(gathered, sessions)
    return Report(tuple(findings), len(names), len(asked), anchored, bool(outside))


def _gather(gathered: Gathered, line: Line, walk: Walk) -> None:
    try:
        gathered.add(line)
    except ValueError as error:
        walk.found("edited", str(error))


def _claims_of_neighbours(directory: Path, claims: dict[str, dict[int, list[Claim]]]) -> None:
    """Each start of a process names the heads of all other ledgers as they were then."""
    for line in lines_with(directory, b'"event":"started"'):
        seen = line.fields.get("heads")
        for process, head in seen.items() if isinstance(seen, dict) else ():
            if (
                isinstance(head, list)
                and len(head) == 2
                and type(head[0]) is int
                and isinstance(head[1], str)
                and PROCESS.fullmatch(process)
            ):
                add_claim(claims, process, Claim(head[0], f"the ledger of `{line.fields.get('process')}`", h=head[1]))


def _recordings(state: Path, gathered: Gathered, asked: list[str]) -> list[Finding]:
    @functools.cache
    def owners() -> dict[bytes, str]:
        return {
            digest: known.session for known in gathered.values() for entries in known.segments.values() for _, digest in unpack(entries)
        }

    return [finding for session in asked for finding in compare(state, gathered[session], owners)]


def _unknown_sessions(gathered: Gathered, sessions: Collection[str]) -> list[Finding]:
    missing = sorted(set(sessions) - gathered.keys())
    return [Finding("recording_missing", "recordings", "no ledger knows this session", session) for session in missing]


def _unknown_files(state: Path, gathered: Gathered) -> list[Finding]:
    top = state / "recordings"
    known = {evidence.file for evidence in gathered.values()}
    found = []
    for path in sorted(top.glob("*/*/*/*.mitm")):
        name = path.relative_to(top).as_posix()
        if name in known:
            continue
        session = matched[1] if (matched := FILE.fullmatch(name)) else ""
        if path.is_file() and not path.is_symlink() and path.stat().st_size == 0:
            # made before the ledger's line, which did not get onto a full disk or past a kill; nothing is in it to be false
            found.append(Finding("interrupted", f"recordings/{name}", "the session ended before the ledger had its beginning", session))
        else:
            found.append(Finding("unknown", f"recordings/{name}", "no ledger knows this recording", session))
    return found
