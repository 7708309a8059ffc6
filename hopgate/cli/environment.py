"""`hopgate env`: the lines that an agent's shell, container or unit file needs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hopgate.cli.common import CONFIG, TOKEN_VARIABLE, ConfigOption, JsonOption, Misuse, TokenOption, load, read_line
from hopgate.cli.output import emit, say

if TYPE_CHECKING:
    from hopgate.config import Config

# Every one of these is read by somebody: OpenSSL and Python's ssl, requests and pip's vendored copy of it, curl, Node, git, pip.
BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT")
ADDED_VARIABLES = ("NODE_EXTRA_CA_CERTS",)  # added to the client's own list, so ours alone is enough


def env(
    bundle: Annotated[str, typer.Option("--bundle", help="Where the agent finds the CA bundle, when not here.", metavar="FILE")] = "",
    address: Annotated[str, typer.Option("--address", help="How the agent reaches the gateway.", metavar="HOST:PORT")] = "",
    dotenv: Annotated[bool, typer.Option("--dotenv", help="NAME=value lines, for `docker run --env-file`.")] = False,
    token: TokenOption = "",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Print what makes a program use the gateway. It makes nothing safe: only a network without another way out does."""
    loaded = load(config)
    values = variables(loaded, _token(token), bundle or (str(_bundle(loaded)) if loaded.listen.http is not None else ""), address)
    if as_json:
        emit(values)
    elif dotenv:
        for name, value in values.items():
            say(f"{name}={value}")
    else:
        for name, value in values.items():
            say(f"export {name}={shlex.quote(value)}")


def variables(config: Config, token: str, bundle: str, address: str = "") -> dict[str, str]:
    """Name -> value. Proxy variables in both cases: urllib trusts only lower case under CGI, some programs know only upper case."""
    if config.listen.http is None and config.listen.postgres is None:
        raise Misuse(f"{config.path}: listen: names neither http nor postgres")
    return _proxy(config, token, bundle, address) | _postgres(config, token, address)


def _proxy(config: Config, token: str, bundle: str, address: str) -> dict[str, str]:
    if config.listen.http is None:
        return {}
    listener = config.listen.http.address
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listener.host)  # noqa: S104
    scheme = "https" if config.tls is not None and not listener.loopback else "http"
    proxy = f"{scheme}://agent:{token}@{address or (f'{host}:{listener.port}' if host else listener)}"
    values = {}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        values[name] = values[name.lower()] = proxy
    values["NO_PROXY"] = values["no_proxy"] = ""  # what it names would go around the gateway
    values.update(dict.fromkeys(BUNDLE_VARIABLES + ADDED_VARIABLES, bundle))
    return values


def _postgres(config: Config, token: str, address: str) -> dict[str, str]:
    """What libpq reads, and with it psql, psycopg and most drivers: user = connection, password = token."""
    if config.listen.postgres is None:
        return {}
    listener = config.listen.postgres
    given = address.rpartition(":")[0].strip("[]")
    host = given or {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)  # noqa: S104
    values = {"PGHOST": host, "PGPORT": str(listener.port), "PGPASSWORD": token}
    targets = [each for each in config.connections if each.kind == "postgres"]
    if len(targets) == 1:  # with several, the program names the one it wants
        values["PGUSER"] = targets[0].name
        if targets[0].database:
            values["PGDATABASE"] = targets[0].database
    return values


def _token(token: str) -> str:
    import os

    found = read_line("token").strip() if token == "-" else token or os.environ.get(TOKEN_VARIABLE, "")  # noqa: S105
    if found and not all(each.isascii() and (each.isalnum() or each in "-._~") for each in found):
        raise Misuse("the token holds characters that no token of ours has")
    return found or "TOKEN"


def _bundle(config: Config) -> Path:
    from hopgate.ca import create_ca, write_bundle

    create_ca(config.state)
    return write_bundle(config.state)
