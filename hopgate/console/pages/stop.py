"""Ending sessions at once, and letting in again: by session, principal, claimed run, connection, or everything."""

from __future__ import annotations

from typing import Any, Final, cast

from starlette.responses import Response

from hopgate.console.call import Call, Malformed, Missing
from hopgate.store import KillKind, LockKind, SessionRow

KINDS: Final[tuple[KillKind, ...]] = ("session", "subject", "run", "connection", "all")
SHOWN: Final = 50


async def stop(call: Call) -> Response:
    """What is named, what it would end, and a button. Looking ends nothing."""
    kind, value = call.query.get("kind", ""), call.query.get("value", "").strip()
    chosen = kind if kind in KINDS else ""
    struck: tuple[SessionRow, ...] = ()
    nobody = chosen == "subject" and bool(value) and not all(value.partition(":")[::2])
    ready = bool(chosen and (value or chosen == "all")) and not nobody
    if ready:
        live = await call.desk.services.store.list_sessions(active=True, limit=5000)
        struck = tuple(row for row in live if strikes(row, chosen, value))
    return call.page(
        "stop.html",
        kinds=KINDS,
        kind=chosen,
        value=value,
        ready=ready,
        nobody=nobody,
        struck=struck[:SHOWN],
        struck_count=len(struck),
        locks=await call.desk.services.store.list_locks(),
        done=call.query.get("done", ""),
    )


def strikes(row: SessionRow, kind: str, value: str) -> bool:
    """Whether killing `kind` `value` ends this session."""
    named = {"session": row.id, "subject": row.identity, "run": row.run, "connection": row.connection}
    return kind == "all" or named[kind] == value


async def kill(call: Call) -> Response:
    """End them within a second. Subjects and runs are locked besides, until somebody unlocks them."""
    ended = await kill_as(call, call.form.get("kind", ""), call.form.get("value", "").strip())
    return call.redirect(f"/stop?done={len(ended)}")


async def kill_as(call: Call, kind: str, value: str) -> tuple[str, ...]:
    """The sessions that end now. Raises Denied, Unavailable."""
    if kind not in KINDS:
        raise Malformed(f"what to kill? one of {', '.join(KINDS)}")
    if (kind == "all") is bool(value):
        raise Malformed("all takes no name" if value else f"which {kind}? name one")
    services, who = call.desk.services, str(call.principal)
    if kind == "session":
        row = await services.store.find_session(value)
        if row is None:
            raise Missing("there is no such session")
        value = row.id
    ended = await services.store.request_kill(kind, value, who)
    services.ledger.append("kill_ordered", kind=kind, value=value, sessions=list(ended), by=who)
    await services.ledger.durable()
    return ended


async def unlock(call: Call) -> Response:
    """Let somebody in again."""
    await unlock_as(call, call.form.get("kind", ""), call.form.get("value", ""))
    return call.redirect("/stop")


async def unlock_as(call: Call, kind: str, value: str) -> None:
    """Raises Denied when that is not locked, Unavailable."""
    kinds: Any = ("subject", "run", "connection", "all")
    if kind not in kinds or not await call.desk.services.store.unlock(cast("LockKind", kind), value):
        raise Missing("that is not locked")
    call.desk.services.ledger.append("unlocked", kind=kind, value=value, by=str(call.principal))
    await call.desk.services.ledger.durable()
