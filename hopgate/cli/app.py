"""The command tree, and how every command ends: 0, 1 for a failure, 2 for misuse, one line on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from hopgate.cli import (
    approvals,
    ca,
    console,
    deciding,
    doctor,
    environment,
    replaying,
    running,
    secret,
    sessions,
    ssh,
    token,
    verifying,
    watching,
)
from hopgate.cli.common import Misuse
from hopgate.cli.output import note
from hopgate.errors import HopgateError


def build() -> typer.Typer:
    """Every command of `hopgate`."""
    app = _typer("A gate on every hop that an AI agent takes into internal infrastructure.")
    app.callback()(_root)
    commands: tuple[tuple[str, Callable[..., object]], ...] = (
        ("up", running.up),
        ("check", running.check),
        ("explain", deciding.explain),
        ("unlock", sessions.unlock),
        ("verify", verifying.verify),
        ("replay", replaying.replay),
        ("watch", watching.watch),
        ("env", environment.env),
        ("doctor", doctor.doctor),
    )
    for command, function in commands:
        app.command(command)(function)
    groups: tuple[tuple[str, Mapping[str, Callable[..., object]], str], ...] = (
        ("token", token.COMMANDS, "Tokens of the local issuer, short tokens, revocation."),
        ("secrets", secret.COMMANDS, "Credentials that the gateway adds and agents never see."),
        ("approvals", approvals.COMMANDS, "What waits for a reviewer."),
        ("sessions", sessions.COMMANDS, "Who uses what, and how to end it."),
        ("ssh", ssh.COMMANDS, "What SSH clients must know of the gateway."),
        ("console", console.COMMANDS, "The page for people."),
        ("ca", ca.COMMANDS, "The authority that signs what agents see of HTTPS targets."),
    )
    for name, members, about in groups:
        group = _typer(about)
        for command, function in members.items():
            group.command(command)(function)
        app.add_typer(group, name=name)
    return app


def _typer(about: str) -> typer.Typer:
    return typer.Typer(help=about, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hopgate {version('hopgate')}")
        raise typer.Exit


def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit status of `hopgate` with these arguments (without the program's name)."""
    try:
        status = build()(list(arguments) if arguments is not None else None, prog_name="hopgate", standalone_mode=False)
    except Misuse as error:
        note(f"hopgate: {error}")
        return 2
    except HopgateError as error:
        _tell(error)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # the reader has enough; Python would complain again when it flushes stdout at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        note(f"hopgate: {error.filename or 'the system'}: {(error.strerror or type(error).__name__).lower()}")
        return 1
    except Exception as error:
        # typer brings its own copy of click in some versions and uses the real one in others; both have this method
        if (told := getattr(error, "format_message", None)) is None:
            raise
        message = str(told())
        if message:
            note(f"hopgate: {message[:1].lower()}{message[1:].rstrip('.')}; see --help")
        return 2
    return status if isinstance(status, int) else 0


def _tell(error: HopgateError) -> None:
    for line in str(error).splitlines() or [type(error).__name__]:
        note(f"hopgate: {line}")
