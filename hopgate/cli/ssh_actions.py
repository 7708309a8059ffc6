"""The operation of `hopgate explain --ssh-action`: what is asked of an SSH connection besides command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from hopgate.cli.common import Misuse

if TYPE_CHECKING:
    from rules.model import Operation

_BARE: Final = ("shell", "pty", "agent", "x11")
_USAGE: Final = (
    "--ssh-action must be one of shell, pty, agent, x11, subsystem NAME, env NAME=VALUE, forward HOST:PORT, reverse_forward HOST:PORT "
    "(or unix:/PATH for both), sftp OP /PATH [/PATH], as in `sftp write /srv/x`"
)


def ssh_operation(text: str) -> Operation:
    """The operation that `text` names. Raises Misuse."""
    from rules import ssh

    action, _, rest = text.partition(" ")
    rest = rest.strip()
    if action in _BARE and not rest:
        return cast("Operation", getattr(ssh, f"{action}_operation")())
    given = rest.encode("utf-8", "surrogateescape")
    match action:
        case "sftp":
            return _sftp(rest)
        case "subsystem" if rest:
            return ssh.subsystem_operation(given)
        case "env" if "=" in rest:
            name, _, value = given.partition(b"=")
            return ssh.env_operation(name, value)
        case "forward" | "reverse_forward" if rest.startswith("unix:"):
            unix = ssh.unix_forward_operation if action == "forward" else ssh.unix_reverse_forward_operation
            return unix(given.removeprefix(b"unix:"))
        case "forward" | "reverse_forward":
            host, colon, port = given.rpartition(b":")
            if not colon or not port.isdigit():
                raise Misuse(_USAGE)
            return (ssh.forward_operation if action == "forward" else ssh.reverse_forward_operation)(host, int(port))
    raise Misuse(_USAGE)


def _sftp(text: str) -> Operation:
    from rules import ssh
    from rules.remote_paths import AmbiguousPath, absolute
    from rules.vocabulary import SFTP_OPS

    op, *paths = text.split() or [""]
    known: Any = op  # of the closed list from here on
    if op not in SFTP_OPS or not paths:
        raise Misuse(f"--ssh-action sftp OP /PATH: OP is one of {', '.join(sorted(SFTP_OPS))}")
    if op == "extended":
        return ssh.sftp_operation([known], [], extension=paths[0])
    given = [path.encode("utf-8", "surrogateescape") for path in paths]
    try:
        return ssh.sftp_operation([known], [absolute(path, None) for path in given])
    except AmbiguousPath as error:
        return ssh.sftp_operation([known], None, reason=str(error))
