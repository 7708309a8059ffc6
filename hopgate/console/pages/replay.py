"""A session's recording: HTTP exchanges, statements and results, terminals. Each look is in the ledger first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from starlette.responses import FileResponse, Response

from hopgate.console.call import Call, Malformed, Missing
from hopgate.console.pages.sessions import find
from hopgate.history import SessionFound, view
from hopgate.playback import is_terminal, read, recording_path, terminals

SHOWN: Final = 50


async def replay(call: Call) -> Response:
    """The recording from `offset` on. `after` it a live one goes on: the page asks again by itself."""
    found, path = await _recording(call)
    view(call.desk.services.ledger.append, call.principal, "recording", session=found.id)
    await call.desk.services.ledger.durable()
    offset = _number(call.query.get("offset", "0"))
    reading = await asyncio.to_thread(read, path, offset, items=SHOWN)
    shells = await asyncio.to_thread(terminals, path) if found.kind == "ssh" else ()
    following = f"/sessions/{found.id}/replay?{urlencode({'offset': reading.after})}" if reading.after < reading.size else ""
    return call.page(
        "replay.html",
        session=found,
        items=[item for item in reading.items if not is_terminal(item)],
        damaged=reading.damaged if not found.live else "",
        after=reading.after,
        size=reading.size,
        offset=offset,
        following=following if not reading.damaged else "",
        terminals=[(number, f"Terminal {number + 1}") for number in range(len(shells))],
    )


async def more(call: Call) -> Response:
    """What a live recording has gained since `offset`: a fragment, and where to go on."""
    found, path = await _recording(call)
    offset = _number(call.query.get("offset", "0"))
    reading = await asyncio.to_thread(read, path, offset, items=SHOWN)
    return call.page(
        "_replay_more.html", session=found, items=[item for item in reading.items if not is_terminal(item)], after=reading.after
    )


async def cast(call: Call) -> Response:
    """One terminal as asciicast, for the player."""
    found, path = await _recording(call)
    number = _number(call.path("number"))
    shells = await asyncio.to_thread(terminals, path)
    if number >= len(shells):
        raise Missing("there is no such terminal")
    view(call.desk.services.ledger.append, call.principal, "terminal", session=found.id, number=number)
    return Response(shells[number], media_type="application/x-asciicast")


async def export(call: Call) -> Response:
    """The recording as a file, for mitmproxy and for `hopgate verify` elsewhere."""
    found, path = await _recording(call)
    view(call.desk.services.ledger.append, call.principal, "export", session=found.id)
    await call.desk.services.ledger.durable()
    return FileResponse(path, media_type="application/octet-stream", filename=f"{found.id}.mitm")


async def _recording(call: Call) -> tuple[SessionFound, Path]:
    found = await find(call)
    row = await call.desk.services.store.find_session(found.id)
    relative = row.recording if row is not None and row.recording else found.recording
    return found, recording_path(call.desk.config.state, relative)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise Malformed("that is no number")
    return int(text)
