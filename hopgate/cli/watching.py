"""`hopgate watch`: what waits, what lives and what was refused, in a table that keeps itself up to date."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, load, opened
from hopgate.cli.output import emit, span, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hopgate.store import Approval, SessionRow, Store

_WAITING = 15  # rows of each table; a terminal shows no more
_LIVE = 20


def watch(
    every: Annotated[float, typer.Option("--every", min=0.1, max=60.0, help="Seconds between looks.", metavar="SECONDS")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Approvals that wait and sessions that live, until interrupted. Deciding is `hopgate approvals`, ending `hopgate sessions kill`."""

    async def work() -> None:
        async with opened(load(config)) as store:
            if as_json:
                approvals, sessions = await _look(store)
                emit({"approvals": list(approvals), "sessions": list(sessions)})
                return
            from rich.console import Console
            from rich.live import Live

            screen = Console(highlight=False, markup=False)
            if once:
                screen.print(_tables(*await _look(store)))
                return
            with Live(_tables(*await _look(store)), console=screen, screen=screen.is_terminal, auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(every)
                    live.update(_tables(*await _look(store)), refresh=True)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())


async def _look(store: Store) -> tuple[tuple[Approval, ...], tuple[SessionRow, ...]]:
    approvals = await store.list_approvals("pending")
    return tuple(sorted(approvals, key=lambda each: each.deadline)), await store.list_sessions(active=True, limit=500)


def _tables(approvals: tuple[Approval, ...], sessions: tuple[SessionRow, ...]) -> RenderableType:
    from rich.console import Group

    now = time.time()
    waiting = [
        (each.id[:12], span(each.deadline - now), each.requester, each.connection, each.title, _quorum(each))
        for each in approvals[:_WAITING]
    ]
    live = [
        (each.id, each.identity, each.connection, span(now - each.opened_at), each.operations, each.held, each.denied)
        for each in sessions[:_LIVE]
    ]
    return Group(
        _table(f"waiting for approval: {len(approvals)}", ("ID", "LEFT", "REQUESTER", "CONNECTION", "WHAT", "VOTES"), waiting),
        _table(f"live sessions: {len(sessions)}", ("ID", "PRINCIPAL", "CONNECTION", "FOR", "OPERATIONS", "HELD", "DENIED"), live),
    )


def _quorum(approval: Approval) -> str:
    votes = [vote for vote in approval.votes if vote.verdict == "approve"]
    return ", ".join(
        f"{sum(not vote.groups.isdisjoint(need.reviewers) for vote in votes)} of {need.quorum}" for need in approval.requirements
    )


def _table(title: str, headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, expand=True, pad_edge=False)
    for heading in headings:
        numeric = heading in ("OPERATIONS", "HELD", "DENIED", "LEFT", "FOR")
        table.add_column(
            heading, justify="right" if numeric else "left", overflow="ellipsis", no_wrap=True, ratio=3 if heading == "WHAT" else None
        )
    for row in rows:
        # Text, not markup: what agents name themselves must not colour the reviewer's terminal
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
