"""`hopgate verify`: is what was recorded still what was recorded?"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, load
from hopgate.cli.output import emit, note, say, visible

if TYPE_CHECKING:
    from hopgate.config import Config
    from hopgate.ledger_format import Head

_PLAIN = frozenset({"whole", "open", "expired"})  # findings that are no finding


def verify(
    session: Annotated[list[str] | None, typer.Argument(help="Only these; ledgers always.", metavar="[SESSION]...")] = None,
    state: Annotated[Path | None, typer.Option("--state", help="A state directory, or a copy of one.", metavar="DIR")] = None,
    public_key: Annotated[Path | None, typer.Option("--public-key", help="The gateway's, kept elsewhere.", metavar="FILE")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> int:
    """Prove recordings and ledgers whole, or name what happened to them. Exit 0 only when all of it is whole."""
    from hopgate.ledger_keys import public_key as read_key
    from hopgate.verify import verify_state

    loaded = load(config) if state is None else None
    directory = state if loaded is None else loaded.state
    assert directory is not None
    if not directory.is_dir():
        raise Misuse(f"{directory}: is not a directory")
    key = read_key(public_key) if public_key is not None else None
    report = verify_state(directory, key, session or None, heads=_heads(directory, loaded))
    if as_json:
        findings = [dataclasses.asdict(each) for each in report.findings]
        emit({"verdict": report.verdict, "sentence": report.sentence, "findings": findings, "anchored": dict(report.anchored)})
    else:
        for each in report.findings:
            if each.kind not in _PLAIN:
                say(visible(each))
        say(visible(report.sentence))
    return 0 if report.verdict == "whole" else 1


def _heads(directory: Path, config: Config | None) -> tuple[Head, ...]:
    """What the store has seen of the ledgers: it tells an end that was cut away from an interruption. Without it ledgers speak alone."""
    shared = config is not None and config.store is not None
    from hopgate.errors import HopgateError
    from hopgate.ledger_format import Head
    from hopgate.shared_store import open_store
    from hopgate.store import Store

    async def work() -> tuple[Head, ...]:
        store = await (open_store(config) if config is not None else Store.open(directory))
        try:
            rows = await store.list_heads()
        finally:
            await store.close()
        # the store keeps no signatures: its heads can accuse, and cannot vouch
        # other gateways' ledgers are on other machines
        ours = [row for row in rows if not shared or config is None or row.process.startswith(config.process_name(""))]
        return tuple(Head(row.process, row.n, int(row.at * 1e9), row.final, row.head, "") for row in ours)

    if not shared and not (directory / "state.db").exists():
        return ()
    try:
        return asyncio.run(work())
    except HopgateError as error:
        note(f"the store is not used: {error}")
        return ()
