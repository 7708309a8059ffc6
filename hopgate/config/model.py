"""What hopgate.yaml says, as frozen data: issuers, listeners, approvals, recordings and the whole."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hopgate.addresses import contains
from hopgate.config.connections import Authorities, ConnectionConfig
from hopgate.config.values import AcceptedValues, Bytes, FilePath, ListenAddress, Name, Network, Seconds, SecretText, Text, Texts, TimeZone

DEFAULT_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LOCAL_ISSUER: Final = "hopgate:local"  # `iss` of the tokens that we sign ourselves
LOCAL_AUDIENCE: Final = "hopgate"

type Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
type Wire = Literal["http", "postgres", "mysql", "ssh", "rdp", "console", "health"]


class Section(BaseModel):
    """A mapping of the file: frozen, and every key in it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, arbitrary_types_allowed=True)


class IssuerConfig(Section):
    """Who may vouch for callers: an OpenID provider (by discovery or by a JWKS of its own), or this gateway (`local: true`)."""

    name: Name  # what rules call it
    issuer: Text = ""  # its URL, compared with `iss` character by character
    audience: Texts = ()  # one of them must be in `aud`
    jwks: Text = ""  # a URL, or file:PATH; empty = what discovery names
    algorithms: tuple[Algorithm, ...] = DEFAULT_ALGORITHMS
    groups_claim: Text = "groups"  # dotted path: realm_access.roles
    groups: Texts = ()  # globs: other groups of the token are not taken over
    require: Mapping[Text, AcceptedValues] = Field(default_factory=dict)  # dotted claim -> accepted values, strings as globs
    local: bool = False

    @property
    def issuer_url(self) -> str:
        """The `iss` of this issuer's tokens."""
        return LOCAL_ISSUER if self.local else self.issuer

    @property
    def audiences(self) -> tuple[str, ...]:
        return self.audience or ((LOCAL_AUDIENCE,) if self.local else ())


class SshKeyConfig(Section):
    """A public key that proves who its holder is, on SSH only: for callers that cannot get tokens or certificates."""

    key: Text  # ssh-ed25519 AAAA… [comment]
    subject: Text
    groups: Texts = ()
    issuer: Text = ""  # in whose name; empty = the local one
    connections: Texts = ()  # where alone it is good; empty = wherever rules allow
    peer: Network | None = None  # from where alone it is good


class IdentityConfig(Section):
    """Whose tokens and keys are accepted; nobody's, unless named."""

    issuers: Annotated[tuple[IssuerConfig, ...], Field(min_length=1)]
    ssh_keys: tuple[SshKeyConfig, ...] = ()

    def issuer(self, name: str) -> IssuerConfig | None:
        return next((issuer for issuer in self.issuers if issuer.name == name), None)

    @property
    def local(self) -> IssuerConfig | None:
        return next((issuer for issuer in self.issuers if issuer.local), None)


class HttpListener(Section):
    """The forward proxy. `cleartext` names the private client networks that may speak to it without TLS."""

    address: ListenAddress
    cleartext: tuple[Network, ...] = ()

    def is_cleartext(self, peer: str) -> bool:
        """Whether `peer` (an IP address) comes over the network without TLS: its token must then be bound to it and short."""
        return not self.address.loopback and contains(self.cleartext, peer)


class ListenConfig(Section):
    """Addresses to listen on. What is not named is not opened; port 0 takes a free one."""

    http: Annotated[HttpListener | None, BeforeValidator(lambda value: {"address": value} if isinstance(value, str) else value)] = None
    postgres: ListenAddress | None = None
    mysql: ListenAddress | None = None
    ssh: ListenAddress | None = None
    rdp: ListenAddress | None = None
    console: ListenAddress | None = None
    health: ListenAddress | None = None


class TLSConfig(Section):
    """Certificate chain and private key (PEM) of our own listeners."""

    cert: FilePath
    key: FilePath


class LedgerConfig(Section):
    """Where signed heads go, off this machine: `syslog:…`, a webhook's URL or `command:…`."""

    anchor: SecretText | None = None
    anchor_every: Seconds = 60.0


class WebhookConfig(Section):
    """Where approvals are told by a POST that is signed as Standard Webhooks says."""

    url: SecretText
    secret: SecretText  # whsec_ and base64


class ApprovalsConfig(Section):
    """Defaults of holds, and who may not approve for whom."""

    reviewers: Texts = ()  # groups, for hold rules that name none
    timeout: Seconds = 600.0  # a hold that nobody decided is denied after this
    http_wait: Seconds = 50.0  # how long an HTTP request waits before it is answered "pending"
    notify: tuple[SecretText, ...] = ()  # apprise URLs
    webhooks: tuple[WebhookConfig, ...] = ()
    owners: Mapping[Text, Text] = Field(default_factory=dict)  # "issuer:subject-glob" -> "issuer:subject" that may not approve for it


class RecordingsConfig(Section):
    """How much of results is kept, and for how long."""

    results: Literal["head", "full", "none"] = "head"
    head_bytes: Bytes = 65536
    retention: Seconds | None = None  # None = kept


class OidcConfig(Section):
    """How people sign in to the console: OpenID Connect, authorization code with PKCE, at one of `identity.issuers`."""

    issuer: Name  # of identity.issuers: its URL, algorithms, groups_claim and `require` hold here too
    client_id: Text  # also the audience that an ID token must have
    client_secret: SecretText | None = None  # None for a public client, which PKCE alone protects
    scopes: Texts = ("openid", "profile", "email")
    subject_claim: Text = "sub"  # what names a person; must be what agents' tokens, `owners` and locks call him


class SamlConfig(Section):
    """How people sign in to the console by SAML 2.0, with the extra `saml`."""

    name: Name  # of the provider: people are called name:subject, as in `owners` and locks
    metadata: FilePath  # what the provider publishes about itself: its URL and certificates
    entity_id: Text = ""  # what it calls this console; "" = the console's URL with /login/saml/metadata
    subject: Text = ""  # the attribute that names a person; "" = the NameID
    groups: Text = "groups"  # the attribute with a person's groups


class ConsoleConfig(Section):
    """The page and API for people. Reviewers are those whom approvals and rules name, operators those of `operators`."""

    url: Text = ""  # what browsers call it, where a proxy stands before it: https://hopgate.corp.example
    viewers: Texts = ()  # groups that may look and do nothing else
    session: Seconds = 8 * 3600.0  # how long somebody stays signed in
    oidc: OidcConfig | None = None  # without either `hopgate console login` prints single-use links
    saml: SamlConfig | None = None


class Config(Section):
    """hopgate.yaml, checked. `path` is the file it came from; relative paths in it start there."""

    version: Literal[1]
    state: FilePath = Field(default=Path("var"), validate_default=False)
    store: SecretText | None = None  # postgresql+asyncpg://… shared by several gateways; None = SQLite in the state directory
    gateway: Name | None = None  # what this gateway's processes are called in a shared store; None = the host's name
    rules: tuple[FilePath, ...] = ()
    timezone: TimeZone = "UTC"
    identity: IdentityConfig
    connections: tuple[ConnectionConfig, ...] = ()
    listen: ListenConfig = ListenConfig()
    tls: TLSConfig | None = None
    ledger: LedgerConfig = LedgerConfig()
    operators: Texts = ()  # groups that may kill sessions and unlock
    approvals: ApprovalsConfig = ApprovalsConfig()
    recordings: RecordingsConfig = RecordingsConfig()
    console: ConsoleConfig = ConsoleConfig()
    path: Path = Field(default=Path("hopgate.yaml"), exclude=True)

    @property
    def directory(self) -> Path:
        """Where relative paths start, and where issuers' `file:` JWKS are."""
        return self.path.parent

    @cached_property
    def _by_name(self) -> Mapping[str, ConnectionConfig]:
        return {connection.name: connection for connection in self.connections}

    @cached_property
    def _authorities(self) -> Authorities:
        return Authorities(self.connections)

    def process_name(self, process: str) -> str:
        """What a process of this gateway is called in ledger and store: gateways that share a store tell theirs apart."""
        return process if self.store is None else f"{self.gateway or _host()}.{process}"

    def connection(self, name: str) -> ConnectionConfig | None:
        return self._by_name.get(name)

    def connection_for(self, host: str, port: int) -> ConnectionConfig | None:
        """The http connection that owns an authority: the exact one, else the longest `*.suffix`; None = refused."""
        return self._authorities.find(host.lower().strip("[]").removesuffix("."), port)

    def check(self, *, rules: bool = True) -> None:
        """What loading alone does not look at: rule files, and the files and variables that are referred to.

        Raises Misconfigured with every problem. Nothing is fetched, and no secret is read.
        """
        from hopgate.config.check import check  # it loads rules, which nothing else here needs

        check(self, rules=rules)

    def __repr_args__(self) -> Any:
        return [("path", str(self.path))]


def _host() -> str:
    """The host's name without its domain, as far as a process may be called so."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])[:40].lstrip("-_") or "gateway"
