"""What a program on the target says, on its way to the client: counted, masked, recorded; in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relays.commands import SERVER
from rules.masking import TextStream, compile_plan
from rules.model import Decision

if TYPE_CHECKING:
    from relays.ssh.relay import SSHRelay

IDLE_SECONDS: Final = 0.5  # after which a word that does not end is shown: a prompt
TERMINAL_IDLE_SECONDS: Final = 0.05


class Output:
    """Standard output and standard error of one program.

    `feed` gives what may be sent now, `finish` what is left; what is shown because nothing follows goes to `late`. With `plain` the bytes
    are a file's, or of a protocol that counts them: nothing is hidden in them, and only their number is recorded.
    """

    def __init__(
        self,
        relay: SSHRelay,
        label: bytes,
        decision: Decision,
        late: Callable[[bytes, bool], None],
        *,
        plain: bool = False,
        terminal: bool = False,
    ) -> None:
        self._relay = relay
        self._label = label
        self._operation = decision.operation
        self._late = late
        self._plain = plain
        self._idle = TERMINAL_IDLE_SECONDS if terminal else IDLE_SECONDS
        self._streams: tuple[TextStream, TextStream] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fed = False  # since the timer began
        self._left = 0 if plain else relay.head_bytes
        self._total = 0
        plan = compile_plan(() if plain else decision.masks, secrets=() if plain else relay.literals, hash_key=relay.hash_key)
        if not plan.empty:
            self._streams = (plan.text_stream(), plan.text_stream())

    def feed(self, data: bytes, error: bool) -> bytes:
        """Raises HopgateError when the session may read no more."""
        self.count(len(data))
        streams = self._streams
        if streams is not None:
            stream = streams[error]
            data = stream.feed(data)
            if stream.holding:
                self._fed = True
                if self._timer is None:
                    self._arm()
        if self._left:
            self._record(data, error)
        return data

    def passes(self, size: int) -> bool:
        """Whether so many bytes of standard output go on as they are, counted and no more; else they are to be fed. Raises HopgateError."""
        if self._left or self._streams is not None:
            return False
        self.count(size)
        return True

    def count(self, size: int) -> None:
        """Raises HopgateError when the session may read no more."""
        self._total += size
        self._relay.account(size)

    def finish(self) -> tuple[bytes, bytes]:
        """The rest of both."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        streams, self._streams = self._streams, None
        rest = (b"", b"")
        if streams is not None:
            rest = (streams[0].finish(), streams[1].finish())
            counts: dict[str, int] = {}
            for stream in streams:
                for rule, count in stream.counts.items():
                    counts[rule] = counts.get(rule, 0) + count
            self._relay.masked(self._operation, counts)
        for error in (False, True):
            self._record(rest[error], error)
        return rest

    @property
    def total(self) -> int:
        """Bytes that the program has said."""
        return self._total

    @property
    def cut(self) -> bool:
        """Whether the recording holds less."""
        return not self._left and self._total > 0

    # --- inside

    def _arm(self) -> None:
        self._fed = False
        self._timer = asyncio.get_running_loop().call_later(self._idle, self._quiet)

    def _quiet(self) -> None:
        self._timer = None
        if self._streams is None:
            return
        if self._fed:
            self._arm()
            return
        for error, stream in ((False, self._streams[0]), (True, self._streams[1])):
            shown = stream.idle()
            if shown:
                self._record(shown, error)
                self._late(shown, error)

    def _record(self, data: bytes, error: bool) -> None:
        kept = data[: self._left]
        if not kept:
            return
        self._left -= len(kept)
        self._relay.record(SERVER, b"%b %b\n%b" % (self._label, b"stderr" if error else b"stdout", kept))
