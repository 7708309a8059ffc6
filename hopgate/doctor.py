"""What must be true around a gateway, looked at: its own side (`examine`), and the wall around an agent (`probe_wall`).

The wall is only as good as what cannot be reached from inside it, so the probes try: whatever answers is a hole.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hopgate.addresses import Address, parse_address
from hopgate.config import Config
from hopgate.errors import HopgateError
from hopgate.state_lock import holder
from hopgate.supervise import answers, listeners

MIN_FREE: Final = 1 << 30  # bytes; a full disk ends every session
PROBE_SECONDS: Final = 2.0
_SECRET: Final = 0o077  # bits that a private file must not have
# What an agent without a wall reaches: a public address by number (no DNS), over both IP versions, and cloud metadata.
OUTSIDE: Final = (("direct IPv4", Address("1.1.1.1", 443)), ("direct IPv6", Address("2606:4700:4700::1111", 443)))
METADATA: Final = (
    ("cloud metadata", Address("169.254.169.254", 80)),
    ("cloud metadata over IPv6", Address("fd00:ec2::254", 80)),
    ("container metadata", Address("169.254.170.2", 80)),
)
_NAME: Final = "example.com"
_DOCKER: Final = (Path("/var/run/docker.sock"), Path("/run/docker.sock"), Path("/run/containerd/containerd.sock"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. Any `fail` fails the doctor."""

    status: Literal["ok", "warn", "fail"]
    what: str
    message: str


def examine(config: Config, agent_user: str = "") -> list[Finding]:
    """The gateway's side: configuration, users, permissions, key files, disk, clock, listeners."""
    return [
        _configuration(config),
        *_users(agent_user),
        *_permissions(config),
        _disk(config.state),
        _clock(config.state),
        *_listeners(config),
    ]


def _configuration(config: Config) -> Finding:
    try:
        config.check()
    except HopgateError as error:
        return Finding("fail", "configuration", str(error).splitlines()[0] + "; `hopgate check` tells all")
    return Finding("ok", "configuration", f"{config.path} and its rules load")


def _users(agent_user: str) -> Iterator[Finding]:
    own = os.getuid()
    if own == 0:
        yield Finding("warn", "user", "the gateway runs as root: give it a user of its own")
    if not agent_user:
        yield Finding("warn", "agents' user", f"not named: with --agent-user this checks that agents are not uid {own} too")
        return
    try:
        uid = int(agent_user) if agent_user.isdigit() else pwd.getpwnam(agent_user).pw_uid
    except KeyError:
        yield Finding("fail", "agents' user", f"there is no user {agent_user}")
        return
    if uid in (own, 0):
        yield Finding("fail", "agents' user", f"agents run as uid {uid}, which can read the gateway's keys and approve for itself")
    else:
        yield Finding("ok", "agents' user", f"uid {uid} is not the gateway's uid {own}")


def _permissions(config: Config) -> Iterator[Finding]:
    state = config.state
    if not state.is_dir():
        yield Finding("warn", "state", f"{state} is not there yet: `hopgate up` makes it")
        return
    for path in (state, *(state / name for name in ("keys", "ca", "ledger", "recordings") if (state / name).exists())):
        yield _private(path, "directory")
    for path in sorted(each for each in (state / "keys").glob("*") if each.suffix != ".pub"):
        yield _private(path, "key file")
    for path in (state / "ca" / "mitmproxy-ca.pem", state / "state.db"):
        if path.exists():
            yield _private(path, "key file" if path.suffix == ".pem" else "database")


def _private(path: Path, what: str) -> Finding:
    status = path.stat()
    if status.st_uid != os.getuid():
        return Finding("fail", what, f"{path} belongs to uid {status.st_uid}, and this is uid {os.getuid()}")
    if status.st_mode & _SECRET:
        return Finding("fail", what, f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others can use it (chmod go= {path})")
    return Finding("ok", what, f"{path} is private")


def _disk(state: Path) -> Finding:
    place = next(each for each in (state, *state.parents) if each.exists())
    free = shutil.disk_usage(place).free
    amount = f"{free / (1 << 30):.1f} GiB free at {place}"
    return Finding("ok", "disk", amount) if free >= MIN_FREE else Finding("fail", "disk", f"{amount}: a full disk ends every session")


def _clock(state: Path) -> Finding:
    """Tokens live by the clock. What was written last cannot be from the future, and the year cannot be before this was written."""
    now = time.time()
    if time.gmtime(now).tm_year < 2025:
        return Finding("fail", "clock", f"says {time.strftime('%Y-%m-%d', time.gmtime(now))}: tokens would be refused or live too long")
    newest = max((each.stat().st_mtime for each in state.glob("ledger/*.ndjson")), default=0.0)
    if newest > now + 5:
        return Finding("fail", "clock", f"is {newest - now:.0f} s behind the last ledger line")
    return Finding("ok", "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _listeners(config: Config) -> Iterator[Finding]:
    pid = holder(config.state)
    yield Finding("ok", "gateway", f"runs with pid {pid}" if pid is not None else "is not running")
    for wire, address in listeners(config):
        up = answers(address)
        if up and pid is None:
            yield Finding("fail", f"{wire} listener", f"somebody listens on {address}, and it is not this gateway")
        elif pid is not None and not up:
            yield Finding("fail", f"{wire} listener", f"nobody listens on {address}")
        else:
            yield Finding("ok", f"{wire} listener", f"{address} {'answers' if up else 'is free'}")
    if config.listen.console is not None:
        yield _console(config, config.listen.console, running=pid is not None)
    for name in ("console", "health"):
        address = getattr(config.listen, name)
        if address is not None and not address.loopback:
            yield Finding("warn", f"{name} listener", f"{address} is not on loopback: agents' networks must not reach it")


def _console(config: Config, address: Address, *, running: bool) -> Finding:
    up = answers(address)
    if up != running:
        who = f"somebody listens on {address}, and it is not this gateway" if up else f"nobody listens on {address}"
        return Finding("fail", "console listener", who)
    if config.console.oidc is None and config.identity.local is None:
        return Finding("warn", "console listener", "nobody can sign in: it takes console.oidc or a local issuer")
    if not (config.approvals.reviewers or config.operators or config.console.viewers):
        return Finding("warn", "console listener", "no group has a role: name some in approvals.reviewers, operators or console.viewers")
    return Finding("ok", "console listener", f"{address} {'answers' if up else 'is free'}")


# --- from inside the agent's place


def probe_wall(config: Config | None, targets: tuple[str, ...] = (), connect: Callable[[Address], bool] | None = None) -> list[Finding]:
    """Try every way around the gateway from here. `targets` are further HOST:PORT that must not answer."""
    reach = connect or reachable
    findings = [_closed(name, address, reach) for name, address in (*OUTSIDE, *METADATA)]
    findings += [_closed("target", parse_address(each), reach) for each in targets]
    findings.append(_no_names())
    findings += [_no_socket(path) for path in _DOCKER if path.exists()]
    if config is not None:
        findings += [_closed(f"target of {each.name}", each.address, reach) for each in config.connections]
        for name in ("console", "health"):
            if (address := getattr(config.listen, name)) is not None:
                findings.append(_closed(f"{name} listener", address, reach))
        findings.append(_unreadable(config.state))
    findings.append(_proxy(reach))
    return findings


def reachable(address: Address) -> bool:
    """Whether a TCP connection opens. A refusal by the other end counts: its packets came through."""
    try:
        socket.create_connection((address.host, address.port), timeout=PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return not (address.loopback or address.ip is None)
    except OSError:
        return False
    return True


def _closed(name: str, address: Address, reach: Callable[[Address], bool]) -> Finding:
    if reach(address):
        return Finding("fail", name, f"{address} can be reached from here without the gateway")
    return Finding("ok", name, f"{address} cannot be reached")


def _no_names() -> Finding:
    """Names can carry data out, a label at a time, wherever a resolver asks others."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PROBE_SECONDS)
    try:
        socket.getaddrinfo(_NAME, 443, proto=socket.IPPROTO_TCP)
    except OSError:
        return Finding("ok", "DNS", "public names do not resolve")
    finally:
        socket.setdefaulttimeout(before)
    return Finding("fail", "DNS", f"{_NAME} resolves: data can leave inside names; the gateway resolves for its callers")


def _no_socket(path: Path) -> Finding:
    if os.access(path, os.W_OK):
        return Finding("fail", "container runtime", f"{path} can be written: whoever can start containers has the machine")
    return Finding("ok", "container runtime", f"{path} is closed")


def _unreadable(state: Path) -> Finding:
    try:
        next(iter(state.iterdir()), None)
    except OSError:
        return Finding("ok", "state", f"{state} cannot be read")
    return Finding("fail", "state", f"{state} can be read from here: it holds the gateway's keys")


def _proxy(reach: Callable[[Address], bool]) -> Finding:
    from urllib.parse import urlsplit

    url = urlsplit(os.environ.get("HTTP_PROXY") or os.environ.get("http_proxy") or "")
    if not url.hostname:
        return Finding("fail", "gateway", "HTTP_PROXY is not set: `hopgate env` prints what an agent needs")
    address = Address(url.hostname, url.port or 80)
    if not reach(address):
        return Finding("fail", "gateway", f"{address} does not answer: the agent has no way out at all")
    return Finding("ok", "gateway", f"{address} answers")
