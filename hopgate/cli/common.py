"""What most commands begin with: the configuration, the store, and who is asking."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hopgate.errors import Denied, HopgateError, Misconfigured

if TYPE_CHECKING:
    from hopgate.config import Config
    from hopgate.identity import Identity
    from hopgate.store import Store
    from rules.model import Principal

TOKEN_VARIABLE = "HOPGATE_TOKEN"  # noqa: S105

ConfigOption = Annotated[Path, typer.Option("--config", help="The configuration file.", metavar="FILE")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TokenOption = Annotated[
    str,
    typer.Option("--token", help=f"Your token; - reads it from stdin. Better: {TOKEN_VARIABLE} in the environment.", metavar="TOKEN"),
]
CONFIG = Path("hopgate.yaml")


class Misuse(HopgateError):
    """The command was called in a way that cannot be meant: exit status 2."""


def load(path: Path) -> Config:
    """The configuration, errors and all. Raises Misconfigured."""
    from hopgate.config import load_config

    return load_config(path)


def read_line(what: str) -> str:
    """One line from stdin, without its end; asked for without echo on a terminal. Raises Misuse when there is none."""
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass(f"{what}: ")
    else:
        text = sys.stdin.read().strip("\r\n")
    if not text:
        raise Misuse(f"no {what} on stdin")
    return text


def given_token(token: str) -> str:
    """The token that `--token` or the environment gives. Raises Misuse when neither does."""
    if token == "-":  # noqa: S105
        return read_line("token").strip()
    found = token or os.environ.get(TOKEN_VARIABLE, "")
    if not found:
        raise Misuse(f"who are you? Put your token into {TOKEN_VARIABLE}, or give --token - and write it to stdin")
    return found.strip()


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    """The store of the gateway, which must belong to the user who asks: files made by another one would lock the gateway out."""
    from hopgate.shared_store import open_store

    check_owner(config.state)
    store = await open_store(config)
    try:
        yield store
    finally:
        await store.close()


def check_owner(state: Path) -> None:
    """Raises Misconfigured unless `state` is this user's, or not there yet."""
    try:
        owner = state.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise Misconfigured(f"{state}: {(error.strerror or 'cannot be read').lower()}: run this as the gateway's user") from None
    if owner != os.geteuid():
        raise Misconfigured(f"{state}: belongs to uid {owner}, and this is uid {os.geteuid()}: run this as the gateway's user (sudo -u …)")


@contextlib.asynccontextmanager
async def identifying(config: Config, store: Store) -> AsyncIterator[Identity]:
    """Verification of tokens as the gateway does it, revocations and locks included."""
    from hopgate.identity import Identity
    from hopgate.locks import Locks

    locks = Locks(store)
    await locks.start()
    identity = Identity(config, store, locks)
    try:
        await identity.start(follow=False)
        yield identity
    finally:
        await identity.close()
        await locks.close()


async def verified(config: Config, store: Store, token: str) -> Principal:
    """Who `token` speaks for. Raises Unauthenticated, Expired or Unavailable."""
    async with identifying(config, store) as identity:
        return await identity.verify(token, peer="127.0.0.1")


async def operator(config: Config, store: Store, token: str) -> Principal:
    """The principal of `token`, who must be in a group that `operators:` names. Raises Denied."""
    principal = await verified(config, store, token)
    check_group(principal, config.operators, "operators")
    return principal


def check_group(principal: Principal, groups: Collection[str], what: str) -> None:
    if not groups:
        raise Denied(f"the configuration names no {what}: nobody may do this")
    if principal.groups.isdisjoint(groups):
        raise Denied(f"{principal} may not do this: it takes the group {' or '.join(groups)}")
