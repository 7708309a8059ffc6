"""`hopgate token`: issue, exchange, ssh-cert, revoke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from hopgate.cli.common import (
    CONFIG,
    ConfigOption,
    Misuse,
    TokenOption,
    check_owner,
    given_token,
    identifying,
    load,
    opened,
    operator,
    read_line,
    verified,
)
from hopgate.cli.output import say, visible
from hopgate.errors import Denied

_REMEMBERED = 366 * 86400.0  # seconds that a revocation is kept when the token's own end is not known


def issue(
    subject: Annotated[str, typer.Option("--subject", help="Whom the token names.", metavar="S")],
    group: Annotated[list[str] | None, typer.Option("--group", help="A group; give it again for more.", metavar="G")] = None,
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is good for.", metavar="TIME")] = "1h",
    peer: Annotated[str, typer.Option("--peer", help="The network that it may come from.", metavar="CIDR")] = "",
    claim: Annotated[list[str] | None, typer.Option("--claim", help="A further claim, for rules.", metavar="NAME=VALUE")] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Print a token of the local issuer. Whoever can read its key can issue any: that is the gateway's own user."""
    from hopgate.config.values import parse_duration
    from hopgate.ledger import append_once
    from hopgate.tokens import issue_token
    from hopgate.tokens import token_id as digest_of

    loaded = load(config)
    check_owner(loaded.state)
    try:
        seconds = parse_duration(ttl)
    except ValueError as error:
        raise Misuse(f"--ttl {error}") from None
    text = issue_token(loaded, subject, tuple(group or ()), seconds, peer=peer or None, claims=_claims(claim or []))
    append_once(loaded.state, "token_issued", subject=subject, groups=list(group or ()), token=digest_of(text), seconds=seconds, peer=peer)
    say(text)


def exchange(
    token: Annotated[str, typer.Argument(help="- : the token is read from stdin.", metavar="-")] = "-",  # noqa: S107
    config: ConfigOption = CONFIG,
) -> None:
    """Print a short token for a long one (RFC 8693), for clients that cut long passwords. It ends when the long one does."""
    if token != "-":  # noqa: S105
        raise Misuse("write the token to stdin: arguments can be read by every user of this machine")
    long = read_line("token").strip()

    async def work() -> None:
        loaded = load(config)
        async with opened(loaded) as store, identifying(loaded, store) as identity:
            short = (await identity.exchange(long, peer="127.0.0.1")).access_token
        say(short)

    asyncio.run(work())


def ssh_cert(
    public_key: Annotated[Path, typer.Argument(help="The caller's public key: id_ed25519.pub, or - for stdin.", metavar="FILE")],
    subject: Annotated[str, typer.Option("--subject", help="Whom the certificate names.", metavar="S")],
    group: Annotated[list[str] | None, typer.Option("--group", help="A group; give it again for more.", metavar="G")] = None,
    connection: Annotated[list[str] | None, typer.Option("--connection", help="The one where it is good; else all.", metavar="C")] = None,
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is good for, at most 1d.", metavar="TIME")] = "1h",
    peer: Annotated[str, typer.Option("--peer", help="The network that it may come from.", metavar="CIDR")] = "",
    permit: Annotated[list[str] | None, typer.Option("--permit", help="What rules may allow; else pty and port-forwarding.")] = None,
    force_command: Annotated[str, typer.Option("--force-command", help="The one command that may run.", metavar="CMD")] = "",
    claim: Annotated[list[str] | None, typer.Option("--claim", help="A further claim, for rules.", metavar="NAME=VALUE")] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Print an OpenSSH user certificate for a public key: put it beside the private key, as id_ed25519-cert.pub."""
    from hopgate.config.values import parse_duration
    from hopgate.ledger import append_once
    from hopgate.ssh_identity import DEFAULT_PERMITS, issue_certificate

    loaded = load(config)
    check_owner(loaded.state)
    try:
        seconds = parse_duration(ttl)
    except ValueError as error:
        raise Misuse(f"--ttl {error}") from None
    text = read_line("public key") if str(public_key) == "-" else public_key.read_text(errors="replace")
    permits = DEFAULT_PERMITS if permit is None else tuple(each for each in permit if each != "none")
    line, certificate = issue_certificate(
        loaded,
        text.strip(),
        subject,
        tuple(group or ()),
        seconds,
        connections=tuple(connection or ()),
        permits=permits,
        peer=peer or None,
        force_command=force_command,
        claims=_claims(claim or []),
    )
    named = {"key_id": certificate.key_id.decode(), "serial": certificate.serial, "connections": list(connection or ())}
    append_once(loaded.state, "certificate_issued", subject=subject, groups=list(group or ()), **named, seconds=seconds, peer=peer)
    say(line)


def revoke(
    token_id: Annotated[
        str,
        typer.Option(
            "--id",
            help="Its jti or SHA-256 (of a JWT without its signature); a certificate's key id or ssh-serial:N. Takes an operator.",
            metavar="ID",
        ),
    ] = "",
    token: TokenOption = "",
    config: ConfigOption = CONFIG,
) -> None:
    """Refuse a token from now on, and short ones made of it: the one on stdin, or the one that --id names. In force within a second."""
    proof = given_token(token) if token_id else read_line("token to revoke").strip()

    async def work() -> None:
        from hopgate.ledger import append_once
        from hopgate.tokens import revocation_ids

        loaded = load(config)
        named: tuple[str, ...]
        async with opened(loaded) as store:
            if token_id:
                who = await operator(loaded, store, proof)
                named, until = (token_id,), time.time() + _REMEMBERED
            else:
                try:
                    who = await verified(loaded, store, proof)
                except Denied as error:
                    raise Denied(f"nothing to revoke: {error}") from None
                # its `jti` too: that is what open sessions of short tokens made of it are known by
                named, until = revocation_ids(proof), who.expires_at
            for each in named:
                await store.revoke(each, until, str(who))
        append_once(loaded.state, "token_revoked", token=named[0], by=str(who))
        say(f"revoked {visible(named[0])}")

    asyncio.run(work())


def _claims(texts: list[str]) -> dict[str, str]:
    claims = dict(text.partition("=")[::2] for text in texts)
    if "" in claims or any("=" not in text for text in texts):
        raise Misuse("--claim must be NAME=VALUE")
    return claims


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {"issue": issue, "exchange": exchange, "ssh-cert": ssh_cert, "revoke": revoke}
