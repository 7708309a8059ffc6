"""`hopgate doctor`: is this gateway set up as a gateway must be? With --agent: can this place reach anything but the gateway?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, load
from hopgate.cli.output import emit, say, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hopgate.doctor import Finding

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor(
    agent: Annotated[bool, typer.Option("--agent", help="Probe from here, which is where the agent runs; needs no configuration.")] = False,
    agent_user: Annotated[str, typer.Option("--agent-user", help="The user that agents run as on this machine.", metavar="USER")] = "",
    target: Annotated[list[str] | None, typer.Option("--target", help="What it must not reach.", metavar="HOST:PORT")] = None,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> int:
    """Check users, permissions, keys, disk, clock and listeners; or, with --agent, the wall around an agent."""
    from hopgate.doctor import examine, probe_wall

    loaded = load(config) if config.exists() or not agent else None
    if agent:
        findings = probe_wall(loaded, tuple(target or ()))
    else:
        assert loaded is not None
        findings = examine(loaded, agent_user)
    return _report(findings, as_json)


def _report(findings: Sequence[Finding], as_json: bool) -> int:
    if as_json:
        emit(list(findings))
    else:
        for each in findings:
            say(visible(f"{_MARKS[each.status]}  {each.what}: {each.message}"))
    return 1 if any(each.status == "fail" for each in findings) else 0
