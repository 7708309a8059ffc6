"""mitmproxy's options as a gateway must have them: some are set, the rest may not be touched, at start and while running.

Every option that is in no list here has to keep its default, so that an option of a later mitmproxy cannot open a hole unread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.utils import human

from hopgate.errors import Misconfigured

BODY_SIZE_LIMIT = "20m"

# set by us, whatever the default is
REQUIRED: dict[str, Any] = {
    "connection_strategy": "lazy",  # eager connects before anything was decided
    "upstream_cert": False,  # true makes a TLS handshake with the target before anything was decided
    "onboarding": False,  # answers http://mitm.it/ itself
    "rawtcp": False,
    "http3": False,
    "flow_detail": 0,  # prints requests and responses
    "validate_inbound_headers": True,
    "show_ignored_hosts": False,
    "command_history": False,
}
# may be given: they change no decision and no destination
FREE = frozenset(
    {
        "block_global",
        "block_private",
        "body_size_limit",
        "ciphers_client",
        "ciphers_server",
        "confdir",
        "connect_addr",
        "content_view_lines_cutoff",
        "dumper_default_contentview",
        "http2",
        "http2_ping_keepalive",
        "keepserving",
        "key_size",
        "listen_host",
        "listen_port",
        "mode",
        "scripts",
        "server",
        "showhost",
        "tcp_timeout",
        "termlog_verbosity",
        "tls_ecdh_curve_client",
        "tls_ecdh_curve_server",
        "tls_version_client_min",
        "tls_version_server_min",
        "websocket",
    }
)
_WHY = {
    "stream_large_bodies": "it forwards bodies before they are judged and skips masks",
    "store_streamed_bodies": "it keeps bodies that were not masked",
    "ignore_hosts": "what it matches bypasses every rule",
    "allow_hosts": "what it does not match bypasses every rule",
    "tcp_hosts": "what it matches bypasses every rule",
    "udp_hosts": "what it matches bypasses every rule",
    "map_remote": "it changes the destination",
    "map_local": "it answers in the target's place",
    "modify_body": "it changes what was judged",
    "modify_headers": "it changes what was judged",
    "ssl_insecure": "it trusts any target",
    "emudhra": "it signs with a key that everybody has",
    "emudhra_old": "it signs with a key that everybody has",
    "validate_inbound_headers": "without it requests can be smuggled",
    "save_stream_file": "it records what is not masked; sessions are recorded anyway",
    "hardump": "it records what is not masked; sessions are recorded anyway",
    "server_replay": "it answers in the target's place",
    "client_replay": "it sends requests that no principal asked for",
    "proxyauth": "callers are identified by tokens",
}
_SECURE_TLS = frozenset({"TLS1_2", "TLS1_3"})
_KEY_LOGS = ("MITMPROXY_SSLKEYLOGFILE", "SSLKEYLOGFILE")


class Options:
    """Refuses every option that would open a hole, by mitmproxy's own rollback."""

    name = "hopgate_options"

    def __init__(self, script: str) -> None:
        self.script = script

    def configure(self, updated: set[str]) -> None:
        if problems := problems_of(ctx.options, updated, self.script):
            raise exceptions.OptionsError(problems[0])


def problems_of(options: Any, names: set[str], script: str) -> list[str]:
    """One line for each of the options `names` that a gateway must not run with."""
    found = []
    for name in sorted(names):
        if name not in options or name.startswith("hopgate"):
            continue
        value = getattr(options, name)
        if name in REQUIRED:
            if value != REQUIRED[name]:
                found.append(_refusal(name))
        elif name not in FREE:
            if value != options.default(name):
                found.append(_refusal(name))
        elif (why := _unfit(name, value, script)) is not None:
            found.append(f"option {name} {why}")
    return found


def _refusal(name: str) -> str:
    return f"option {name} must not be set: {_WHY.get(name, 'it is not one that the gateway allows')}"


def _unfit(name: str, value: Any, script: str) -> str | None:
    match name:
        case "mode":
            if len(value) != 1 or value[0].split("@")[0] != "regular":
                return "must be regular: rules know the destination of no other mode"
        case "scripts":
            if any(given != script for given in value):
                return "must name the gateway alone: another script sees and changes everything"
        case "body_size_limit":
            try:
                if value is None or not human.parse_size(value):
                    return f"must be set, as in {BODY_SIZE_LIMIT}"
            except ValueError:
                return f"must be a size, as in {BODY_SIZE_LIMIT}"
        case "tls_version_client_min" | "tls_version_server_min":
            if value not in _SECURE_TLS:
                return "must be TLS1_2 or TLS1_3"
    return None


def check_start(options: Any, script: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raises Misconfigured, naming every option that was given and may not be."""
    given = {name for name, option in options.items() if option.has_changed()} | {"mode", "scripts"}
    defaults_replaced = {name for name in REQUIRED if name in options and getattr(options, name) == options.default(name)}
    problems = problems_of(options, given - defaults_replaced - {"flow_detail"}, script)
    problems += [
        f"environment variable {name} must not be set: it writes TLS keys to a file" for name in _KEY_LOGS if environment.get(name)
    ]
    if problems:
        raise Misconfigured(problems[0], tuple(problems))


def required_values(options: Any, state: Path, host: str, port: int) -> dict[str, Any]:
    """What to set at start so that the gateway's own needs are met."""
    values = {**REQUIRED, "confdir": str(state / "ca"), "listen_host": host, "listen_port": port}
    if options.body_size_limit is None:
        values["body_size_limit"] = BODY_SIZE_LIMIT
    if (options.listen_host, options.listen_port) != (host, port):
        # an instance that is already listening elsewhere is replaced only when its mode differs
        values["mode"] = [f"regular@{f'[{host}]' if ':' in host else host}:{port}"]
    return values
