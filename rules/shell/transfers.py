"""The far ends of scp, rsync and git, as their own clients start them: exactly, never by the beginning of a command line.

What has another option, or one word more, is no transfer here: options of rsync's server write logs, read configurations and start
daemons. Sources: scp.c and rsync's options.c (server_options) for what clients send; git-upload-pack(1), git-receive-pack(1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rules.model import UNKNOWN
from rules.remote_paths import AmbiguousPath, absolute, text_of

PROGRAMS: Final = frozenset({"scp", "rsync", "git", "git-upload-pack", "git-receive-pack", "git-upload-archive"})  # by their basenames
_SYSTEM: Final = ("/bin", "/usr/bin")
_SCP_FLAGS: Final = re.compile(r"-[rpdvq]*([tf]?)[rpdvq]*")
# letters without a value, then what the client can do (`e.iLsfxCIvu`); -B has its value in the same word
_RSYNC_FLAGS: Final = re.compile(r"-[abcdghijklmnopqrstuvxyzACDEHIJKLNOPRSUWX]*(?:e[0-9]*\.[A-Za-z]*)?|-B[0-9]+")
_RSYNC_LONG: Final = re.compile(
    r"""--(?:sender|delete(?:-before|-during|-delay|-after|-excluded)?|force|existing|ignore-existing|size-only|numeric-ids|partial|inplace
    |append|append-verify|safe-links|copy-unsafe-links|munge-links|stats|list-only|dirs|no-[a-z-]+|new-compress|old-compress|from0
    |ignore-errors|mkpath|preallocate|fsync|open-noatime|omit-dir-times|omit-link-times|prune-empty-dirs|remove-source-files|ignore-times
    |protect-args|secluded-args|(?:bwlimit|timeout|max-size|min-size|max-delete|modify-window|checksum-seed|checksum-choice
    |compress-choice|compress-level|skip-compress|block-size|log-format|out-format|iconv|stderr|debug|info|max-alloc)=[^/]*)""",
    re.VERBOSE,
)
_REMOVES: Final = ("--delete", "--remove-source-files")
_LINKS: Final = ("l", "a")  # letters that make a receiver keep symbolic links


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an exec copies. `op` is UNKNOWN where it does more: removes files, or makes symbolic links, behind which the next copy would
    go anywhere. `paths` is UNKNOWN where they are relative or not known."""

    op: Literal["read", "write"] | Any
    paths: tuple[str, ...] | Any


def transfer_of(words: Sequence[str]) -> Transfer | None:
    """The transfer that a command of these words serves, None where it is none."""
    directory, slash, name = words[0].rpartition("/")
    if slash and directory not in _SYSTEM:
        return None
    if name == "scp":
        return _scp(words[1:])
    if name == "rsync":
        return _rsync(words[1:])
    if name == "git":
        return _git(f"git-{words[1]}", words[2:]) if len(words) > 1 else None
    return _git(name, words[1:])


def _scp(words: Sequence[str]) -> Transfer | None:
    """`scp [-r] [-p] [-d] [-v] -t|-f [--] path`."""
    direction = ""
    for index, word in enumerate(words):
        flags = _SCP_FLAGS.fullmatch(word)
        if flags is None:
            rest = words[index + 1 :] if word == "--" else words[index:]
            if len(rest) != 1 or not direction or (word != "--" and rest[0].startswith("-")):
                return None
            return Transfer("write" if direction == "t" else "read", _paths(rest))
        if flags[1] and direction:
            return None
        direction = direction or flags[1]
    return None


def _rsync(words: Sequence[str]) -> Transfer | None:
    """`rsync --server [--sender] options . path …`."""
    if not words or words[0] != "--server" or "." not in words:
        return None
    dot = words.index(".")
    options, paths = words[1:dot], words[dot + 1 :]
    if not all(_RSYNC_FLAGS.fullmatch(option) or _RSYNC_LONG.fullmatch(option) for option in options):
        return None
    letters = "".join(option.partition("e")[0] for option in options if option[1:2] != "-")
    secluded = "s" in letters or "--secluded-args" in options
    secluded = secluded or "--protect-args" in options  # the paths, and more options, come through the channel
    if not paths and not secluded:
        return None
    sends = "--sender" in options
    links = not sends and any(letter in letters for letter in _LINKS) and "--munge-links" not in options
    if secluded or links or any(option.startswith(_REMOVES) for option in options):
        return Transfer(UNKNOWN, UNKNOWN if secluded else _paths(paths))
    return Transfer("read" if sends else "write", _paths(paths))


def _git(name: str, words: Sequence[str]) -> Transfer | None:
    if name not in ("git-upload-pack", "git-receive-pack", "git-upload-archive") or len(words) != 1 or words[0].startswith("-"):
        return None
    return Transfer("write" if name == "git-receive-pack" else "read", _paths(words))


def _paths(words: Sequence[str]) -> Any:
    """As facts. A relative path starts from a directory that is not known here, and git and rsync read `~` themselves."""
    try:
        return tuple(text_of(absolute(word.encode("utf-8", "surrogateescape"), None)) for word in words)
    except AmbiguousPath:
        return UNKNOWN
