"""A client that has logged in, its session and its target: the two ends of ssh-connection, and what is between them.

A channel of the client's is an owner of its own (`SessionChannel`, `Tunnel`); here is what they share, and how all of it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hopgate.asciicast import CAST, Cast
from hopgate.errors import HopgateError, Misconfigured
from hopgate.mask_key import mask_key
from hopgate.tasks import spawn
from relays.answers import ends_of, open_session
from relays.commands import SERVER, Side
from relays.ssh import codec, told
from relays.ssh.codec import Open, Request
from relays.ssh.commands import Commands
from relays.ssh.connection import Connection
from relays.ssh.forwarding import Forwards
from relays.ssh.session_channel import SessionChannel
from relays.transcript import Transcript
from relays.wire import RemoteProtocolError
from rules.masking import compile_plan

if TYPE_CHECKING:
    from hopgate.sessions import Session
    from relays.ssh.client import ClientTransport
    from relays.ssh.login import Login
    from relays.ssh.server import ServerTransport

DRAIN_SECONDS: Final = 10.0  # for a client to take what is left of a target that is gone
MISCONFIGURED: Final = "the connection is not configured as it must be: ask the gateway's operator"
UNLIMITED: Final = 1 << 62

_log = logging.getLogger("hopgate.relays")


async def on_login(transport: ServerTransport, login: Login) -> Connection:
    """The ssh-connection service of a client that has proved who it is. Raises HopgateError: then it is refused with that sentence."""
    relay = SSHRelay(transport, login)
    try:
        await relay.open()
    except BaseException as error:
        await asyncio.shield(spawn(relay.close("the session did not start"), name="close an ssh session"))
        if isinstance(error, Misconfigured):
            raise Misconfigured(MISCONFIGURED) from None  # its text names files of the gateway's machine
        raise
    return relay.client


class SSHRelay:
    """One client's. `session`, `literals`, `commands` and the rest are there once `open` has returned."""

    session: Session
    commands: Commands
    transcript: Transcript
    upstream: ClientTransport

    def __init__(self, transport: ServerTransport, login: Login) -> None:
        self.transport = transport
        self.login = login
        self.outside = transport.outside
        self.client = Connection(self)
        self.server = Connection(self)
        self.forwards = Forwards(self)
        self.literals: tuple[bytes, ...] = ()  # secrets that are hidden in all output
        self.hash_key = b""
        self.account_name = b""  # whom the target takes us for
        self.head_bytes = 0  # of each program's output that are recorded
        self.left_out: set[bytes] = set()  # names of variables that did not go along
        self._opened = False
        self._connected = False
        self._no_more_sessions = False
        self._terminals = 0
        self._casts: list[Transcript] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = ""
        self._closed = False

    # --- the beginning

    async def open(self) -> None:
        """Open the session and log in at the target. Raises HopgateError."""
        login, transport, services = self.login, self.transport, self.outside.services
        self.session = session = await open_session(
            services,
            login.principal,
            login.connection,
            kind="ssh",
            peer=login.peer,
            held=lambda decision: transport.tell(f"hopgate: {told.held(decision)}"),
        )
        self._opened = True
        session.busy += 1  # an open connection is not idle
        session.on_close.add(self._session_ended)
        transport.at_end(self.close)
        self.transcript = Transcript(session, ends_of(session, transport.transport), session.end)
        recordings = session.config.recordings
        self.head_bytes = {"full": UNLIMITED, "head": recordings.head_bytes, "none": 0}[recordings.results]
        lease = await services.credentials.lease(session.grant)
        session.literals = self.literals = lease.literals
        self.account_name = lease.username.encode()
        self.hash_key = await self.outside.workers.run(lambda: mask_key(session.config.state))
        self.commands = Commands(session, self.outside.workers, session.connection.shell or "bash")
        await self._connect()

    async def _connect(self) -> None:
        from relays.ssh.client import connect_upstream

        self.upstream = await connect_upstream(self.outside, self.session, self.server)
        self._connected = True
        self.transport.pair(self.upstream)
        peer = self.upstream.transport.getPeer()
        self.transcript.connection = replace(self.transcript.connection, server=(peer.host, peer.port), connected=time.time())

    # --- what channels need

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that ends with the connection."""
        task = spawn(work, name=f"ssh: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def record(self, side: Side, text: bytes) -> None:
        """Put one message into the recording."""
        self.transcript.add(side, text)

    def hidden(self, text: bytes) -> bytes:
        """Text of the client's for the recording: the secrets that were injected are no more shown there than in what comes back."""
        return compile_plan((), secrets=self.literals).text(text).data

    def cast(self, channel: int, columns: int, rows: int) -> Cast:
        """A recording of a terminal: asciicast lines as messages of the session's own recording, attested like all of it."""
        self._terminals += 1
        transcript = Transcript(self.session, self.transcript.connection, self.session.end, {CAST: self._terminals, "channel": channel})
        self._casts.append(transcript)
        return Cast(lambda line: transcript.add(SERVER, line), columns, rows, time.monotonic, time.time())

    def account(self, size: int) -> None:
        """Bytes of the target's on their way to the client. Ends the session when they are more than it may read."""
        session = self.session
        session.account(bytes=size)
        if sentence := session.allowance.overdrawn:
            session.end(sentence)
            raise RemoteProtocolError(sentence)

    def masked(self, operation: str, counts: Mapping[str, int]) -> None:
        try:
            self.session.masked(operation, counts)
        except HopgateError as error:
            self.session.end(error.message)

    # --- what the connections say (relays.ssh.connection.Peer)

    def wanted(self, connection: Connection, opening: Open) -> None:
        if connection is self.server:
            self.forwards.from_target(opening)
        elif self._ending or self.server.over:
            connection.refuse(opening, codec.CONNECT_FAILED, "the target is gone")
        elif opening.type == b"session" and not self._no_more_sessions:
            owner = SessionChannel(self)
            owner.channel = connection.accept(opening, owner)
        else:
            self.forwards.from_client(opening)

    def asked(self, connection: Connection, request: Request) -> None:
        if connection is self.client:
            if request.name == b"no-more-sessions@openssh.com":
                self._no_more_sessions = True
            self.forwards.asked(request)
        elif request.want_reply:
            connection.reply_global(False)  # keepalive@openssh.com counts any answer; hostkeys-00@openssh.com wants none

    def failed(self, error: Exception) -> None:
        # only the type: the text of an unexpected error may quote what was sent
        if isinstance(error, HopgateError | RemoteProtocolError):
            return
        _log.error("ssh of %s failed: %s", self._name, type(error).__name__, exc_info=error if _log.isEnabledFor(logging.DEBUG) else None)
        self.outside.services.metrics.failed_closed("relay")

    def violated(self, connection: Connection, error: RemoteProtocolError) -> None:
        whose = "the client" if connection is self.client else "the target"
        _log.info("ssh of %s: %s: %s", self._name, whose, error.message)
        self.end(error.message if connection is self.client else "the target broke the protocol")

    def lost(self, connection: Connection) -> None:
        if connection is self.client:
            for task in tuple(self._tasks):
                task.cancel()
            self._cut_target()
        elif not self._ending and not self.client.over:
            # what the target said last is still on its way: the client is let go when it has that
            self._ending = (self._connected and self.upstream.ended_because) or told.TARGET_LOST
            self.transport.other = self.upstream.other = None
            for channel in tuple(self.client.channels.values()):
                if isinstance(channel.owner, SessionChannel):
                    channel.owner.target_lost()
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.transport.end, self._ending)
            self.idle(self.client)

    def idle(self, connection: Connection) -> None:
        if connection is self.client and self._ending and not connection.channels:
            self.transport.end(self._ending)

    # --- the end

    def end(self, reason: str) -> None:
        """End both sides now, the client with one line."""
        if not self._ending:
            self._ending = reason
        self._cut_target()
        self.transport.end(reason)

    def _session_ended(self, reason: str) -> None:
        # the session may end inside a call of ours: the target is cut off now, the rest comes after that call
        self._ending = self._ending or reason
        self._cut_target()
        self._flush()  # while there is a recording
        asyncio.get_running_loop().call_soon(self.transport.end, f"the session was ended: {reason}")

    def _flush(self) -> None:
        if hasattr(self, "transcript"):
            for transcript in (self.transcript, *self._casts):
                transcript.flush()

    def _cut_target(self) -> None:
        if self._connected:
            self.upstream.other = None
            self.upstream.abort()

    async def close(self, reason: str) -> None:
        """The connection is gone, and the session with it. Raises nothing."""
        if self._closed or not self._opened:
            return
        self._closed = True
        self._cut_target()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # a card that nobody waits for is withdrawn first
        session = self.session
        self._flush()
        session.on_close.discard(self._session_ended)
        session.busy -= 1
        with contextlib.suppress(HopgateError):
            await session.close(self._ending or reason or "the connection was closed")

    @property
    def ending(self) -> bool:
        """Whether it is us who end it."""
        return bool(self._ending)

    @property
    def _name(self) -> str:
        return f"session {self.session.id}" if self._opened else "a client"


__all__ = ["SSHRelay", "on_login"]
