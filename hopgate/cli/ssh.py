"""`hopgate ssh`: what an SSH client must know of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, check_owner, load
from hopgate.cli.output import emit, say

if TYPE_CHECKING:
    from hopgate.addresses import Address
    from hopgate.config import Config

AddressOption = Annotated[str, typer.Option("--address", help="How clients reach the gateway.", metavar="HOST:PORT")]


def known_hosts(address: AddressOption = "", config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Print the line of known_hosts that clients must have: the gateway's host key, made once."""
    from hopgate.ssh_identity import fingerprint
    from hopgate.ssh_keys import host_key, known_hosts_line, public_blob, public_line

    loaded = load(config)
    check_owner(loaded.state)
    key = host_key(loaded.state)
    where = _address(loaded, address)
    if as_json:
        emit({"address": str(where), "host_key": public_line(key), "fingerprint": fingerprint(public_blob(key))})
    else:
        say(known_hosts_line(key, where))


def client_config(address: AddressOption = "", config: ConfigOption = CONFIG) -> None:
    """Print a block of ssh_config for each connection: `ssh NAME` then goes through the gateway, and asks for the token."""
    loaded = load(config)
    where = _address(loaded, address)
    for connection in loaded.connections:
        if connection.kind == "ssh":
            lines = (f"HostName {where.host}", f"Port {where.port}", f"User {connection.name}", "HostKeyAlgorithms ssh-ed25519")
            say("\n    ".join((f"Host {connection.name}", *lines, "ForwardAgent no")))


def _address(config: Config, given: str) -> Address:
    from hopgate.addresses import Address, parse_address

    if given:
        try:
            return parse_address(given)
        except ValueError as error:
            raise Misuse(f"--address {error}") from None
    listener = config.listen.ssh
    if listener is None:
        raise Misuse(f"{config.path}: listen: has no ssh listener; give --address")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)  # noqa: S104
    return Address(host, listener.port)


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {"known-hosts": known_hosts, "config": client_config}
