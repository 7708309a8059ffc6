"""Variables that a client sends along (`env`, RFC 4254 section 6.4). Unlike a command they are set for whatever runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relays.ssh.codec import Variable
from rules.ssh import env_operation

if TYPE_CHECKING:
    from relays.ssh.relay import SSHRelay

# only these are even judged: what else programs read in their environment (PATH, LD_PRELOAD, GIT_SSH …) makes them others
PLAIN: Final = frozenset({b"LANG", b"LANGUAGE", b"TERM"})
PREFIX: Final = b"LC_"


def passes(relay: SSHRelay, variable: Variable) -> bool:
    """Whether a variable goes along: one of the allowlist, if a rule allows it. What is held does not: nobody is asked for so little."""
    name = variable.name
    if name not in PLAIN and not name.startswith(PREFIX):
        return _left_out(relay, name)
    operation = env_operation(name, variable.value)
    # most clients send these with everything: what no rule names is left out without a refusal, as sshd does
    if relay.session.foresee(operation).effect != "allow" or relay.session.authorize_now(operation) is None:
        return _left_out(relay, name)
    return True


def _left_out(relay: SSHRelay, name: bytes) -> bool:
    if name not in relay.left_out and len(relay.left_out) < 64:
        relay.left_out.add(name)
        relay.session.note("variable_left_out", name=name[:64].decode("utf-8", "replace"))
    return False
