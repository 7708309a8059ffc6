"""What a request of SFTP does to which paths. A request is judged as that, whatever it is called.

Source: draft-ietf-secsh-filexfer-02 section 6; OpenSSH's PROTOCOL, section 4, for its extensions and for the order of SYMLINK's paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from relays.ssh.sftp import codec
from relays.ssh.sftp.codec import Attributes, Fields
from relays.wire import RemoteProtocolError
from rules.remote_paths import absolute, directory
from rules.ssh import READING_OPS, SftpOp

type Follow = Literal["all", "directory", "none"]  # which symbolic links the target follows: all, all but the last name, not asked

# OPENs and the like follow from a decision about the handle; these have no path to judge and change nothing
UNJUDGED: Final = frozenset({b"limits@openssh.com"})
# on handles only, whose OPEN was judged: how many handles, and where
OF_HANDLES: Final = frozenset({b"fsync@openssh.com", b"fstatvfs@openssh.com", b"copy-data"})


@dataclass(frozen=True, slots=True)
class Named:
    """One path of a request as it came, and which links in it the target follows. A link's `target` starts where the link is."""

    raw: bytes
    follow: Follow = "all"
    within: bytes | None = None  # the raw path of the link whose target this is


@dataclass(slots=True)
class Judged:
    """A request that is judged. `detail` is for reviewers, `payload` the packet without length and id, `handle` that of FSETSTAT."""

    ops: tuple[SftpOp, ...]
    names: tuple[Named, ...]
    detail: str = ""
    extension: str = ""
    handle: bytes = b""
    payload: bytes = field(default=b"", repr=False)

    @property
    def writes(self) -> bool:
        return any(op not in READING_OPS for op in self.ops)


class Unsupported(Exception):
    """A request that no table knows; it is answered SSH_FX_OP_UNSUPPORTED. The message names it."""


def judged(kind: int, packet: bytes) -> Judged:
    """What a whole packet of a kind in `JUDGED` asks for. Raises RemoteProtocolError for a malformed one, Unsupported."""
    fields = Fields(packet, "SFTP request", 9)
    found = JUDGED[kind](fields)
    fields.finish()
    found.payload = packet[4:5] + packet[9:]
    return found


def textual(named: Named, home: bytes | None) -> list[bytes]:
    """The absolute paths that a name may mean, links left alone. Raises AmbiguousPath."""
    if named.within is None:
        return [absolute(named.raw, home)]
    link = absolute(named.within, home)
    return [absolute(named.raw, directory(link))]


def split_last(raw: bytes) -> tuple[bytes, bytes] | None:
    """A raw path as its directory and its last name; None where that is no name (`/`, `.`, `x/..`)."""
    before, slash, last = raw.rstrip(b"/").rpartition(b"/")
    if last in (b"", b".", b".."):
        return None
    return (before or b"/") if slash else b".", last


# --- by kind


def _open(fields: Fields) -> Judged:
    path, flags, given = fields.string(), fields.uint32(), codec.attributes(fields)
    if flags & ~codec.OPEN_FLAGS:
        raise Unsupported("OPEN with flags that version 3 does not have")
    return Judged(_open_ops(flags, given), (Named(path),), given.describe())


def _open_ops(flags: int, given: Attributes) -> tuple[SftpOp, ...]:
    """What an OPEN is for. Servers open for reading where nothing else is asked, and truncate and create without being asked to write."""
    ops: list[SftpOp] = []
    if flags & codec.FOR_READ or not flags & (codec.FOR_WRITE | codec.APPEND):
        ops.append("read")
    if flags & codec.APPEND:
        ops.append("append")
    if flags & codec.TRUNCATE or (flags & (codec.FOR_WRITE | codec.CREATE) and not flags & codec.APPEND):
        ops.append("write")
    if given.special:
        ops.append("setstat")  # a new file that runs as its owner is more than a new file
    return tuple(ops)


def _one(op: SftpOp, follow: Follow) -> Callable[[Fields], Judged]:
    def read(fields: Fields) -> Judged:
        return Judged((op,), (Named(fields.string(), follow),))

    return read


def _two(op: SftpOp) -> Callable[[Fields], Judged]:
    def read(fields: Fields) -> Judged:
        return Judged((op,), (Named(fields.string(), "directory"), Named(fields.string(), "directory")))

    return read


def _setstat(follow: Follow) -> Callable[[Fields], Judged]:
    def read(fields: Fields) -> Judged:
        path, given = fields.string(), codec.attributes(fields)
        return Judged(_setstat_ops(given), (Named(path, follow),), given.describe())

    return read


def _fsetstat(fields: Fields) -> Judged:
    handle, given = fields.string(), codec.attributes(fields)
    return Judged(_setstat_ops(given), (), given.describe(), handle=handle)


def _setstat_ops(given: Attributes) -> tuple[SftpOp, ...]:
    """To set the size of a file is to cut it off, or to fill it."""
    return ("setstat",) if given.size is None else ("setstat", "write")


def _mkdir(fields: Fields) -> Judged:
    path, given = fields.string(), codec.attributes(fields)
    return Judged(("mkdir", "setstat") if given.special else ("mkdir",), (Named(path, "directory"),), given.describe())


def _symlink(fields: Fields) -> Judged:
    # the draft has the link first; OpenSSH's server takes its target first, and everybody follows it (PROTOCOL, section 4.1)
    target, link = fields.string(), fields.string()
    return Judged(("symlink",), (Named(link, "directory"), Named(target, within=link)))


def _extended(fields: Fields) -> Judged:
    name = fields.string()
    reader = EXTENSIONS.get(name)
    if reader is None:
        raise Unsupported("an extension that is not known here")
    found = reader(fields)
    if found.ops == ("extended",):
        found.extension = name.decode()
    return found


def _expand(fields: Fields) -> Judged:
    """expand-path: `~` is where relative paths start anyway; `~other` names a directory that nothing here knows."""
    raw = fields.string()
    if raw[:1] == b"~":
        if raw[1:2] not in (b"", b"/"):
            raise Unsupported("a path in the directory of another account")
        raw = raw[1:].lstrip(b"/")
    return Judged(("realpath",), (Named(raw, "none"),))


def _ids(fields: Fields) -> Judged:
    """users-groups-by-id: names of accounts by their numbers."""
    for _ in range(2):
        if len(fields.string()) % 4:
            raise RemoteProtocolError("a list of numbers that is cut short")
    return Judged(("extended",), ())


JUDGED: Final[Mapping[int, Callable[[Fields], Judged]]] = {
    codec.OPEN: _open,
    codec.LSTAT: _one("stat", "directory"),
    codec.STAT: _one("stat", "all"),
    codec.SETSTAT: _setstat("all"),
    codec.FSETSTAT: _fsetstat,
    codec.OPENDIR: _one("list", "all"),
    codec.REMOVE: _one("remove", "directory"),
    codec.MKDIR: _mkdir,
    codec.RMDIR: _one("rmdir", "directory"),
    codec.REALPATH: _one("realpath", "none"),
    codec.RENAME: _two("rename"),
    codec.READLINK: _one("readlink", "directory"),
    codec.SYMLINK: _symlink,
    codec.EXTENDED: _extended,
}
# the extended requests that are judged, each as what it does; `users-groups-by-id` and the like by their name
EXTENSIONS: Final[Mapping[bytes, Callable[[Fields], Judged]]] = {
    b"posix-rename@openssh.com": _two("rename"),
    b"hardlink@openssh.com": _two("hardlink"),
    b"statvfs@openssh.com": _one("stat", "all"),
    b"lsetstat@openssh.com": _setstat("directory"),
    b"expand-path@openssh.com": _expand,
    b"users-groups-by-id@openssh.com": _ids,
}
OFFERED: Final = frozenset(EXTENSIONS) | OF_HANDLES | UNJUDGED  # what the client may hear of in VERSION
