"""The base of every relay: bytes and answers in, commands out. No I/O, no clock, no tasks.

A relay has a client side and a server side. It begins with `conversation()`, one generator that speaks with both in turns (`Read`), and
then is live: each side has a strand of its own, and a strand that asks (`decision = yield Ask(operation)`) stands still with what arrives
behind it, while the other side goes on. For bytes that need no thought there is a fast way past all of it: `pass_client`, `pass_server`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hopgate.errors import HopgateError
from relays.commands import (
    CLIENT,
    SERVER,
    TLS,
    Abort,
    Ask,
    Blocking,
    Close,
    Command,
    Commands,
    Conversation,
    Message,
    Outlets,
    Read,
    Side,
    Turn,
    Withdraw,
    Withdrawn,
)
from relays.wire import ProtocolError
from rules.model import Decision, Operation

if TYPE_CHECKING:
    from hopgate.sessions import Session


@dataclass(slots=True, eq=False)
class _Strand:
    """A generator of the conversation, and the question that it stands at."""

    side: Side | None = None  # None: the start-up, which reads both
    generator: Generator[Command, Any, Any] | None = None
    waiting: Blocking | None = None


@dataclass(slots=True, eq=False)
class _Inbox:
    """What has come from a side and nobody has looked at yet."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: bool = False
    told: bool = False  # `ended` has been called

    def take(self) -> bytes:
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self.size = 0
        return data


class Relay:
    """One client's conversation with one target. A protocol overrides the first group of methods; the driver and tests call the second.

    ProtocolError and HopgateError out of the first group end the conversation through `refused`; anything else is a defect of ours, goes
    on to the driver, and ends it too.
    """

    kind = ""  # of connections that this relay serves: "postgres"
    direct_tls: tuple[str, ...] | None = None  # ALPN names for clients that begin with a TLS hello; None = not spoken

    def __init__(self) -> None:
        self.session: Session | None = None  # set by the answer to OpenSession
        self.peer = ""  # IP address of the client
        self.loopback = False  # whether the client is on this machine: cleartext passwords are acceptable there
        self.tls: dict[Side, TLS | None] = {CLIENT: None, SERVER: None}
        self.server_address: tuple[str, int] | None = None
        self.offers_tls = False  # whether StartTLS(CLIENT) can be done: there is a certificate
        self.result: Any = None  # what `conversation` returned
        self.failure: ProtocolError | HopgateError | None = None  # what ended it
        self.record: Callable[[Side, bytes], None] = self._remember  # the fast way's Record: what is recorded without a command
        self.recorded: list[Message] = []  # where that goes without a driver
        self.record_encoded: Callable[[bytes, float], None] = _nowhere  # many messages at once, as hopgate.flow_format writes them
        # the driver calls pass_client and pass_server only while these are false
        self.client_busy = self.server_busy = True
        self.over = False
        self._woken: list[Turn] = []
        self._start = _Strand()
        self._strands: dict[Side, _Strand] = {CLIENT: _Strand(CLIENT), SERVER: _Strand(SERVER)}
        self._inboxes: dict[Side, _Inbox] = {CLIENT: _Inbox(), SERVER: _Inbox()}

    # --- what a protocol says

    def conversation(self) -> Conversation[Any]:
        """Start-up: from the first byte to where both sides may speak freely. May end with `yield Close()`."""
        yield from ()

    def received(self, side: Side, data: bytes) -> Commands:
        """Bytes from a side that is live. May `Read` more from that same side, and no other."""
        raise NotImplementedError

    def pass_client(self, data: bytes) -> bytes | None:
        """The fast way from client to server: what is to be sent there for `data` right now (b"" = nothing yet), without any command.

        None, with nothing taken and nothing changed, sends `data` the slow way, through `received`.
        """
        return None

    def pass_server(self, data: bytes) -> bytes | None:
        """The fast way from server to client, likewise."""
        return None

    def faster(
        self, outlets: Outlets, legs: Mapping[Side, Callable[[bytes], None]], failed: Callable[[Exception], None]
    ) -> Mapping[Side, Callable[[bytes], None]]:
        """Who is given the bytes of the sides from now on, in the place of the legs' `dataReceived`; asked once, at Ready.

        They do what `Leg.dataReceived` does, with less between the loop and them, and hand on to it whatever they do not take.
        """
        return {}

    def held(self, side: Side, decision: Decision) -> Iterable[Command]:
        """An operation that was asked for waits for reviewers: `decision.approval` is their card, `decision.message` says what and why."""
        return ()

    def ended(self, side: Side) -> Iterable[Command]:
        """A side sends nothing any more; all that it sent has been received. Without an answer from here both sides are closed."""
        return (Close(),)

    def signalled(self) -> Iterable[Command]:
        """Another connection named a key that this relay has registered."""
        return ()

    def refused(self, error: ProtocolError | HopgateError) -> Iterable[Command]:
        """The conversation ends with this: what to tell the client. Closing is not this method's task."""
        return ()

    def killed(self, reason: str) -> Iterable[Command]:
        """The session was ended (killed, expired, locked, the gateway stops): what to tell the client. The server is gone already."""
        return ()

    # --- what a protocol calls

    def decide(self, operation: Operation, known: Decision | None = None) -> Conversation[Decision]:
        """`decision = yield from self.decide(operation)`: at once where that can be, else by `Ask`."""
        assert self.session is not None, "nothing is decided before a session is open"
        decision = self.session.authorize_now(operation, known)
        return decision if decision is not None else (yield Ask(operation))

    def wake(self, command: Turn) -> None:
        """Let the strand that waits at `command` go on, as soon as the one that runs now stands still."""
        self._woken.append(command)

    def waiting(self, side: Side) -> Blocking | None:
        """The question at which a side's strand stands."""
        return self._strands[side].waiting

    def withdraw(self, side: Side) -> Commands:
        """Take back what a side's strand waits for: it goes on with Withdrawn raised at its `yield`."""
        strand = self._strands[side]
        if strand.waiting is None or strand.generator is None:
            return
        yield from _take_back(strand)
        yield from self._step(strand, strand.generator.throw, Withdrawn())
        yield from self._drain()

    # --- what the driver calls

    def start(self) -> Commands:
        """Begin the conversation."""
        yield from self._run(self._start, self.conversation())
        yield from self._drain()

    def receive(self, side: Side, data: bytes) -> Commands:
        """Bytes came from a side."""
        if self.over:
            return
        inbox = self._inboxes[side]
        inbox.chunks.append(data)
        inbox.size += len(data)
        yield from self._drain()

    def answered(self, command: Blocking, value: Any) -> Commands:
        """The answer to a blocking command. One that nobody waits for any more is dropped."""
        strand = self._waiting_at(command)
        if strand is not None and strand.generator is not None:
            yield from self._step(strand, strand.generator.send, value)
            yield from self._drain()

    def failed(self, command: Blocking, error: Exception) -> Commands:
        """A blocking command has failed: its error is raised at the strand's `yield`."""
        strand = self._waiting_at(command)
        if strand is not None and strand.generator is not None:
            yield from self._step(strand, strand.generator.throw, error)
            yield from self._drain()

    def decided(self, decision: Decision, side: Side = CLIENT) -> Commands:
        """The answer to a side's `Ask`."""
        command = self._strands[side].waiting
        assert isinstance(command, Ask), "nothing was asked"
        yield from self.answered(command, decision)

    def lost(self, side: Side) -> Commands:
        """A side has ended. What it sent before is worked off first; but what is asked for a client is taken back: nobody waits for it."""
        self._inboxes[side].ended = True
        if self.over:
            return
        if side == CLIENT and self._abandoned():
            # its operations that were not yet decided are not executed
            yield from self._leave()
            return
        yield from self._drain()

    def hold(self, command: Blocking, decision: Decision) -> Commands:
        """What was asked with `command` waits for reviewers."""
        strand = self._waiting_at(command)
        if strand is not None:
            yield from self._say(self.held(strand.side or CLIENT, decision))

    def signal(self) -> Commands:
        """Somebody named a key of this relay."""
        if not self.over:
            yield from self._say(self.signalled())

    def kill(self, reason: str) -> Commands:
        """The session was ended by somebody else: tell the client, close."""
        yield from self.stop()
        yield from self.killed(reason)
        yield Close(reason=reason)

    def told(self, side: Side) -> bool:
        """Whether `ended` has been called for a side."""
        return self._inboxes[side].told

    @property
    def started(self) -> bool:
        """Whether `conversation` has returned."""
        return self._start.generator is None

    def unread(self, side: Side) -> int:
        """Bytes that wait behind a question: the driver pauses reading before they are too many."""
        return self._inboxes[side].size

    def stop(self) -> Commands:
        """Nothing is received from now on; what is asked is taken back."""
        self.over = True
        self.client_busy = self.server_busy = True
        for strand in (self._start, *self._strands.values()):
            yield from _take_back(strand)
            generator, strand.generator = strand.generator, None
            if generator is not None:
                with contextlib.suppress(ValueError):  # it runs right now, and yields nothing more
                    generator.close()
        for inbox in self._inboxes.values():
            inbox.take()

    def refuse(self, error: ProtocolError | HopgateError) -> Commands:
        """End the conversation: tell the client, close both sides."""
        if self.over:
            return
        self.failure = error
        yield from self.stop()
        yield from self.refused(error)
        yield Close(reason=error.message)

    # --- strands

    def _say(self, commands: Iterable[Command]) -> Commands:
        """Commands from outside any strand."""
        try:
            for command in commands:
                yield command
                if _ends(command):
                    yield from self.stop()
                    return
        except (ProtocolError, HopgateError) as error:
            yield from self.refuse(error)

    def _remember(self, side: Side, text: bytes) -> None:
        self.recorded.append(Message(side, text))

    def _waiting_at(self, command: Blocking) -> _Strand | None:
        strands = (self._start, *self._strands.values())
        return next((strand for strand in strands if strand.waiting is command), None)

    def _run(self, strand: _Strand, generator: Generator[Command, Any, Any]) -> Commands:
        strand.generator = generator
        yield from self._step(strand, generator.send, None)

    def _step(self, strand: _Strand, resume: Callable[[Any], Command], value: Any) -> Commands:
        """Run a strand until it asks or returns."""
        generator = strand.generator
        assert generator is not None
        strand.waiting = None
        try:
            while True:
                command = resume(value)
                resume, value = generator.send, None
                if type(command) is Read:
                    inbox = self._inboxes[command.side]
                    if not inbox.chunks and not inbox.ended:
                        strand.waiting = command
                        return
                    value = inbox.take()
                elif type(command) is Turn:
                    strand.waiting = command
                    return
                elif isinstance(command, Blocking):
                    strand.waiting = command
                    yield command
                    return
                else:
                    yield command
                    if _ends(command):
                        yield from self.stop()
                    if self.over:
                        return
        except StopIteration as returned:
            strand.generator = None
            if strand is self._start:
                self.result = returned.value
        except (ProtocolError, HopgateError) as error:
            strand.generator = None
            yield from self.refuse(error)

    def _drain(self) -> Commands:
        """Hand out what has come, for as long as somebody takes it; then tell who has ended."""
        going = True
        while going and not self.over:
            going = bool(self._woken)
            while self._woken:
                strand = self._waiting_at(self._woken.pop(0))
                if strand is not None and strand.generator is not None:
                    yield from self._step(strand, strand.generator.send, None)
            for side in (CLIENT, SERVER):
                if self._wants(side):
                    going = True
                    yield from self._hand_out(side)
                elif self._is_told(side):
                    going = True
                    yield from self._say(self.ended(side))
        starting = self._start.generator is not None
        self.client_busy = self.over or starting or self._strands[CLIENT].generator is not None
        self.server_busy = self.over or starting or self._strands[SERVER].generator is not None

    def _reader(self, side: Side) -> _Strand:
        return self._start if self._start.generator is not None else self._strands[side]

    def _wants(self, side: Side) -> bool:
        """Whether bytes (or the end, for a strand that reads) of this side have a taker."""
        inbox, strand = self._inboxes[side], self._reader(side)
        if strand.generator is None:
            return bool(inbox.chunks)
        reads = type(strand.waiting) is Read and strand.waiting.side == side
        return reads and bool(inbox.chunks or inbox.ended)

    def _hand_out(self, side: Side) -> Commands:
        strand, data = self._reader(side), self._inboxes[side].take()
        if strand.generator is None:
            yield from self._run(strand, self.received(side, data))
        else:
            yield from self._step(strand, strand.generator.send, data)

    def _is_told(self, side: Side) -> bool:
        """Whether it is time to call `ended`; true once."""
        inbox = self._inboxes[side]
        if not inbox.ended or inbox.told or inbox.chunks or self._reader(side).generator is not None:
            return False
        inbox.told = True
        return True

    def _abandoned(self) -> bool:
        """Whether a strand that acts for the client stands at a question which is not a Read."""
        strand = self._reader(CLIENT)
        return strand.waiting is not None and type(strand.waiting) not in (Read, Turn)

    def _leave(self) -> Commands:
        yield from self.stop()
        yield Close(reason="the client went away")


def _nowhere(messages: bytes, first: float) -> None:
    """Where encoded messages go without a driver."""


def _ends(command: Command) -> bool:
    return type(command) is Abort or (type(command) is Close and command.side is None)


def _take_back(strand: _Strand) -> Commands:
    command, strand.waiting = strand.waiting, None
    if command is not None and type(command) not in (Read, Turn):
        yield Withdraw(command)
