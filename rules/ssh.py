"""What is asked of an SSH connection besides commands -> operations: shells, subsystems, SFTP, forwarding, X11, the agent, variables.

Commands (`action: exec`) are read by `rules.shell.command`. Nothing in here raises for what a peer sent: what has two readings is
incomplete, with the reason. `context` is, throughout, what else changes the meaning of an operation (account, environment, cwd …): it
is part of what an approval covers, and no rule sees it. Source: RFC 4254; draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Literal

from rules.model import UNKNOWN, Exact, Operation
from rules.printable import visible
from rules.remote_paths import AmbiguousPath, absolute, text_of

type SftpOp = Literal[
    "read", "write", "append", "list", "stat", "setstat", "remove", "mkdir", "rmdir", "rename", "symlink", "hardlink", "readlink",
    "realpath", "extended",
]  # fmt: skip

READING_OPS: Final = frozenset({"read", "list", "stat", "readlink", "realpath"})
MAX_SHOWN: Final = 300  # characters of a title

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SUBSYSTEM: Final = re.compile(r"[\x21-\x7e]{1,64}")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # the last label of what inet_aton takes for an address


class SshFacts:
    """The facts of one operation. What an action does not have is absent."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        return self._values.get(name)


def shell_operation(context: bytes = b"") -> Operation:
    """A login shell on the channel."""
    return _operation({"action": "shell"}, "shell", "an interactive shell, whose lines are not judged one by one", (), context)


def line_shell_operation(context: bytes = b"") -> Operation:
    """A shell whose lines the relay judges and runs one by one, each as a command of its own."""
    return _operation({"action": "shell"}, "shell", "a shell whose lines are judged one by one", (b"lines",), context)


def pty_operation(terminal: bytes = b"", context: bytes = b"") -> Operation:
    """A pseudo-terminal for the channel; `terminal` is the value of TERM that comes with it."""
    return _operation({"action": "pty"}, "pty", f"a terminal ({_shown(terminal)})", (terminal,), context)


def subsystem_operation(name: bytes, context: bytes = b"") -> Operation:
    """A subsystem by the name that the client sent."""
    text = name.decode("utf-8", "surrogateescape")
    reason = "" if _SUBSYSTEM.fullmatch(text) else "a name that no subsystem has"
    facts = {"action": "subsystem", "subsystem": text if not reason else UNKNOWN}
    return _operation(facts, f"subsystem {_shown(name)}", f"the subsystem {_shown(name)}", (name,), context, reason=reason)


def env_operation(name: bytes, value: bytes, context: bytes = b"") -> Operation:
    """A variable for the command that follows on the channel. The fact `variable` is NAME=value; the title has the name only."""
    text = name.decode("utf-8", "surrogateescape")
    valid = _NAME.fullmatch(text) is not None and b"\0" not in value
    reason = "" if valid else "no variable can have this name or value"
    facts = {"action": "env", "variable": f"{text}={value.decode('utf-8', 'surrogateescape')}" if valid else UNKNOWN}
    shown = f"{_shown(name)}={_shown(value)}"
    return _operation(facts, f"env {_shown(name)}", shown, (name, value), context, reason=reason, writes=False)


def agent_operation(context: bytes = b"") -> Operation:
    """The client's authentication agent, offered to the target (`auth-agent-req@openssh.com`)."""
    return _operation({"action": "agent"}, "agent forwarding", "the client's agent, for the target to use", (), context)


def x11_operation(context: bytes = b"") -> Operation:
    """The client's X11 display, offered to the target (`x11-req`)."""
    return _operation({"action": "x11"}, "x11 forwarding", "the client's display, for the target to use", (), context)


# --- forwarding


def forward_operation(host: bytes, port: int, context: bytes = b"") -> Operation:
    """A connection that the target is to open to `host` (`direct-tcpip`, ssh -L, -D and -W)."""
    destination, reason = _destination(host, port)
    if _is_unspecified(host):  # to connect there is to connect to the host itself, which rules know by other addresses
        destination, reason = UNKNOWN, "an address that means the host itself"
    facts = {"action": "forward", "destination": destination}
    return _forwarding(facts, "forward to", host, port, reason, context)


def unix_forward_operation(path: bytes, context: bytes = b"") -> Operation:
    """A connection that the target is to open to a socket in its file system (`direct-streamlocal@openssh.com`)."""
    return _unix({"action": "forward"}, "forward to", path, context)


def reverse_forward_operation(host: bytes, port: int, context: bytes = b"") -> Operation:
    """A port that the target is to listen on (`tcpip-forward`, ssh -R). No `host`, `*`, 0.0.0.0 and :: are every address: `*:8080`."""
    every = host in (b"", b"*") or _is_unspecified(host)
    destination, reason = (f"*:{port}", "") if every and 0 <= port <= 0xFFFF else _destination(host, port)
    facts = {"action": "reverse_forward", "destination": destination}
    return _forwarding(facts, "listen on", host or b"*", port, reason, context)


def unix_reverse_forward_operation(path: bytes, context: bytes = b"") -> Operation:
    """A socket in its file system that the target is to listen on (`streamlocal-forward@openssh.com`)."""
    return _unix({"action": "reverse_forward"}, "listen on", path, context)


def _forwarding(facts: Mapping[str, Any], verb: str, host: bytes, port: int, reason: str, context: bytes) -> Operation:
    shown = facts["destination"] if facts["destination"] is not UNKNOWN else f"{_shown(host)}:{port}"
    return _operation(facts, f"{verb} {shown}", f"{verb} {shown}", (host, b"%d" % port), context, reason=reason)


def _unix(facts: dict[str, Any], verb: str, path: bytes, context: bytes) -> Operation:
    found: Any = UNKNOWN
    reason = ""
    try:
        found = text_of(absolute(path, None))
    except AmbiguousPath as error:
        reason = str(error)
    facts |= {"destination": UNKNOWN if reason else f"unix:{found}", "paths": UNKNOWN if reason else (found,)}
    return _operation(facts, f"{verb} unix:{_shown(path)}", f"{verb} unix:{_shown(path)}", (b"unix", path), context, reason=reason)


def _is_unspecified(host: bytes) -> bool:
    try:
        address = ip_address(host.decode("ascii", "replace").removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_unspecified


def _destination(host: bytes, port: int) -> tuple[Any, str]:
    """`host:port` as one spelling of it, IPv6 in brackets; or why there are several."""
    text = host.decode("utf-8", "surrogateescape").lower().removesuffix(".")
    if not 0 <= port <= 0xFFFF:
        return UNKNOWN, "a port that there is not"
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        if not _HOST.fullmatch(text):
            return UNKNOWN, "a host that no name or address is"
        if _NUMERIC.fullmatch(text):  # 127.1, 0x7f000001, 2130706433: some resolvers read an address in it
            return UNKNOWN, "an address that is not written in full"
        return f"{text}:{port}", ""
    if isinstance(address, IPv6Address):
        if address.scope_id:
            return UNKNOWN, "an address that depends on an interface"
        if address.ipv4_mapped is None:
            return f"[{address}]:{port}", ""
        address = address.ipv4_mapped
    return f"{address}:{port}", ""


# --- SFTP


def sftp_operation(
    ops: Sequence[SftpOp],
    paths: Sequence[bytes] | None,
    *,
    detail: str = "",
    payload: bytes = b"",
    extension: str = "",
    reason: str = "",
    context: bytes = b"",
) -> Operation:
    """One request of SFTP. Several `ops` (an OPEN for reading and writing, say) are judged one by one, the strictest counts.

    `paths` are all that it names, absolute (`rules.remote_paths.absolute`), link targets and what links lead to included; None where
    they are not known. `detail` is for the reviewer (a mode, a size); `payload` is the request as it is sent, without its id.
    `extension` is the name of an extended request that is none of the other operations; rules see it as `argv`.
    """
    known: Any = UNKNOWN if paths is None else tuple(dict.fromkeys(map(text_of, paths)))
    shown = " ".join(visible(path) for path in known) if paths is not None else "(unknown)"
    title = f"sftp {'+'.join(ops)} {extension or shown}"
    common = {"action": "sftp", "paths": known, "complete": not reason, "reason": reason, **({"argv": extension} if extension else {})}
    parts = tuple(_part(SshFacts({**common, "op": op}), reason, op not in READING_OPS, title) for op in ops)
    exact = _exact("sftp", title, f"{title} {detail}".rstrip(), ("+".join(ops).encode(), *(paths or ()), payload), context)
    if len(parts) == 1:
        return replace(parts[0], exact=exact)
    whole = _part(SshFacts(common), reason, any(part.writes for part in parts), title)
    return replace(whole, parts=parts, exact=exact)


# --- what they have in common


def _operation(
    facts: Mapping[str, Any], title: str, text: str, payload: Sequence[bytes], context: bytes, reason: str = "", writes: bool = True
) -> Operation:
    whole = _part(SshFacts({**facts, "complete": not reason, "reason": reason}), reason, writes, title)
    return replace(whole, exact=_exact(facts["action"], title, text, payload, context))


def _part(facts: SshFacts, reason: str, writes: bool, title: str) -> Operation:
    return Operation("ssh", facts, not reason, reason, writes=writes, title=title[:MAX_SHOWN])


def _exact(action: str, title: str, text: str, payload: Sequence[bytes], context: bytes) -> Any:
    def exact() -> Exact:
        fields = (action.encode(), *payload, context)
        return Exact(title[:MAX_SHOWN], text, b"".join(len(field).to_bytes(8, "big") + field for field in fields))

    return exact


def _shown(value: bytes) -> str:
    return visible(value.decode("utf-8", "surrogateescape"))[:MAX_SHOWN]
