"""Is everything as it must be: processes, rules, ledgers, store, index, notifications; and what people did."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlencode

import httpx
from starlette.responses import Response

from hopgate.console.call import Call
from hopgate.errors import HopgateError
from hopgate.store import Head

QUIET: Final = 120.0  # seconds without a ledger head after which a process that is not closed looks dead
LOW_DISK: Final = 1 << 30
SHOWN: Final = 100

type Standing = Literal["good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the page."""

    what: str
    standing: Standing
    message: str


async def health(call: Call) -> Response:
    """Everything at a glance. A store that does not answer is told here as well."""
    desk, checks = call.desk, []
    checks.append(_rules(call))
    heads: tuple[Head, ...] = ()
    started = time.perf_counter()
    try:
        heads = await desk.services.store.list_heads()
        took = (time.perf_counter() - started) * 1000
        checks.append(Check("Store", "good", f"answers in {took:.1f} ms; {len(desk.inbox.pending)} approvals wait"))
    except HopgateError as error:
        checks.append(Check("Store", "bad", error.message))
    checks += [_index(call), _ledger(call), *_providers(call), *_anchors(call), _disk(call), *await _notifications(call)]
    return call.page(
        "health.html",
        checks=checks,
        heads=heads,
        processes=await _processes(call),
        verification=desk.verification,
        now=time.time(),
        quiet=QUIET,
    )


def _rules(call: Call) -> Check:
    rules = call.desk.services.rules
    if rules.error is not None:
        return Check("Rules", "bad", f"the files on disk are not in force: {rules.error.problems[0]}")
    return Check("Rules", "good", f"{len(rules.current)} rules, version {rules.current.version[:16]}")


def _index(call: Call) -> Check:
    progress = call.desk.history.progress
    if progress.problems:
        return Check("Index", "bad", "; ".join(progress.problems[:3]))
    behind = f", {progress.behind} bytes behind" if progress.behind else ""
    return Check("Index", "warn" if progress.behind > 1 << 20 else "good", f"{progress.events} events{behind}")


def _ledger(call: Call) -> Check:
    failed = call.desk.services.ledger.failed
    return Check("Ledger", "bad", failed) if failed else Check("Ledger", "good", "is written")


def _providers(call: Call) -> list[Check]:
    problems = call.desk.services.identity.problems
    if not problems:
        return [Check("Identity", "good", f"keys of {', '.join(each.name for each in call.desk.config.identity.issuers)} are known")]
    return [Check("Identity", "warn", each) for each in problems]


def _anchors(call: Call) -> list[Check]:
    anchors = call.desk.services.anchors
    if anchors is None:
        return [Check("Anchor", "warn", "signed heads stay on this machine: name a ledger.anchor")]
    return [Check("Anchor", "bad", str(anchors.error)) if anchors.error else Check("Anchor", "good", "signed heads leave this machine")]


def _disk(call: Call) -> Check:
    free = shutil.disk_usage(call.desk.config.state).free
    text = f"{free / (1 << 30):.1f} GiB free for state and recordings"
    return Check("Disk", "good" if free >= LOW_DISK else "bad", text)


async def _notifications(call: Call) -> list[Check]:
    settings = call.desk.config.approvals
    channels = len(settings.notify) + len(settings.webhooks)
    if not channels:
        return [Check("Notifications", "warn", "nobody is told when something waits: name approvals.notify or approvals.webhooks")]
    try:
        rows = await call.desk.services.store.list_notifications()
    except HopgateError as error:
        return [Check("Notifications", "bad", error.message)]
    failed = [row for row in rows if row.error]
    if failed:
        return [Check("Notifications", "bad", f"{len(failed)} could not be sent: {failed[0].error}")]
    return [Check("Notifications", "good", f"{channels} {'channel' if channels == 1 else 'channels'}")]


async def _processes(call: Call) -> list[dict[str, Any]]:
    """What the supervisor says, where it has a listener for that."""
    address = call.desk.config.listen.health
    if address is None:
        return []
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            status = (await client.get(f"http://{f'[{host}]' if ':' in host else host}:{address.port}/healthz")).json()
        return [dict(worker) for worker in status["workers"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return []


async def verify(call: Call) -> Response:
    """Prove ledgers and recordings, in a process of its own; the page tells when it is done."""
    if call.desk.verification.start():
        call.desk.services.ledger.append("verification_started", by=str(call.principal))
    return call.redirect("/health")


async def audit(call: Call) -> Response:
    """What people and the gateway did outside of sessions; who looked at what."""
    try:
        page = await call.desk.history.audit(call.query.get("after", ""), SHOWN)
    except ValueError:
        return call.redirect("/audit")
    following = f"/audit?{urlencode({'after': page.after})}" if page.after and len(page.items) == SHOWN else ""
    return call.page("audit.html", events=page.items, following=following)
