"""The operations of `/api/v1`, each a function of a Call and its checked parameters or body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any, cast

import msgspec
from starlette.responses import FileResponse, Response, StreamingResponse

from hopgate.console.api import types
from hopgate.console.call import Call, Missing
from hopgate.console.cards import show
from hopgate.console.pages import approvals as approval_pages
from hopgate.console.pages import replay, rules, stop
from hopgate.console.pages.sessions import find as found_session
from hopgate.errors import HopgateError
from hopgate.history import Event, SessionFound, SessionQuery, view
from hopgate.store import Approval

_NO_QUERY = frozenset({"after", "limit"})


async def me(call: Call, _: types.Nothing) -> types.Me:
    """Who the token speaks for, and what that permits here."""
    return types.Me(str(call.principal), sorted(call.principal.groups), sorted(call.roles))


# --- approvals


async def list_approvals(call: Call, query: types.ApprovalsQuery) -> types.Approvals:
    """Approvals in a state, the newest first; an empty state means any."""
    found = await call.desk.services.store.list_approvals(query.state or None, limit=query.limit)
    return types.Approvals([_approval(each) for each in found])


async def find_approval(call: Call, _: types.Nothing) -> types.Card:
    """One approval with its context."""
    card = await call.desk.history.card(call.path("id"))
    if card is None:
        raise Missing("there is no such approval")
    shown = show(card, call.principal, call.roles, call.desk.config.approvals.owners, whole=True)
    return types.Card(
        _approval(card.approval),
        [msgspec.convert(each, types.Progress, from_attributes=True) for each in card.progress],
        [_event(each) for each in card.last_actions],
        msgspec.convert(card.seen, types.Seen, from_attributes=True),
        shown.may_decide,
        shown.why_not,
    )


async def decide(call: Call, body: types.DecisionBody) -> types.Approval:
    """Approve or deny, as the caller."""
    if await call.desk.services.store.find_approval(call.path("id")) is None:
        raise Missing("there is no such approval")
    seen = {"fingerprint": body.fingerprint, "version": body.version, "comment": body.comment}
    return _approval(await approval_pages.decide_as(call, call.path("id"), body.verdict, body.scope, seen))


async def approval_events(call: Call, _: types.Nothing) -> Response:
    """Server-sent events. `pending`: id and version of one that waits or has changed; `settled`: the id of one that waits no longer."""
    return StreamingResponse(_changes(call), media_type="text/event-stream")


async def _changes(call: Call) -> AsyncIterator[bytes]:
    try:
        async for change in call.desk.inbox.watch():
            await call.authenticate()
            lines = b": beat\n\n" if change.beat else b""
            for each in (*change.came, *change.changed):
                lines += b"event: pending\ndata: %b\n\n" % msgspec.json.encode({"id": each.id, "version": each.version})
            for name in change.went:
                lines += b"event: settled\ndata: %b\n\n" % msgspec.json.encode({"id": name})
            yield lines or b": nothing waits\n\n"
    except HopgateError as error:
        yield b"event: problem\ndata: %b\n\n" % msgspec.json.encode({"detail": error.message})


async def list_grants(call: Call, _: types.Nothing) -> types.Approvals:
    """What is permitted now because somebody approved it."""
    return types.Approvals([_approval(each) for each in await call.desk.services.store.list_approvals("approved")])


async def revoke_grant(call: Call, _: types.Nothing) -> None:
    """Take a grant, or a request that waits, back."""
    if await call.desk.services.store.find_approval(call.path("id")) is None:
        raise Missing("there is no such grant")
    await call.desk.services.approvals.revoke(call.path("id"), by=str(call.principal))


# --- sessions


async def list_sessions(call: Call, query: types.SessionsQuery) -> types.Sessions:
    """Sessions, the newest first. rule, effect, kind and text must hold of one and the same event."""
    given = {each.name: getattr(query, each.name) for each in fields(SessionQuery) if each.name not in _NO_QUERY}
    try:
        page = await call.desk.history.search_sessions(SessionQuery(**given), query.after, query.limit)
    except ValueError:
        raise Missing("`after` is not from a page of this search") from None
    return types.Sessions([_session(each) for each in page.items], page.after)


async def find_session(call: Call, _: types.Nothing) -> types.Session:
    """One session."""
    return _session(await found_session(call))


async def session_events(call: Call, query: types.PageQuery) -> types.Events:
    """The timeline of a session, the oldest first. The ledger tells that it was read."""
    found = await found_session(call)
    view(call.desk.services.ledger.append, call.principal, "timeline", session=found.id)
    try:
        page = await call.desk.history.timeline(found.id, after=query.after, limit=query.limit)
    except ValueError:
        raise Missing("`after` is not from a page of this timeline") from None
    return types.Events([_event(each) for each in page.items], page.after)


async def session_recording(call: Call, _: types.Nothing) -> Response:
    """The recording: a flow file that mitmproxy reads. The ledger tells that it was taken."""
    response = await replay.export(call)
    assert isinstance(response, FileResponse)
    return response


async def kill(call: Call, body: types.KillBody) -> types.Killed:
    """End sessions within a second. Subjects and runs stay locked until they are unlocked."""
    return types.Killed(list(await stop.kill_as(call, body.kind, body.value)))


async def list_locks(call: Call, _: types.Nothing) -> types.Locks:
    """Who and what is locked out."""
    found = await call.desk.services.store.list_locks()
    return types.Locks([msgspec.convert(each, types.Lock, from_attributes=True) for each in found])


async def unlock(call: Call, query: types.LockQuery) -> None:
    """Let somebody in again."""
    await stop.unlock_as(call, query.kind, query.value)


# --- rules, hops, evidence


async def list_rules(call: Call, _: types.Nothing) -> types.Rules:
    """The rules in force and how often each had a say; rules that are gone and once matched, too."""
    in_force = call.desk.services.rules
    found = await call.desk.history.rule_statistics(in_force.current.rules)
    problems = list(in_force.error.problems) if in_force.error is not None else []
    return types.Rules(in_force.current.version, problems, [msgspec.convert(each, types.Rule, from_attributes=True) for each in found])


async def explain(call: Call, body: types.ExplainBody) -> types.Explained:
    """What would be decided. Nothing runs."""
    asked = {"subject": body.subject, "groups": body.groups, "text": body.text, "body": body.body}
    answer = await rules.explained(call, body.connection, asked)
    return types.Explained(
        answer["effect"], answer["rules"], answer["message"], answer["decided"], answer["facts"], answer["complete"], answer["reason"]
    )


async def list_hops(call: Call, query: types.HopsQuery) -> types.Hops:
    """Who used which connection between two moments. `is_new`: for the first time ever."""
    found = await call.desk.history.hops(query.since, query.until)
    return types.Hops(found.since, found.until, [msgspec.convert(each, types.Hop, from_attributes=True) for each in found.edges])


async def verification(call: Call, _: types.Nothing) -> types.Verification:
    """The last proof of ledgers and recordings, and whether one runs."""
    return _verification(call)


async def verify(call: Call, _: types.Nothing) -> types.Verification:
    """Begin to prove ledgers and recordings whole, unless that runs already; GET tells how it went."""
    if call.desk.verification.start():
        call.desk.services.ledger.append("verification_started", by=str(call.principal))
    return _verification(call)


def _verification(call: Call) -> types.Verification:
    last = call.desk.verification
    return types.Verification(last.running, last.at, last.failed, last.report or msgspec.UNSET)


# --- rows as types


def _approval(approval: Approval) -> types.Approval:
    return cast("types.Approval", _converted(approval, types.Approval, facts=_plain(dict(approval.facts)), headers=dict(approval.headers)))


def _session(session: SessionFound) -> types.Session:
    return msgspec.convert(session, types.Session, from_attributes=True)


def _event(event: Event) -> types.Event:
    return cast("types.Event", _converted(event, types.Event, detail=_plain(dict(event.detail))))


def _converted(row: Any, kind: type[msgspec.Struct], **given: Any) -> Any:
    """A row as a Struct; mappings are given apart, for a read-only one is no dict."""
    values = {name: given[name] if name in given else getattr(row, name) for name in kind.__struct_fields__}
    return msgspec.convert(values, kind, from_attributes=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
