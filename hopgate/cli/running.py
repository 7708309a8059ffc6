"""`hopgate up` and `hopgate check`."""

from __future__ import annotations

from typing import Annotated

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, load
from hopgate.cli.output import emit, note, say, visible


def up(
    config: ConfigOption = CONFIG,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Proxy processes on the one port.")] = 1,
) -> int:
    """Run the gateway in the foreground until SIGTERM or SIGINT."""
    from hopgate.supervise import supervise

    return supervise(load(config), workers=workers, say=lambda line: note(f"hopgate: {line}"))


def check(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> int:
    """Report every mistake in the configuration and the rule files, in one run."""
    from hopgate.errors import Misconfigured

    try:
        loaded = load(config)
        loaded.check()
    except Misconfigured as error:
        if not as_json:
            raise
        emit({"ok": False, "problems": list(error.problems)})
        return 1
    from hopgate.rulefiles import load_rule_set

    rules = load_rule_set(loaded)
    summary = {"ok": True, "connections": len(loaded.connections), "rules": len(rules.rules), "version": rules.version}
    if as_json:
        emit(summary)
    else:
        counts = ", ".join(
            f"{n} {name}{'s' * (n != 1)}" for name, n in (("connection", len(loaded.connections)), ("rule", len(rules.rules)))
        )
        say(visible(f"{config}: ok: {counts}, version {rules.version}"))
    return 0
