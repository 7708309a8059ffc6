"""What hopgate.yaml says about SSH must be together: registered keys, and what a target of kind ssh needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hopgate.config.connections import ConnectionConfig
from hopgate.config.model import IssuerConfig, SshKeyConfig
from hopgate.config.yaml import Location
from hopgate.ssh_host_keys import parse_host_key, parse_public_key

type Finding = tuple[Location, str]


def ssh_key_findings(
    keys: Sequence[tuple[int, SshKeyConfig]], issuers: Sequence[IssuerConfig], connections: Sequence[ConnectionConfig]
) -> Iterator[Finding]:
    """What is wrong with the registered keys."""
    seen: dict[bytes, int] = {}
    names = {issuer.name for issuer in issuers}
    targets = {connection.name for connection in connections if connection.kind == "ssh"}
    for index, each in keys:
        where: Location = ("identity", "ssh_keys", index)
        try:
            blob = parse_public_key(each.key).blob
        except ValueError as error:
            yield (*where, "key"), f"{error}: must be a line as in id_ed25519.pub"
        else:
            if seen.setdefault(blob, index) != index:
                yield (*where, "key"), f"is already registered by ssh_keys[{seen[blob]}]: one key is one caller"
        if each.issuer and each.issuer not in names:
            yield (*where, "issuer"), f"is none of the issuers {', '.join(sorted(names))}"
        elif not each.issuer and not any(issuer.local for issuer in issuers):
            yield (*where, "issuer"), "is required where no issuer is local: in whose name the key speaks"
        for position, name in enumerate(each.connections):
            if name not in targets:
                yield (*where, "connections", position), f"`{name}` is no connection of kind ssh"


def ssh_target_findings(connection: ConnectionConfig) -> Iterator[Finding]:
    """What is wrong with a connection of kind ssh; locations are relative to it."""
    if not connection.host_key:
        yield ("host_key",), "is required for kind ssh: the target's public key, as ssh-keyscan prints it"
    for index, line in enumerate(connection.host_key):
        try:
            parse_host_key(line)
        except ValueError as error:
            yield ("host_key", index), str(error)
    credential = connection.credential
    if credential is None or credential.username is None or (credential.password is None and credential.private_key is None):
        yield ("credential",), "is required for kind ssh: a username, and a private_key or password"
