"""Connections through the SSH connection (RFC 4254 section 7), each judged by its destination: -L, -R and what rides on them.

What the target opens towards the client passes only where the client asked for it and a rule allowed that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from hopgate.errors import HopgateError
from relays.commands import CLIENT, SERVER
from relays.ssh import codec, told
from relays.ssh.channel import Answer, Channel, Owner
from relays.ssh.codec import Forward, Open, Request, Tunnel
from relays.ssh.connection import Connection
from relays.wire import RemoteProtocolError
from rules.model import Operation
from rules.printable import visible
from rules.ssh import agent_operation, forward_operation, reverse_forward_operation, x11_operation

if TYPE_CHECKING:
    from relays.ssh.relay import SSHRelay

MAX_ASKED: Final = 64  # global requests that wait
MAX_FORWARDS: Final = 32  # ports that the target listens on for one client
SSH_PORT: Final = 22
JUMP: Final = "to reach a host behind this gateway, log in as its connection's name instead of jumping (no -J)"
AGENT: Final = b"auth-agent-req@openssh.com"
X11: Final = b"x11-req"
_OFFERS: Final = {AGENT: b"auth-agent@openssh.com", X11: b"x11"}  # request of a session's channel -> type of the channels that follow it


class End(Owner):
    """One end of a connection that is forwarded; what comes goes on to the other end."""

    channel: Channel | None = None
    other: End

    def __init__(self, relay: SSHRelay, *, counted: bool) -> None:
        self._relay = relay
        self._counted = counted  # it comes from the target
        self.total = 0
        self._ended = False

    def data(self, data: bytes) -> None:
        self.total += len(data)
        if self._counted:
            self._relay.account(len(data))
        other = self.other.channel
        if other is None or self.channel is None:
            raise RemoteProtocolError("data came before the connection was open")
        other.write(data)
        if not other.queued:
            self.channel.grant()

    def eof(self) -> None:
        if self.other.channel is not None:
            self.other.channel.send_eof()

    def request(self, request: Request, answer: Answer) -> None:
        answer(False)

    def drained(self) -> None:
        if self.other.channel is not None:
            self.other.channel.grant()

    def closed(self) -> None:
        if self.other.channel is not None and not self._ended:
            self._ended = self.other._ended = True
            self.other.channel.close()
            self.finished()

    def finished(self) -> None:
        """Called once for both ends."""
        self.other.finished()


class _Opening(End):
    """The end that we open; the one who wants it is accepted when it is there."""

    def __init__(self, relay: SSHRelay, connection: Connection, opening: Open, label: bytes) -> None:
        super().__init__(relay, counted=connection is relay.client)
        self._connection = connection
        self._opening = opening
        self._label = label
        self.other = End(relay, counted=not self._counted)
        self.other.other = self

    def opened(self, rest: bytes) -> None:
        self.other.channel = self._connection.accept(self._opening, self.other, rest)

    def refused(self, reason: int, text: bytes) -> None:
        self._connection.refuse(self._opening, reason, "the other side does not open it")

    def closed(self) -> None:
        if self.other.channel is None:
            self._connection.refuse(self._opening, codec.CONNECT_FAILED, "the other side is gone")
        super().closed()

    def finished(self) -> None:
        to, back = (self.other.total, self.total) if self._counted else (self.total, self.other.total)
        self._relay.record(SERVER, b"%b closed; %d bytes to the target, %d from it" % (self._label, to, back))


class Forwards:
    """What one client has asked for, and what of it is allowed."""

    def __init__(self, relay: SSHRelay) -> None:
        self._relay = relay
        self._listening: dict[tuple[bytes, int], Forward] = {}  # where the target listens -> as it was asked for
        self._offered: set[bytes] = set()  # types of channels that the target may open
        self._asked: deque[Request] = deque()
        self._working = False

    # --- channels

    def from_client(self, opening: Open) -> None:
        """A channel of another type than `session`."""
        relay = self._relay
        if opening.type == b"direct-tcpip":
            if relay.login.ceilings.port_forwarding:
                relay.spawn(self._direct(opening, Tunnel.parse(opening.rest)), "forward")
            else:
                relay.client.refuse(opening, codec.PROHIBITED, "hopgate: the certificate does not permit forwarding")
        elif opening.type in (b"direct-streamlocal@openssh.com", b"tun@openssh.com"):
            relay.session.note("forward_refused", type=opening.type.decode())
            relay.client.refuse(opening, codec.PROHIBITED, "hopgate: sockets and tunnels are not forwarded")
        elif opening.type == b"session":
            relay.client.refuse(opening, codec.PROHIBITED, "hopgate: the client asked for no more sessions")
        else:
            relay.client.refuse(opening, codec.UNKNOWN_TYPE, "hopgate: no such type of channel")

    async def _direct(self, opening: Open, tunnel: Tunnel) -> None:
        try:
            await self._judge_and_open(opening, tunnel)
        except Exception as error:
            self._relay.failed(error)
            sentence = error.message if isinstance(error, HopgateError) else told.FAILED
            self._relay.client.refuse(opening, codec.PROHIBITED, f"hopgate: {sentence}")

    async def _judge_and_open(self, opening: Open, tunnel: Tunnel) -> None:
        relay = self._relay
        label = b"[forward %b:%d]" % (visible(tunnel.host.decode("utf-8", "replace")).encode(), tunnel.port)
        relay.record(CLIENT, label)
        operation = forward_operation(tunnel.host, tunnel.port)
        decision = await relay.session.authorize(operation)
        if not decision.allowed:
            sentence = told.denied(decision, operation)
            relay.record(SERVER, b"%b REFUSED %b" % (label, sentence.encode()))
            hint = f"; {JUMP}" if tunnel.port == SSH_PORT else ""
            relay.client.refuse(opening, codec.PROHIBITED, f"hopgate: {sentence}{hint}")
            return
        relay.record(SERVER, b"%b ALLOWED by %b" % (label, ", ".join(decision.rules).encode()))
        end = _Opening(relay, relay.client, opening, label)
        end.channel = relay.server.open_channel(b"direct-tcpip", end, opening.rest)
        if end.channel is None:
            relay.client.refuse(opening, codec.SHORTAGE, "hopgate: too many channels are open at the target")

    def from_target(self, opening: Open) -> None:
        """The target opens a channel towards the client."""
        relay = self._relay
        allowed = opening.type in self._offered
        rest = opening.rest
        if opening.type == b"forwarded-tcpip":
            tunnel = Tunnel.parse(rest)
            allowed = (tunnel.host, tunnel.port) in self._listening
        if not allowed:
            relay.server.refuse(opening, codec.PROHIBITED, "nobody asked for it")
            return
        label = b"[%b]" % opening.type
        relay.record(SERVER, b"%b opened" % label)
        end = _Opening(relay, relay.server, opening, label)
        end.channel = relay.client.open_channel(opening.type, end, rest)
        if end.channel is None:
            relay.server.refuse(opening, codec.SHORTAGE, "too many channels are open")

    # --- what a session channel offers to the target

    def offered(self, request: Request) -> Operation | None:
        """The operation of a request that offers something of the client's to the target; None where its certificate does not permit it."""
        ceilings = self._relay.login.ceilings
        if request.name == AGENT:
            return agent_operation() if ceilings.agent else None
        return x11_operation() if ceilings.x11 else None

    def offer(self, request: Request) -> None:
        """A rule allows it: what the target opens for it passes from now on."""
        self._offered.add(_OFFERS[request.name])

    # --- global requests, answered in order: an answer carries no number

    def asked(self, request: Request) -> None:
        if not self._working and not self._waits(request):
            if request.want_reply:
                self._relay.client.reply_global(False)
            return
        if len(self._asked) >= MAX_ASKED:
            raise RemoteProtocolError("too many requests wait behind one that is judged")
        self._asked.append(request)
        if not self._working:
            self._working = True
            self._relay.spawn(self._work(), "global requests")

    @staticmethod
    def _waits(request: Request) -> bool:
        return request.name in (b"tcpip-forward", b"cancel-tcpip-forward")

    async def _work(self) -> None:
        try:
            while self._asked:
                request = self._asked.popleft()
                success, rest = False, b""
                try:
                    if request.name == b"tcpip-forward":
                        success, rest = await self._listen(Forward.parse(request.rest))
                    elif request.name == b"cancel-tcpip-forward":
                        success, rest = await self._cancel(Forward.parse(request.rest))
                except (HopgateError, RemoteProtocolError):
                    pass
                except Exception as error:
                    self._relay.failed(error)
                if request.want_reply:
                    self._relay.client.reply_global(success, rest)
        finally:
            self._working = False

    async def _listen(self, forward: Forward) -> tuple[bool, bytes]:
        relay = self._relay
        label = b"[listen %b:%d]" % (visible(forward.host.decode("utf-8", "replace")).encode(), forward.port)
        relay.record(CLIENT, label)
        operation = reverse_forward_operation(forward.host, forward.port)
        if not relay.login.ceilings.port_forwarding or len(self._listening) >= MAX_FORWARDS:
            relay.record(SERVER, label + b" REFUSED")
            return False, b""
        # nobody waits here: keepalives are answered in the same row, and a client without answers goes away
        decision = await relay.session.authorize(operation, wait=0, outlives=True)
        if not decision.allowed:
            relay.record(SERVER, b"%b REFUSED %b" % (label, told.denied(decision, operation).encode()))
            return False, b""
        relay.record(SERVER, b"%b ALLOWED by %b" % (label, ", ".join(decision.rules).encode()))
        success, rest = await self._ask(Request(b"tcpip-forward", True, forward.build()))
        if success:
            port = forward.port or codec.Fields(rest).uint32()  # RFC 4254 section 7.1: 0 asks for any, and the answer has it
            self._listening[(forward.host, port)] = forward
        return success, rest if not forward.port else b""

    async def _cancel(self, forward: Forward) -> tuple[bool, bytes]:
        if self._listening.pop((forward.host, forward.port), None) is None:
            return False, b""
        return await self._ask(Request(b"cancel-tcpip-forward", True, forward.build()))

    async def _ask(self, request: Request) -> tuple[bool, bytes]:
        found: asyncio.Future[tuple[bool, bytes]] = asyncio.get_running_loop().create_future()

        def replied(success: bool, rest: bytes) -> None:
            if not found.done():
                found.set_result((success, rest))

        self._relay.server.ask(request, replied)
        return await found
