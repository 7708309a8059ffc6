"""`hopgate console`: signing in where there is no identity provider."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, load, opened
from hopgate.cli.output import emit, note, say
from hopgate.errors import Misconfigured


def login(
    subject: Annotated[str, typer.Option("--subject", help="Whom the link signs in.", metavar="S")],
    group: Annotated[list[str] | None, typer.Option("--group", help="A group; give it again for more.", metavar="G")] = None,
    ttl: Annotated[str, typer.Option("--ttl", help="How long the link is good for, at most 1h.", metavar="TIME")] = "5m",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Print a link that signs one person in to the console, once, as a subject of the local issuer."""
    from hopgate.config.values import parse_duration
    from hopgate.console.place import place_of
    from hopgate.console.roles import roles_of
    from hopgate.console.signin import SignIns
    from hopgate.ledger import append_once
    from hopgate.rulefiles import load_rule_set
    from rules.model import Principal

    loaded = load(config)
    issuer = loaded.identity.local
    if issuer is None:
        raise Misconfigured(f"{loaded.path}: identity.issuers: no issuer is local: add {{name: local, local: true}}, or sign in by OIDC")
    if not subject.strip() or not subject.isprintable() or len(subject) > 255:
        raise Misuse("--subject must be printable text of at most 255 characters")
    try:
        seconds = parse_duration(ttl)
    except ValueError as error:
        raise Misuse(f"--ttl {error}") from None
    if seconds > 3600:
        raise Misuse("--ttl is at most 1h: whoever has the link is that person")
    place = place_of(loaded)
    who = Principal(issuer.name, subject, frozenset(group or ()))

    async def work() -> str:
        async with opened(loaded) as store:
            return await SignIns(store).make_link(who, seconds)

    token = asyncio.run(work())
    append_once(loaded.state, "signin_link_made", subject=str(who), groups=sorted(who.groups), seconds=seconds)
    url = f"{place.url}/login/link?token={token}"
    if as_json:
        emit({"url": url, "subject": str(who), "groups": sorted(who.groups), "seconds": seconds})
        return
    say(url)
    note(f"signs in {who} once, within {seconds:.0f} s; whoever has it first is that person")
    with contextlib.suppress(Misconfigured):  # broken rule files are for `check` to tell
        if not roles_of(who.groups, loaded, load_rule_set(loaded)):
            note("but no group of his has a role there: --group takes what operators, approvals.reviewers or console.viewers name")


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {"login": login}
