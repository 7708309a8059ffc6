"""The inbox, one approval, decisions, grants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, get_args

from starlette.responses import Response, StreamingResponse

from hopgate.console.call import Call, Malformed, Missing
from hopgate.console.cards import Shown, scope_words, show
from hopgate.console.inbox import Change
from hopgate.errors import Conflict, Denied, HopgateError
from hopgate.history import Card
from hopgate.store import Approval, ApprovalState, Verdict

SHOWN: Final = 100  # cards on the page; the soonest deadline first
PAST: Final = 200
_DIGITS: Final = 9  # of a version; Python refuses to read thousands of them


async def inbox(call: Call) -> Response:
    """What waits."""
    cards = await call.desk.history.inbox(limit=SHOWN)
    shown = [_show(call, card) for card in cards]
    return call.page("approvals.html", cards=shown, count=len(call.desk.inbox.pending), more=len(call.desk.inbox.pending) - len(shown))


async def approval(call: Call) -> Response:
    """One approval, whole, in any state."""
    card = await _card(call, call.path("id"))
    return call.page("approval.html", card=_show(call, card, whole=True))


async def past(call: Call) -> Response:
    """What was decided, expired or withdrawn; the newest first."""
    state = call.query.get("state", "")
    states = tuple(each for each in get_args(ApprovalState.__value__) if each != "pending")
    chosen = next((each for each in states if each == state), None)
    found = await call.desk.services.store.list_approvals(chosen, but="pending", limit=PAST)
    return call.page("past.html", approvals=found, state=state, states=states)


async def grants(call: Call) -> Response:
    """What is permitted now because somebody approved it."""
    found = await call.desk.services.store.list_approvals("approved")
    return call.page("grants.html", grants=[(each, scope_words(each.scope)) for each in found])


async def revoke(call: Call) -> Response:
    """Take a grant back."""
    await call.desk.services.approvals.revoke(call.path("id"), by=str(call.principal))
    return call.redirect("/grants")


async def decide(call: Call) -> Response:
    """Approve or deny. The form says what was on the screen: if that is not what waits now, nothing is decided."""
    name, form = call.path("id"), call.form
    try:
        await decide_as(call, name, form.get("verdict", ""), form.get("scope", "once"), form)
        status, message = 200, ""
    except (Conflict, Denied) as error:
        status, message = (409 if isinstance(error, Conflict) else 403), error.message
    card = await _card(call, name)
    whole = form.get("view") == "whole"
    if not call.htmx:
        if status == 200:
            return call.redirect(f"/approvals/{card.approval.id}")
        return call.page("approval.html", status, card=_show(call, card, whole=True), message=message)
    return call.page("_card.html", status, card=_show(call, card, whole=whole), message=message, view=form.get("view", ""))


async def decide_as(call: Call, name: str, verdict: str, scope: str, seen: Mapping[str, Any]) -> Approval:
    """One decision of the caller; `seen` holds the fingerprint and version that he saw. Raises Denied, Conflict, Unavailable."""
    fingerprint, version = seen.get("fingerprint", ""), str(seen.get("version", ""))
    if not fingerprint or not version.isdecimal() or len(version) > _DIGITS:
        raise Malformed("a decision carries the fingerprint and the version of what was seen")
    if verdict not in ("approve", "deny"):
        raise Malformed("a decision is approve or deny")
    chosen: Verdict = "approve" if verdict == "approve" else "deny"
    return await call.desk.services.approvals.decide(
        name,
        call.principal,
        chosen,
        scope=scope,
        comment=str(seen.get("comment", "")).strip(),
        fingerprint=str(fingerprint),
        version=int(version),
    )


# --- live


async def events(call: Call) -> Response:
    """A stream of page fragments (server-sent events): how many wait, and with `cards` the cards themselves."""
    return StreamingResponse(_stream(call, call.query.get("cards") == "1"), media_type="text/event-stream")


async def _stream(call: Call, cards: bool) -> AsyncIterator[bytes]:
    first = True
    try:
        async for change in call.desk.inbox.watch():
            if await _ended(call):
                yield _event(call.render("_reload.html"))
                return
            if change.beat:
                yield b": beat\n\n"
                continue
            text = call.render("_count.html", count=change.count, failed=change.failed)
            if cards:
                text += await _all(call) if first else await _fragments(call, change)
            first = False
            yield _event(text)
    except HopgateError as error:
        yield _event(call.render("_count.html", count=0, failed=error.message))


async def _ended(call: Call) -> bool:
    """Whether this sign-in was ended, or its holder locked out, since the stream began."""
    try:
        await call.authenticate()
    except HopgateError:
        return True
    return False


async def _all(call: Call) -> str:
    cards = await call.desk.history.inbox(limit=SHOWN)
    return call.render("_cards.html", cards=[_show(call, card) for card in cards])


async def _fragments(call: Call, change: Change) -> str:
    """Each new card before the one that it precedes, each changed one in its place."""
    order = [each.id for each in call.desk.inbox.pending]
    parts = []
    for each in change.came:
        card = await call.desk.history.card(each.id)
        if card is not None and each.id in order:
            following = next((other for other in order[order.index(each.id) + 1 :]), "")
            parts.append(call.render("_came.html", card=_show(call, card), before=following))
    for name in (*(each.id for each in change.changed), *change.went):
        card = await call.desk.history.card(name)
        if card is not None:
            parts.append(call.render("_changed.html", card=_show(call, card)))
    return "".join(parts)


def _event(text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.replace("\r", "").split("\n"))
    return f"{lines}\n".encode()


def _show(call: Call, card: Card, *, whole: bool = False) -> Shown:
    return show(card, call.principal, call.roles, call.desk.config.approvals.owners, whole=whole)


async def _card(call: Call, name: str) -> Card:
    card = await call.desk.history.card(name)
    if card is None:
        raise Missing("there is no such approval")
    return card
