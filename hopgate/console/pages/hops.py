"""Who reached what: lateral movement made visible."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

from starlette.responses import Response

from hopgate.console.call import Call
from hopgate.console.graph import draw
from hopgate.history import Hops

WINDOWS: Final = (
    ("1h", 3600.0, "hour"),
    ("24h", 86400.0, "day"),
    ("7d", 7 * 86400.0, "week"),
    ("30d", 30 * 86400.0, "month"),
    ("all", 0.0, "ever"),
)
FRESH: Final = 40  # first-seen hops in the list


async def hops(call: Call) -> Response:
    """The graph of a window of time, whole or around one node, all of it or what is new in it."""
    asked = call.query.get("window", "")
    window, seconds = next(((name, length) for name, length, _ in WINDOWS if name == asked), ("24h", 86400.0))
    found = await call.desk.history.hops(time.time() - seconds if seconds else 0.0)
    focus, only_new = call.query.get("focus", ""), call.query.get("new") == "1"
    fresh = sorted((hop for hop in found.edges if hop.is_new), key=lambda hop: -hop.first_seen) if seconds else []
    found = narrowed(found, focus, only_new)
    picture = await asyncio.to_thread(draw, found.principals, found.connections, found.edges)
    return call.page(
        "hops.html", picture=picture, window=window, windows=WINDOWS, focus=focus, only_new=only_new, fresh=fresh[:FRESH],
        fresh_count=len(fresh), seconds=seconds,
    )  # fmt: skip


def narrowed(found: Hops, focus: str, only_new: bool) -> Hops:
    """What touches `focus`, an identity or a connection: its own hops, and those of its neighbours."""
    edges = tuple(hop for hop in found.edges if hop.is_new) if only_new else found.edges
    if focus:
        near = {hop.connection for hop in edges if hop.principal == focus} | {hop.connection for hop in edges if hop.connection == focus}
        edges = tuple(hop for hop in edges if hop.connection in near)
    return replace(found, edges=edges)
