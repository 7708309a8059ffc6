"""What the values of hopgate.yaml must be together: names are unique, targets are reachable, nothing listens in the clear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from hopgate.addresses import PRIVATE_NETWORKS, refused_target
from hopgate.config.connections import ConnectionConfig, parse_authority, parse_target
from hopgate.config.model import ConsoleConfig, HttpListener, IssuerConfig, ListenConfig, TLSConfig
from hopgate.config.ssh import ssh_target_findings
from hopgate.config.yaml import Location
from rules.patterns import BadPattern, compile_text

type Finding = tuple[Location, str]

# Anybody can get a token from these, with any audience: without `require` the whole world is let in.
PUBLIC_ISSUERS: Final = (
    "accounts.google.com",
    "token.actions.githubusercontent.com",
    "gitlab.com",
    "app.terraform.io",
    "agent.buildkite.com",
    "oidc.vercel.com",
    "oauth2.sigstore.dev",
    "appleid.apple.com",
    "login.microsoftonline.com/common",
    "login.microsoftonline.com/organizations",
    "login.microsoftonline.com/consumers",
    "login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad",  # the tenant of all personal accounts
)
_NOBODY: Final = "\ufdd0 the claim of nobody"  # what only a pattern for everything matches
_NOT_NARROWING: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})  # the caller or the provider's whole public chooses these
_ONLY_FOR: Final = {
    "hosts": ("http",),
    "host_header": ("http",),
    "database": ("postgres", "mysql"),
    "host_key": ("ssh",),
    "shell": ("ssh",),
    "tls": ("postgres", "mysql", "rdp"),
    "ca": ("http", "postgres", "mysql", "rdp"),
}
_CREDENTIAL_KEYS: Final = {
    "http": ("headers", "query", "username", "password"),
    "ssh": ("username", "password", "private_key"),
}
_MANAGED_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "proxy-authorization"}
)


def issuer_findings(issuer: IssuerConfig) -> Iterator[Finding]:
    """What is wrong with one issuer; locations are relative to it."""
    if issuer.local:
        yield from _pattern_findings(issuer)
        for key in ("issuer", "jwks", "algorithms"):
            if key in issuer.model_fields_set:
                yield (key,), "does not go with local: true, whose tokens this gateway signs"
        return
    if not issuer.issuer:
        yield ("issuer",), "is required: the provider's URL (or local: true for tokens of our own)"
    elif problem := _url_problem(issuer.issuer):
        yield ("issuer",), problem
    if not issuer.audience:
        yield ("audience",), "is required: what the provider writes into aud for this gateway"
    if not issuer.algorithms:
        yield ("algorithms",), "must name at least one algorithm"
    if issuer.jwks and not issuer.jwks.startswith("file:") and (problem := _url_problem(issuer.jwks)):
        yield ("jwks",), problem + ", or file:PATH"
    broken = list(_pattern_findings(issuer))
    yield from broken
    if not broken and public_issuer(issuer.issuer) and not _narrowed(issuer):
        yield (
            ("require",),
            "is required: anybody can get a token from this public issuer; name a claim, as in require: {repository_owner: acme}",
        )


def public_issuer(url: str) -> bool:
    """Whether everybody on the internet can get a token from this issuer."""
    bare = url.partition("://")[2].lower().rstrip("/")
    return any(bare == known or bare.startswith(known + "/") for known in PUBLIC_ISSUERS)


def _narrowed(issuer: IssuerConfig) -> bool:
    """Whether some required claim keeps anybody out: `*` does not."""
    return any(
        claim not in _NOT_NARROWING and not any(isinstance(value, str) and compile_text(value)(_NOBODY) for value in values)
        for claim, values in issuer.require.items()
    )


def _pattern_findings(issuer: IssuerConfig) -> Iterator[Finding]:
    patterns: list[Finding] = [(("groups", i), pattern) for i, pattern in enumerate(issuer.groups)]
    for claim, values in issuer.require.items():
        patterns += [(("require", claim), value) for value in values if isinstance(value, str)]
    for where, pattern in patterns:
        try:
            compile_text(pattern)
        except BadPattern as error:
            yield where, str(error)


def _url_problem(text: str) -> str:
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        _ = url.port
    except ValueError:
        return "must be an https:// URL"
    if url.scheme == "http" and (host in ("localhost", "::1") or host.startswith("127.")):
        return ""  # a provider of a playground or a test
    if url.scheme != "https" or not host or "@" in url.netloc or url.fragment:
        return "must be an https:// URL"
    return f"{reason}" if (reason := refused_target(host)) else ""


def connection_findings(connection: ConnectionConfig) -> Iterator[Finding]:
    """What is wrong with one connection; locations are relative to it."""
    try:
        _, address = parse_target(connection.kind, connection.target)
    except ValueError as error:
        yield ("target",), str(error)
    else:
        if reason := refused_target(address.host):
            yield ("target",), f"{reason}; no connection may lead there"
    for index, host in enumerate(connection.hosts):
        try:
            parse_authority(host)
        except ValueError as error:
            yield ("hosts", index), str(error)
    for key, kinds in _ONLY_FOR.items():
        if key in connection.model_fields_set and connection.kind not in kinds:
            yield (key,), f"does not go with kind {connection.kind}, only with {', '.join(kinds)}"
    if connection.kind == "ssh":
        yield from ssh_target_findings(connection)
    if connection.credential is not None:
        yield from _credential_findings(connection)


def _credential_findings(connection: ConnectionConfig) -> Iterator[Finding]:
    credential = connection.credential
    assert credential is not None
    permitted = _CREDENTIAL_KEYS.get(connection.kind, ("username", "password"))
    for key in sorted(credential.model_fields_set):
        if key not in permitted:
            yield ("credential", key), f"does not go with kind {connection.kind}, only {', '.join(permitted)}"
    for name in credential.headers:
        if name.lower() in _MANAGED_HEADERS:
            yield ("credential", "headers", name), "is a header that the gateway itself writes"
        elif not all(character.isalnum() or character in "!#$%&'*+-.^_`|~" for character in name) or not name.isascii():
            yield ("credential", "headers", name), "is not a header name"
    if connection.kind == "http" and (credential.password is None) != (credential.username is None):
        yield ("credential",), "needs both username and password for Basic authentication"


def together_findings(
    issuers: Sequence[tuple[int, IssuerConfig]],
    connections: Sequence[tuple[int, ConnectionConfig]],
    listen: ListenConfig | None,
    tls: TLSConfig | None,
) -> Iterator[Finding]:
    """What is wrong between sections. Items come with the index they have in the file: broken ones are left out before."""
    where: Location = ("identity", "issuers")
    yield from _twice(((where, i, "name"), issuer.name) for i, issuer in issuers)
    yield from _twice(((where, i, "local" if issuer.local else "issuer"), issuer.issuer_url) for i, issuer in issuers if issuer.issuer_url)
    yield from _twice(((("connections",), i, "name"), connection.name) for i, connection in connections)
    yield from _twice(
        ((("connections",), i, "hosts" if connection.hosts else "target"), f"{host}:{port}")
        for i, connection in connections
        if not any(connection_findings(connection))
        for host, port in connection.authorities
    )
    if listen is not None:
        yield from _listener_findings(listen, tls)


def owner_findings(owners: Mapping[str, str], issuers: Sequence[str]) -> Iterator[Finding]:
    """Entries of `approvals.owners` that can never apply: an owner who is overlooked may approve for the agent that he owns."""
    for agents, owner in owners.items():
        for name, part in (("key", agents), ("value", owner)):
            issuer, separator, subject = part.partition(":")
            if not separator or not subject or (issuer not in issuers and "*" not in issuer):
                yield ("approvals", "owners", agents), f"its {name} must be issuer:subject, with one of the issuers {', '.join(issuers)}"
        if "*" in owner:
            yield ("approvals", "owners", agents), "its value must name one person, without *"


def console_findings(console: ConsoleConfig, issuers: Sequence[IssuerConfig]) -> Iterator[Finding]:
    """What is wrong with `console:`. Its `url` is what cookies and redirects go by."""
    if console.url:
        parts = urlsplit(console.url)
        if _url_problem(console.url) or parts.path not in ("", "/") or parts.query:
            yield ("console", "url"), "must be https://host[:port] without a path (http:// only on loopback)"
    if console.saml is not None and console.saml.name in {each.name for each in issuers}:
        yield ("console", "saml", "name"), f"`{console.saml.name}` is the name of an issuer already: people of both would be one"
    if console.oidc is None:
        return
    issuer = next((each for each in issuers if each.name == console.oidc.issuer), None)
    if issuer is None or issuer.local:
        known = ", ".join(each.name for each in issuers if not each.local) or "none"
        yield ("console", "oidc", "issuer"), f"must be the name of an OpenID provider in identity.issuers: {known}"
    if "openid" not in console.oidc.scopes:
        yield ("console", "oidc", "scopes"), "must contain openid, or the provider sends no ID token"


def _twice(entries: Iterable[tuple[tuple[Location, int, str], str]]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for (where, index, key), value in entries:
        if value in first and first[value] != index:
            yield (*where, index, key), f"`{value}` is already used by {where[-1]}[{first[value]}]"
        first.setdefault(value, index)


def _listener_findings(listen: ListenConfig, tls: TLSConfig | None) -> Iterator[Finding]:
    used: dict[str, str] = {}
    for wire in type(listen).model_fields:
        listener = getattr(listen, wire)
        if listener is None:
            continue
        address = listener.address if isinstance(listener, HttpListener) else listener
        cleartext = listener.cleartext if isinstance(listener, HttpListener) else ()
        # SSH brings its own encryption and host key; a certificate would be of no use to it
        if not address.loopback and tls is None and not cleartext and wire != "ssh":
            hint = " (or http: {address: …, cleartext: [10.0.0.0/8]} for a private network)" if wire == "http" else ""
            yield ("listen", wire), f"{address} is not on loopback: tls: with cert and key is required{hint}"
        for index, network in enumerate(cleartext):
            if not any(network.version == private.version and network.subnet_of(private) for private in PRIVATE_NETWORKS):  # type: ignore[arg-type]
                yield ("listen", wire, "cleartext", index), f"{network} is not a private network; callers from there need TLS"
        if address.port and str(address) in used:
            yield ("listen", wire), f"{address} is already used by listen.{used[str(address)]}"
        used.setdefault(str(address), wire)
