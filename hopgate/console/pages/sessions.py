"""Sessions: found, told as a timeline, followed while they live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from hopgate.console.call import Call, Malformed, Missing
from hopgate.console.pages.approvals import _ended, _event
from hopgate.errors import HopgateError
from hopgate.history import Event, Page, SessionFound, SessionQuery, view

SHOWN: Final = 50
EVENTS: Final = 200
FOLLOW_SECONDS: Final = 0.5  # between looks at a live session; the index is as far behind at most
MAX_FOLLOWED: Final = 64  # streams; each asks the index twice a second
_FIELDS: Final = ("principal", "run", "connection", "rule", "effect", "kind", "text")
_following = 0


async def search(call: Call) -> Response:
    """Sessions, the newest first, by whatever the form says."""
    given = {name: value.strip() for name, value in call.query.items() if value.strip()}
    query, problem = query_of(given)
    page: Page[SessionFound] = Page(())
    if not problem:
        try:
            page = await call.desk.history.search_sessions(query, call.query.get("after", ""), SHOWN)
        except ValueError:
            problem = "this page of the search is gone: search again"
    wanted = {name: value for name, value in given.items() if name != "after"}
    following = f"/sessions?{urlencode({**wanted, 'after': page.after})}" if page.after and len(page.items) == SHOWN else ""
    return call.page(
        "sessions.html", 400 if problem else 200, sessions=page.items, given=given, problem=problem, following=following, fields=_FIELDS
    )


def query_of(given: Mapping[str, str]) -> tuple[SessionQuery, str]:
    """The query that parameters mean, and what is wrong with them. Times are UTC."""
    fields: dict[str, Any] = {name: given[name][:300] for name in _FIELDS if name in given}
    for name in ("since", "until"):
        if name in given:
            try:
                fields[name] = moment_of(given[name])
            except ValueError:
                return SessionQuery(), f"{name} must be a time, as in 2030-01-31T14:30"
    if given.get("live", "") in ("yes", "no"):
        fields["live"] = given["live"] == "yes"
    return SessionQuery(**fields), ""


def moment_of(text: str) -> float:
    """ISO 8601 as seconds since the epoch; without an offset it is UTC. Raises ValueError."""
    when = datetime.fromisoformat(text)
    return (when.replace(tzinfo=UTC) if when.tzinfo is None else when).timestamp()


async def session(call: Call) -> Response:
    """One session's timeline. That it was looked at is in the ledger before it is shown."""
    found = await find(call)
    view(call.desk.services.ledger.append, call.principal, "timeline", session=found.id)
    after = call.query.get("after", "")
    try:
        page = await call.desk.history.timeline(found.id, after=after, limit=EVENTS)
    except ValueError:
        raise Malformed("this page of the timeline is gone: begin again") from None
    following = f"/sessions/{found.id}?{urlencode({'after': page.after})}" if len(page.items) == EVENTS else ""
    row = await call.desk.services.store.find_session(found.id)
    recording = row.recording if row is not None and row.recording else found.recording
    live = found.live and not following
    return call.page(
        "session.html", session=found, row=row, events=page.items, after=page.after, paged=bool(after), following=following, live=live,
        has_recording=bool(recording),
    )  # fmt: skip


async def follow(call: Call) -> Response:
    """The timeline from `after` on, as it grows (server-sent events)."""
    found = await find(call)
    return StreamingResponse(_follow(call, found.id, call.query.get("after", "")), media_type="text/event-stream")


async def _follow(call: Call, session: str, after: str) -> AsyncIterator[bytes]:
    global _following
    if _following >= MAX_FOLLOWED:
        yield _event(call.render("_notice.html", message="too many sessions are being followed already: reload later"))
        return
    _following += 1
    beat = 0
    try:
        while not call.desk.inbox.closed:
            page = await call.desk.history.timeline(session, after=after, limit=EVENTS)
            after = page.after or after
            if page.items:
                found = await call.desk.history.find_session(session)
                yield _event(call.render("_events_more.html", events=page.items, session=found))
                if found is not None and not found.live:
                    return
            elif beat % 20 == 0:
                if await _ended(call):
                    yield _event(call.render("_reload.html"))
                    return
                yield b": beat\n\n"
            beat += 1
            await asyncio.sleep(FOLLOW_SECONDS)
    except (HopgateError, ValueError) as error:
        yield _event(call.render("_notice.html", message=error.message if isinstance(error, HopgateError) else "begin again"))
    finally:
        _following -= 1


async def find(call: Call) -> SessionFound:
    """The session that the path names. Raises Denied."""
    found = await call.desk.history.find_session(call.path("id"))
    if found is None:
        raise Missing("there is no such session, or the index has not come to it yet")
    return found


def told(event: Event) -> str:
    """What an event is called on the page."""
    return event.effect if event.event == "decided" and event.effect else event.event.replace("_", " ")
