"""Requests on their way: named, resolved by the target, judged, carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relays.ssh.sftp.requests import Judged, Named, split_last, textual
from rules.model import Operation


@dataclass(slots=True, eq=False)
class Waiting:
    """One request of the client between its arrival and its answer."""

    id: int
    kind: int
    packet: bytes = field(repr=False)  # as it came; empty once it is sent
    request: Judged
    paths: list[bytes] = field(default_factory=list)  # absolute, as named and as resolved
    reason: str = ""  # why they are not known
    named: int = 0  # how many of `paths` are as the client named them
    unresolved: int = 0
    started: bool = False
    sent: bool = False
    operation: Operation | None = None

    @property
    def writes(self) -> bool:
        return self.request.writes

    def name(self, names: Sequence[Named], home: bytes | None) -> None:
        """Find the paths. Raises AmbiguousPath."""
        for one in names:
            for path in textual(one, home):
                self.add(path)
        self.named = len(self.paths)

    def add(self, path: bytes) -> None:
        if path not in self.paths:
            self.paths.append(path)

    def concerns(self, other: Waiting) -> bool:
        """Whether a path of one is, or holds, a path of the other. What names nothing that is known concerns everything."""
        if not self.paths or not other.paths:
            return True
        return any(_holds(one, two) or _holds(two, one) for one in self.paths for two in other.paths)


@dataclass(slots=True, eq=False)
class Resolution:
    """One question to the target: where does `path` lead? The request's path is what it answers, with `last` behind."""

    waiting: Waiting
    path: bytes
    last: bytes = b""


def resolutions(waiting: Waiting) -> list[Resolution]:
    """What to ask the target before a request is judged."""
    found: dict[tuple[bytes, bytes], Resolution] = {}
    for named in waiting.request.names:
        if named.follow == "none":
            continue
        raw = named.raw
        if named.within is not None and raw[:1] != b"/":
            before = split_last(named.within)
            raw = (before[0] if before else named.within) + b"/" + raw
        split = split_last(raw) if named.follow == "directory" else None
        path, last = split or (raw or b".", b"")
        found[path, last] = Resolution(waiting, path, last)
    return list(found.values())


def _holds(directory: bytes, path: bytes) -> bool:
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")
