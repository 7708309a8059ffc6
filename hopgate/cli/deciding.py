"""`hopgate explain`: what would be decided, and by which rules. Offline: no gateway, no secrets, nothing written."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, load
from hopgate.cli.output import emit, say, visible
from hopgate.cli.ssh_actions import ssh_operation
from hopgate.cli.statements import sql_operation

if TYPE_CHECKING:
    from hopgate.config import Config, ConnectionConfig
    from rules.load import RuleSet
    from rules.model import Connection, Decision, Operation, Principal


def explain(
    connection: Annotated[str, typer.Option("--connection", help="The connection's name.", metavar="C")],
    subject: Annotated[str, typer.Option("--as", help="Who asks: SUBJECT, or ISSUER:SUBJECT.", metavar="SUBJECT")],
    group: Annotated[list[str] | None, typer.Option("--group", help="A group of his; give it again for more.", metavar="G")] = None,
    claim: Annotated[list[str] | None, typer.Option("--claim", help="A claim of his token.", metavar="NAME=VALUE")] = None,
    http: Annotated[str, typer.Option("--http", help='A request: "POST /v1/refunds", or with a whole URL.', metavar="REQUEST")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", help="A header of the request.", metavar="NAME: VALUE")] = None,
    body: Annotated[str | None, typer.Option("--body", help="The request's body; - reads it from stdin.", metavar="TEXT")] = None,
    sql: Annotated[str, typer.Option("--sql", help="A SQL text; - reads it from stdin.", metavar="SQL")] = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", help="The value of $1, then of $2 …, as text without a type.", metavar="VALUE")
    ] = None,
    ssh: Annotated[str, typer.Option("--ssh", help="A command line; - reads it from stdin.", metavar="COMMAND")] = "",
    ssh_action: Annotated[
        str, typer.Option("--ssh-action", help='Anything else of SSH: "sftp write /srv/x", "forward db:5432", "shell".', metavar="ACTION")
    ] = "",
    at: Annotated[str, typer.Option("--at", help="When, in the configured time zone; now when left out.", metavar="YYYY-MM-DDTHH:MM")] = "",
    peer: Annotated[str, typer.Option("--peer", help="From which address.", metavar="IP")] = "127.0.0.1",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Decide whether the session may start, then the operation, as the gateway would. Without an operation: the session alone."""
    loaded = load(config)
    target = loaded.connection(connection)
    if target is None:
        known = ", ".join(each.name for each in loaded.connections) or "none"
        raise Misuse(f"there is no connection {connection!r}; configured: {known}")
    operation = _operation(target, http, header or [], body, sql, param or [], ssh, ssh_action)
    principal = _principal(loaded, subject, group or [], claim or [])
    found = judged(loaded, principal, target, operation, _moment(loaded, at), peer)
    if as_json:
        emit(found)
    else:
        _print(found)


def judged(
    config: Config, principal: Principal, target: ConnectionConfig, operation: Operation | None, moment: datetime, peer: str
) -> dict[str, Any]:
    """What `--json` prints. A session that is not allowed ends it: its effect is the whole effect."""
    from hopgate.rulefiles import load_rule_set
    from hopgate.sessions import session_operation

    rules = load_rule_set(config)
    session = _judged(session_operation(target.rule_view, peer, moment), principal, target.rule_view, rules)
    if operation is None or session["effect"] != "allow":
        return {**session, "decided": "session", "version": rules.version}
    return {
        **_judged(operation, principal, target.rule_view, rules),
        "decided": operation.kind,
        "session": session,
        "version": rules.version,
    }


def _judged(operation: Operation, principal: Principal, connection: Connection, rules: RuleSet) -> dict[str, Any]:
    from hopgate.sessions import judge
    from rules.explain import explain as sentence

    decision: Decision = judge(operation, principal, connection, rules)
    return {
        "effect": decision.effect,
        "rules": list(decision.rules),
        "message": sentence(decision, operation),
        "facts": _facts(operation),
        "masks": [{key: value for key, value in _fields(mask).items() if value} for mask in decision.masks],
        "holds": [_fields(hold) for hold in decision.holds],
        "limits": {key: value for key, value in _fields(decision.limits).items() if value is not None},
        "complete": operation.complete,
        "reason": operation.reason,
        "unknown": list(decision.unknown),
    }


def _facts(operation: Operation) -> dict[str, Any]:
    from rules.model import UNKNOWN
    from rules.vocabulary import FACTS

    found: dict[str, Any] = {}
    for name in sorted(FACTS[operation.kind]):
        try:
            value = operation.facts.get(name)
        except KeyError:
            continue
        found[name] = "unknown" if value is UNKNOWN else value
    return found


def _fields(value: Any) -> dict[str, Any]:
    import dataclasses

    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


def _operation(
    target: ConnectionConfig, http: str, headers: list[str], body: str | None, sql: str, params: list[str], ssh: str, ssh_action: str
) -> Operation | None:
    given = [name for name, value in (("http", http), ("sql", sql), ("ssh", ssh), ("ssh-action", ssh_action)) if value]
    if len(given) > 1:
        raise Misuse("give one of --http, --sql, --ssh and --ssh-action")
    if not given:
        return None
    kind = {"postgres": "sql", "mysql": "sql"}.get(target.kind, target.kind)
    if given[0].partition("-")[0] != kind:
        raise Misuse(f"{target.name} is a {target.kind} connection: --{given[0]} does not go with it")
    if kind == "sql":
        return sql_operation(target, sql, params)
    if kind == "ssh":
        return ssh_operation(ssh_action) if ssh_action else _ssh(target, ssh)
    if kind != "http":
        raise Misuse(f"this hopgate does not read {kind} operations yet")
    return _http(target, http, headers, body)


def _http(target: ConnectionConfig, request: str, headers: list[str], body: str | None) -> Operation:
    from urllib.parse import urlsplit

    from rules.http import HttpFacts, request_operation

    method, _, rest = (sys.stdin.readline() if request == "-" else request).strip().partition(" ")
    rest = rest.strip()
    if not rest:
        raise Misuse('--http must be METHOD PATH, as in "POST /v1/refunds"')
    host, port = next(
        ((host, port) for host, port in target.authorities if not host.startswith("*")), (target.address.host, target.address.port)
    )
    scheme = "https" if port == 443 else "http"
    if "://" in rest:
        url = urlsplit(rest)
        scheme, host, port = url.scheme, url.hostname or "", url.port or {"https": 443}.get(url.scheme, 80)
        rest = rest.split("://", 1)[1].partition("/")[2]
        rest = f"/{rest}"
    payload = b"" if body is None else sys.stdin.buffer.read() if body == "-" else body.encode()
    return request_operation(HttpFacts(method, scheme, host, port, rest, _headers(headers, host, port, payload), payload))


def _ssh(target: ConnectionConfig, command: str) -> Operation:
    from rules.shell.command import operation_of

    text = sys.stdin.buffer.read() if command == "-" else command.encode("utf-8", "surrogateescape")
    return operation_of(text, target.shell)


def _headers(texts: list[str], host: str, port: int, body: bytes) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, separator, value = text.partition(":")
        if not separator or not name.strip():
            raise Misuse(f"--header must be NAME: VALUE, not {text!r}")
        found.append((name.strip(), value.strip()))
    given = {name.lower() for name, _ in found}
    if "host" not in given:
        found.insert(0, ("Host", host if port in (80, 443) else f"{host}:{port}"))
    if body and "content-length" not in given:
        found.append(("Content-Length", str(len(body))))
    return found


def _principal(config: Config, subject: str, groups: list[str], claims: list[str]) -> Principal:
    from rules.model import Principal

    names = [issuer.name for issuer in config.identity.issuers]
    issuer, separator, rest = subject.partition(":")
    if not separator or issuer not in names:
        issuer, rest = ("local" if "local" in names else names[0] if names else "local"), subject
    if any("=" not in text for text in claims):
        raise Misuse("--claim must be NAME=VALUE")
    return Principal(issuer, rest, frozenset(groups), dict(text.partition("=")[::2] for text in claims))


def _moment(config: Config, at: str) -> datetime:
    zone = ZoneInfo(config.timezone)
    if not at:
        return datetime.now(zone)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise Misuse("--at must be a date and time, as in 2030-01-31T14:30") from None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)


def _print(found: dict[str, Any]) -> None:
    say(visible(f"{found['effect']}: {found['message'] or 'no message'}"))
    if found["decided"] == "session":
        say("  decided when the session opens")
    for name in ("rules", "unknown"):
        if found[name]:
            say(visible(f"  {name}: {', '.join(found[name])}"))
    if found["reason"]:
        say(visible(f"  not understood: {found['reason']}"))
    for mask in found["masks"]:
        say(visible(f"  mask: {', '.join(f'{key}={value}' for key, value in mask.items())}"))
    for hold in found["holds"]:
        say(visible(f"  held for: {hold['quorum']} of {', '.join(hold['reviewers']) or 'the configured reviewers'} ({hold['rule']})"))
    for name, value in found["facts"].items():
        if value not in ("", None, (), []):
            say(visible(f"  {name}: {value}"))
