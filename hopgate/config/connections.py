"""Connections: named targets with their kind, address, labels and credential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from hopgate.addresses import Address, parse_address, parse_host
from hopgate.config.values import FilePath, Name, SecretText, Text, Texts
from hopgate.errors import Misconfigured
from hopgate.references import Reference, Template
from hopgate.ssh_host_keys import HostKey, parse_host_key
from rules.model import Connection

type ConnectionKind = Literal["http", "postgres", "mysql", "ssh", "rdp"]

SCHEME_PORTS: Final = {"http": 80, "https": 443}
DEFAULT_PORTS: Final = {"postgres": 5432, "mysql": 3306, "ssh": 22, "rdp": 3389}


class CredentialConfig(BaseModel):
    """What the gateway adds for the caller. Values are templates: they name secrets and hold none, unless somebody wrote one here."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    headers: Mapping[Text, SecretText] = Field(default_factory=dict)
    query: Mapping[Text, SecretText] = Field(default_factory=dict)
    username: SecretText | None = None
    password: SecretText | None = None
    private_key: SecretText | None = None

    @property
    def templates(self) -> tuple[tuple[tuple[str, ...], Template], ...]:
        """Every value with its place: `(("headers", "Authorization"), Template)`."""
        single = {"username": self.username, "password": self.password, "private_key": self.private_key}
        return (
            *((("headers", name), template) for name, template in self.headers.items()),
            *((("query", name), template) for name, template in self.query.items()),
            *(((name,), template) for name, template in single.items() if template is not None),
        )

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(dict.fromkeys(reference for _, template in self.templates for reference in template.references))


class ConnectionConfig(BaseModel):
    """One target. `hosts` are the authorities that http callers name it by; every other wire names it by `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Name
    kind: ConnectionKind
    target: Text  # http(s)://host[:port] for http, host[:port] for the others
    hosts: Texts = ()  # "host:port", "host" (80 and 443) or "*.suffix:port"; none = what `target` says
    labels: Mapping[Text, Text] = Field(default_factory=dict)
    credential: CredentialConfig | None = None
    tls: Literal["verify-full", "verify-ca", "require", "disable"] = "verify-full"  # as libpq's sslmode; `require` trusts whoever answers
    ca: FilePath | None = None  # certificates to trust for this target instead of the public ones
    host_header: Literal["auto", "client", "target"] = "auto"
    database: Text = ""
    host_key: Texts = ()  # lines of known_hosts: keys, or with @cert-authority who certifies them
    shell: Text = ""

    @cached_property
    def rule_view(self) -> Connection:
        return Connection(self.name, self.kind, dict(self.labels))

    @cached_property
    def address(self) -> Address:
        """Where the target is dialled."""
        return parse_target(self.kind, self.target)[1]

    @cached_property
    def host_keys(self) -> tuple[HostKey, ...]:
        """What an ssh target is known by."""
        return tuple(map(parse_host_key, self.host_key))

    @cached_property
    def scheme(self) -> str:
        """http or https for http connections, else empty."""
        return parse_target(self.kind, self.target)[0]

    @cached_property
    def authorities(self) -> tuple[tuple[str, int], ...]:
        """(host or `*.suffix`, port) of every authority that belongs to this connection; empty for other kinds than http."""
        if self.kind != "http":
            return ()
        found = [authority for text in self.hosts for authority in parse_authority(text)]
        return tuple(dict.fromkeys(found)) or ((self.address.host, self.address.port),)

    def __repr_args__(self) -> Any:
        return [("name", self.name), ("kind", self.kind)]


class Authorities:
    """Which http connection owns an authority."""

    def __init__(self, connections: Iterable[ConnectionConfig]) -> None:
        """Raises Misconfigured when two connections own the same."""
        self._owners: dict[tuple[str, int], ConnectionConfig] = {}
        for connection in connections:
            for host, port in connection.authorities:
                owner = self._owners.setdefault((host, port), connection)
                if owner is not connection:
                    raise Misconfigured(f"connections: {connection.name} and {owner.name} both have the host {host}:{port}")

    def find(self, host: str, port: int) -> ConnectionConfig | None:
        """The exact one, else the longest `*.suffix`; None = refused. `host` is in lower case, without brackets or a dot at its end."""
        if (found := self._owners.get((host, port))) is not None:
            return found
        while "." in host:
            host = host.partition(".")[2]
            if (found := self._owners.get((f"*.{host}", port))) is not None:
                return found
        return None


def parse_target(kind: str, target: str) -> tuple[str, Address]:
    """Scheme (http only) and address of a connection's `target`. Raises ValueError with a sentence."""
    if kind != "http":
        if "/" in target:
            raise ValueError("must be host:port, without a scheme or path")
        has_port = target.rpartition(":")[2].isdigit() and not target.endswith("]")
        return "", parse_address(target) if has_port else Address(parse_host(target), DEFAULT_PORTS[kind])
    try:
        url = urlsplit(target)
        port = url.port
    except ValueError:
        raise ValueError("must be a URL as in http://10.0.0.5:8080") from None
    if url.scheme not in SCHEME_PORTS or not url.hostname:
        raise ValueError("must be a URL as in http://10.0.0.5:8080")
    if url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("must be a scheme, host and port only: no path, query or user name")
    host = parse_host(f"[{url.hostname}]" if ":" in url.hostname else url.hostname)
    return url.scheme, Address(host, SCHEME_PORTS[url.scheme] if port is None else port)


def parse_authority(text: str) -> tuple[tuple[str, int], ...]:
    """`host:port`, `host` or `*.suffix[:port]` as pairs. Raises ValueError with a sentence."""
    wildcard = text.startswith("*.")
    rest = text.removeprefix("*.")
    if "*" in rest:
        raise ValueError("may have a * only as its first label, as in *.corp.example:443")
    if ":" in rest and not rest.endswith("]"):
        address = parse_address(rest)
        host, ports = address.host, [address.port]
    else:
        host, ports = parse_host(rest), list(SCHEME_PORTS.values())
    if wildcard and ("." not in host or ":" in host or host.replace(".", "").isdigit()):
        raise ValueError("may not match a whole top-level domain or addresses")
    return tuple((f"*.{host}" if wildcard else host, port) for port in ports)
