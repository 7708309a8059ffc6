"""A program on the target, for a client's channel: a channel of its own there, from its opening to its close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from hopgate.errors import Unavailable
from relays.commands import SERVER
from relays.ssh import codec, told
from relays.ssh.channel import Answer, Channel, Owner
from relays.ssh.codec import Request
from relays.ssh.lane import Lane
from relays.ssh.output import Output
from relays.ssh.running import Running
from rules.model import Decision

if TYPE_CHECKING:
    from hopgate.asciicast import Cast
    from relays.ssh.relay import SSHRelay

# RFC 4254 sections 6.7 and 6.9, RFC 4335, and OpenSSH's PROTOCOL section 2.1
FROM_CLIENT: Final = frozenset({b"signal", b"break", b"window-change", b"eow@openssh.com"})
FROM_TARGET: Final = frozenset({b"xon-xoff", b"eow@openssh.com"})
LAST: Final = frozenset({b"exit-status", b"exit-signal"})  # behind all that the program said


class Program(Running, Owner):
    """Both ends of one program. `client` gets what it says; `plain` programs speak a protocol of files."""

    def __init__(
        self, relay: SSHRelay, client: Channel, label: bytes, decision: Decision, *, plain: bool = False, terminal: bool = False
    ) -> None:
        self.relay = relay
        self.client = client
        self.cast: Cast | None = None  # of one with a terminal
        self._label = label
        self._terminal = terminal
        self.returns = False  # the client's terminal is raw and the program has none: lines end with a carriage return as well
        self._output = Output(relay, label, decision, self._say, plain=plain, terminal=terminal)
        self._exit: str = ""
        self._opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # why it was not, or nothing
        self._channel: Channel | None = None
        self._started = False
        self._over = False

    async def start(self, requests: Sequence[Request], granted: Callable[[], None]) -> bool:
        """Open the channel and send `requests` in order; whether the target granted the last. `granted` is called as soon as that is so:
        a short program has ended before anybody else runs. Raises Unavailable without a channel."""
        channel = self._channel = self.relay.server.open_channel(b"session", self)
        if channel is None:
            raise Unavailable("the target has no room for another command")
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answer(success: bool) -> None:
            self._started = success
            if success:
                granted()
            if not answered.done():
                answered.set_result(success)

        try:
            if reason := await self._opened:
                raise Unavailable(reason)
            for request in requests[:-1]:
                channel.send_request(request)
            channel.send_request(requests[-1], answer)
            return await answered
        except BaseException:
            self._over = True
            channel.abort()
            raise

    def give_up(self) -> None:
        """The target did not grant it."""
        self._over = True
        if self._channel is not None:
            self._channel.abort()

    def take_short_way(self) -> None:
        if self._channel is not None:
            self.client.lane = Lane(self.client, self._channel, self._passes_in)
            self._channel.lane = Lane(self._channel, self.client, self._passes_out)

    def _passes_in(self, data: bytes | memoryview) -> bool:
        return not self._over

    def _passes_out(self, data: bytes | memoryview) -> bool:
        if self.cast is None and not self.returns and not self._over and self._output.passes(len(data)):
            return True
        self._said(bytes(data), False)
        return False

    # --- what the target says

    def opened(self, rest: bytes) -> None:
        if not self._opened.done():
            self._opened.set_result("")

    def refused(self, reason: int, text: bytes) -> None:
        if not self._opened.done():
            self._opened.set_result("the target does not open a channel for it")

    def data(self, data: bytes) -> None:
        self._said(data, False)

    def extended(self, data: bytes) -> None:
        self._said(data, True)

    def _said(self, data: bytes, error: bool) -> None:
        if self._over:
            return
        shown = self._output.feed(data, error)
        if shown:
            self._say(shown, error)
        if not self.client.queued:
            self._grant()

    def _say(self, shown: bytes, error: bool) -> None:
        if self.returns:
            shown = shown.replace(b"\n", b"\r\n")
        if error and not self._terminal:
            self.client.write_extended(shown)
        else:
            self.client.write(shown)
        if self.cast is not None:
            self.cast.output(shown)

    def _grant(self) -> None:
        if self._channel is not None:
            self._channel.grant()

    def eof(self) -> None:
        if not self._over:
            self._rest()
            self.said_all()

    def request(self, request: Request, answer: Answer) -> None:
        if self._over:
            answer(False)
        elif request.name in LAST:
            self._exit = _ending(request)
            self.exited(_plain_ending(request))
            answer(True)
        elif request.name in FROM_TARGET:
            # of xon-xoff, whether the client may do that; eow has nothing
            self.client.send_request(Request(request.name, False, request.rest[:1] if request.name == b"xon-xoff" else b""))
            answer(True)
        else:
            answer(False)

    def drained(self) -> None:
        self.client.grant()

    def closed(self) -> None:
        if not self._opened.done():
            self._opened.set_result(told.TARGET_LOST)
        if self._over or not self._started:
            return  # whoever waits for it to start says so
        self._over = True
        if self.relay.ending:
            # the connection ends with one line about it: a channel that closed before would let the client go without
            self._rest(send=False)
            self._ended("ended by the gateway")
            return
        self._rest()
        if not self._exit and self.relay.server.over:
            # a target that dies says nothing, and somebody would look for the fault at the gateway
            self._exit = told.TARGET_LOST
            self.client.write_extended(told.line(self._exit, terminal=self._terminal))
            self.exited(Request(b"exit-status", False, codec.exit_status(told.LOST)))
        self._exit = self._exit or "closed without an exit status"
        self._ended(self._exit)
        self.finished()

    # --- what becomes of the client's channel

    def said_all(self) -> None:
        """The program says no more."""
        self.client.send_eof()

    def exited(self, request: Request) -> None:
        """`exit-status` or `exit-signal`."""
        self.client.send_after(Request(request.name, False, request.rest))

    def finished(self) -> None:
        """It is over on the target, after all of its output."""
        self.client.close()
        if self.cast is not None:
            self.cast.close()

    # --- what the client says

    def client_data(self, data: bytes) -> None:
        channel = self._channel
        if channel is None or self._over:
            return
        channel.write(data)
        if not channel.queued:
            self.client.grant()

    def client_eof(self) -> None:
        if self._channel is not None:
            self._channel.send_eof()

    def client_request(self, request: Request, answer: Answer) -> None:
        channel = self._channel
        if channel is None or self._over or request.name not in FROM_CLIENT or (request.name == b"window-change" and not self._terminal):
            answer(False)
            return
        if request.name == b"window-change" and self.cast is not None:
            size = codec.Size.parse(request.rest)
            self.cast.resize(size.columns, size.rows)
        if request.want_reply:
            channel.send_request(request, answer)
        else:
            channel.send_request(request)

    def client_drained(self) -> None:
        self._grant()

    def client_closing(self) -> bool:
        if self._over or self._channel is None:
            return False
        self._channel.close()  # as it would come from the client itself: the target ends it in its own way
        return True

    def client_closed(self) -> None:
        if self._channel is not None:
            self._channel.abort()
        if not self._over:
            self._over = True
            self._rest(send=False)
            self._ended("the client closed the channel")
            if self.cast is not None:
                self.cast.close()

    # --- inside

    def _rest(self, *, send: bool = True) -> None:
        """What was held back by masks."""
        out, error = self._output.finish()
        if send:
            for data, is_error in ((out, False), (error, True)):
                if data:
                    self._say(data, is_error)

    def _ended(self, how: str) -> None:
        output = self._output
        said = f"; {output.total} bytes in all, cut here" if output.cut else ""
        self.relay.record(SERVER, b"%b %b" % (self._label, f"{how}{said}".encode()))


def _plain_ending(request: Request) -> Request:
    """Without the message of an exit-signal: text of the target's that no mask would see."""
    if request.name == b"exit-status":
        return Request(request.name, False, codec.exit_status(codec.exit_status_of(request.rest)))
    fields = codec.Fields(request.rest)
    name = fields.string()[: codec.MAX_NAME]
    dumped = b"\1" if fields.boolean() else b"\0"
    return Request(request.name, False, codec.string(name) + dumped + codec.string(b"") + codec.string(b""))


def _ending(request: Request) -> str:
    if request.name == b"exit-status":
        return f"exit status {codec.exit_status_of(request.rest)}"
    name = codec.Fields(request.rest).string()[: codec.MAX_NAME].decode("ascii", "replace")
    return f"ended by the signal {name}"
