"""`hopgate secrets`. A value comes from stdin or a prompt: arguments are in the shell's history and in every user's process list."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, check_owner, load, opened
from hopgate.cli.output import emit, moment, say, table, visible

NameArgument = Annotated[str, typer.Argument(help="As in ${secret:NAME}.", metavar="NAME")]


def set_secret(name: NameArgument, config: ConfigOption = CONFIG) -> None:
    """Store a secret, or a new version of it. The value is read from stdin, or asked for."""
    value = _value(name)

    async def work() -> None:
        from hopgate.credentials import SecretStore
        from hopgate.ledger import append_once

        loaded = load(config)
        async with opened(loaded) as store:
            version = await SecretStore(store, loaded.state).set(name, value, by=getpass.getuser())
        append_once(loaded.state, "secret_set", name=name, version=version, by=getpass.getuser())
        say(f"{visible(name)}: version {version} stored")

    asyncio.run(work())


def list_secrets(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Names, versions and ages; never values."""

    async def work() -> None:
        loaded = load(config)
        async with opened(loaded) as store:
            rows = await store.list_sealed()
        if as_json:
            emit([{"name": each.name, "version": each.version, "by": each.by, "at": each.at} for each in rows])
        else:
            table(("NAME", "VERSION", "SET", "BY"), [(each.name, each.version, moment(each.at), each.by) for each in rows], "no secrets")

    asyncio.run(work())


def rotate(config: ConfigOption = CONFIG) -> None:
    """Wrap every secret in a new key. The old key is of no use afterwards; the gateway must be restarted."""

    async def work() -> None:
        from hopgate.credentials import SecretStore
        from hopgate.ledger import append_once

        loaded = load(config)
        async with opened(loaded) as store:
            count = await SecretStore(store, loaded.state).rotate_key()
        append_once(loaded.state, "secrets_rotated", count=count, by=getpass.getuser())
        say(f"{count} secrets wrapped in a new key")

    check_owner(load(config).state)
    asyncio.run(work())


def delete(name: NameArgument, config: ConfigOption = CONFIG) -> int:
    """Forget a secret. Connections that refer to it are refused from then on."""

    async def work() -> int:
        from hopgate.ledger import append_once

        loaded = load(config)
        async with opened(loaded) as store:
            gone = await store.delete_sealed(name)
        if not gone:
            raise Misuse(f"there is no secret named {name}")
        append_once(loaded.state, "secret_deleted", name=name, by=getpass.getuser())
        say(f"{visible(name)}: deleted")
        return 0

    return asyncio.run(work())


def _value(name: str) -> str:
    if sys.stdin.isatty():
        value = getpass.getpass(f"value of {visible(name)}: ")
        if value != getpass.getpass("again: "):
            raise Misuse("the two values differ: nothing was stored")
    else:
        value = sys.stdin.read()
        # `echo value | …` ends in a line feed that is not meant; a key in PEM form has several and keeps its last one
        value = value.removesuffix("\n").removesuffix("\r") if value.count("\n") == 1 else value
    if not value:
        raise Misuse(f"no value for {name} on stdin")
    return value


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {"set": set_secret, "list": list_secrets, "rotate": rotate, "delete": delete}
