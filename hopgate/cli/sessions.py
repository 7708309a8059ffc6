"""`hopgate sessions` and `hopgate unlock`: who uses what, and how to end it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, TokenOption, given_token, load, opened, operator
from hopgate.cli.output import emit, moment, note, say, table, visible
from hopgate.errors import Denied

if TYPE_CHECKING:
    from hopgate.store import KillKind, SessionRow

IdArgument = Annotated[str, typer.Argument(help="The session's id, or the start of it.", metavar="ID")]
_KINDS = ("subject", "run", "connection", "all")


def list_sessions(
    active: Annotated[bool, typer.Option("--active", help="Only those that are open.")] = False,
    connection: Annotated[str, typer.Option("--connection", help="Only this connection's.", metavar="NAME")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, the latest first.")] = 100,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Sessions, the latest first."""

    async def work() -> None:
        async with opened(load(config)) as store:
            found = await store.list_sessions(active=True if active else None, connection=connection, limit=limit)
        if as_json:
            emit(list(found))
            return
        rows = [
            (each.id, each.identity, each.connection, moment(each.opened_at), _ended(each), each.operations, each.denied, each.held)
            for each in found
        ]
        table(("ID", "PRINCIPAL", "CONNECTION", "OPENED", "ENDED", "OPERATIONS", "DENIED", "HELD"), rows, "no sessions")

    asyncio.run(work())


def show(session: IdArgument, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Everything that is known of one session."""

    async def work() -> None:
        async with opened(load(config)) as store:
            found = _found(await store.find_session(session), session)
        if as_json:
            emit(found)
            return
        import dataclasses

        for each in dataclasses.fields(found):
            value = getattr(found, each.name)
            value = moment(value) if each.name.endswith("_at") else ", ".join(value) if isinstance(value, tuple) else value
            say(f"{each.name:<12} {visible(value)}")

    asyncio.run(work())


def kill(
    session: Annotated[str, typer.Argument(help="The session's id, or the start of it.", metavar="[ID]")] = "",
    subject: Annotated[str, typer.Option("--subject", help="All of this principal's, who is locked too.", metavar="ISSUER:SUBJECT")] = "",
    run: Annotated[str, typer.Option("--run", help="All of this claimed run's, which is locked too.", metavar="RUN")] = "",
    connection: Annotated[str, typer.Option("--connection", help="All on this connection.", metavar="NAME")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    token: TokenOption = "",
    config: ConfigOption = CONFIG,
) -> None:
    """End sessions within a second, as an operator. What waits for approval there is cancelled."""
    given: list[tuple[KillKind, str]] = []
    named: tuple[tuple[KillKind, str], ...] = (("session", session), ("subject", subject), ("run", run), ("connection", connection))
    given += [(kind, value) for kind, value in named if value]
    given += [("all", "")] if everything else []
    if len(given) != 1:
        raise Misuse("name one thing to kill: a session's id, --subject, --run, --connection or --all")
    proof, (kind, value) = given_token(token), given[0]

    async def work() -> None:
        from hopgate.ledger import append_once

        loaded = load(config)
        async with opened(loaded) as store:
            who = await operator(loaded, store, proof)
            name = _found(await store.find_session(value), value).id if kind == "session" else value
            ended = await store.request_kill(kind, name, str(who))
        append_once(loaded.state, "kill_ordered", kind=kind, value=name, sessions=list(ended), by=str(who))
        locked = f"; {kind} {visible(name)} is locked until `hopgate unlock`" if kind in ("subject", "run") else ""
        say(f"{len(ended)} {'session ends' if len(ended) == 1 else 'sessions end'}{locked}")

    asyncio.run(work())


def export(
    session: IdArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; stdout when it is left out.", metavar="FILE")] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Copy a session's recording: a flow file that stock mitmproxy reads."""

    async def work() -> SessionRow:
        async with opened(load(config)) as store:
            return _found(await store.find_session(session), session)

    found, loaded = asyncio.run(work()), load(config)
    if not found.recording:
        raise Denied(f"session {found.id} has no recording")
    source = loaded.state / found.recording
    if not source.is_file():
        raise Denied(f"{source}: the recording is gone; `hopgate verify {found.id}` says why")
    if output is None and sys.stdout.isatty():
        raise Misuse("a recording is not text: name a file with --output, or pipe it")
    with source.open("rb") as recording:
        if output is None:
            shutil.copyfileobj(recording, sys.stdout.buffer)
            return
        # whoever may read the terminal may not read the recording: 0600, and nothing is overwritten
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(recording, file)
    note(f"{output}: {output.stat().st_size} bytes; read it with mitmdump -nr")


def unlock(
    kind: Annotated[str, typer.Argument(help="subject, run, connection, all; or list.", metavar="KIND")],
    value: Annotated[str, typer.Argument(help="issuer:subject, the run, or the connection.", metavar="[NAME]")] = "",
    token: TokenOption = "",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let a locked principal, run or connection in again, as an operator. `hopgate unlock list` shows what is locked."""
    if kind == "list":
        asyncio.run(_list_locks(config, as_json))
        return
    if kind not in _KINDS or bool(value) == (kind == "all"):
        raise Misuse("what to unlock? subject ISSUER:SUBJECT, run RUN, connection NAME, all; or list")
    proof = given_token(token)

    async def work() -> None:
        from hopgate.ledger import append_once

        loaded = load(config)
        async with opened(loaded) as store:
            who = await operator(loaded, store, proof)
            wanted: Any = kind
            if not await store.unlock(wanted, value):
                raise Denied(f"{kind} {visible(value)} is not locked")
        append_once(loaded.state, "unlocked", kind=kind, value=value, by=str(who))
        say(f"{kind} {visible(value)}: unlocked")

    asyncio.run(work())


async def _list_locks(config: Path, as_json: bool) -> None:
    async with opened(load(config)) as store:
        locks = await store.list_locks()
    if as_json:
        emit(list(locks))
    else:
        table(
            ("KIND", "NAME", "SINCE", "BY", "WHY"),
            [(each.kind, each.value, moment(each.at), each.by, each.reason) for each in locks],
            "no locks",
        )


def _found(found: SessionRow | None, wanted: str) -> SessionRow:
    if found is None:
        raise Denied(f"there is no session {visible(wanted)}")
    return found


def _ended(row: SessionRow) -> str:
    return "open" if row.ended_at is None else f"{moment(row.ended_at)} {row.reason}".strip()


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {"list": list_sessions, "show": show, "kill": kill, "export": export}
