"""Which commands are a file transfer's other end: their bytes are a file's or count them, so nothing is hidden in them.

Told by the whole command, never by how it begins: `scp -t x; bash` is two commands.
"""

from __future__ import annotations

import re
import shlex
from typing import Final

from rules.model import Operation

_SCP: Final = re.compile(r"-[tfrpdqv]+")
_GIT: Final = frozenset({"git-upload-pack", "git-receive-pack", "git-upload-archive"})
_PROGRAMS: Final = frozenset({"scp", "rsync", "git", *_GIT})
_PLACES: Final = ("/usr/bin/", "/bin/", "/usr/local/bin/", "")


def is_transfer(operation: Operation, command: bytes) -> bool:
    """Whether `command` is, as a whole, what scp, rsync or git start on the other side. `operation` is how it was read."""
    facts = operation.facts
    if not operation.complete or operation.parts or not set(facts.get("facets")) <= {"network"} or not isinstance(facts.get("argv"), str):
        return False
    try:
        words = shlex.split(command.decode())
    except ValueError:
        return False
    if not words or " ".join(words) != facts.get("argv"):
        return False
    place, _, name = words[0].rpartition("/")
    if name not in _PROGRAMS or (f"{place}/" if place else "") not in _PLACES:
        return False
    return _other_end(name, words[1:])


def _other_end(name: str, words: list[str]) -> bool:
    if name == "scp":
        options = [word for word in words if _SCP.fullmatch(word)]
        paths = [word for word in words if word not in options and word != "--"]
        letters = "".join(options)
        return len(paths) == 1 and not paths[0].startswith("-") and ("t" in letters) != ("f" in letters)
    if name == "rsync":
        return words[:1] == ["--server"]
    if name == "git":
        return len(words) == 2 and f"git-{words[0]}" in _GIT
    return len(words) == 1 and not words[0].startswith("-")
