"""Does what a relay says: the one file that turns commands into writes, timers and tasks.

It fails closed: whatever goes wrong in the relay or in here, both sides end, and the client is told where its protocol can.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from hopgate.errors import HopgateError, Unavailable
from hopgate.tasks import spawn
from relays.answers import answer
from relays.commands import (
    CLIENT,
    TLS,
    Abort,
    Blocking,
    Close,
    CloseWrite,
    Command,
    OpenSession,
    Ready,
    Record,
    Register,
    Send,
    Side,
    Signal,
    Start,
    StartTLS,
    Withdraw,
    Work,
)
from relays.legs import ClientLeg, Leg, Pair
from relays.tls import described
from relays.wire import LocalProtocolError, ProtocolError, RemoteProtocolError
from rules.model import Decision

if TYPE_CHECKING:
    from hopgate.sessions import Session
    from relays.outside import Outside
    from relays.relay import Relay
    from relays.transcript import Transcript

STARTUP_SECONDS: Final = 10.0  # for a client to say who it is, and again for the target to let us in
LINGER_SECONDS: Final = 3.0  # a closed side that takes nothing for this long is aborted
WATCH_SECONDS: Final = 1.0  # between looks whether a client that is not read from is still there

_log = logging.getLogger("hopgate.relays")


class Driver:
    """One relay at work."""

    def __init__(self, outside: Outside, relay: Relay, *, beside: Driver | None = None) -> None:
        self.outside = outside
        self.relay = relay
        self.pair = Pair()
        self.transcript: Transcript | None = None
        self.reason = ""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # everything has ended, its session too
        self._loop = asyncio.get_running_loop()
        self._beside = beside
        self._tasks: dict[int, tuple[Blocking, asyncio.Task[None]]] = {}
        self._keys: list[bytes] = []
        self._closing = False
        self._settled = False
        self._ending = False  # the session has ended, and `kill` comes next
        self._deadline: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        outside.drivers.add(self)
        outside.starting.add(self)

    # --- what the legs say

    def connected(self, leg: Leg) -> None:
        """A leg has its transport. With the client's the conversation begins."""
        if self._closing:
            leg.transport.abortConnection()
            return
        self.pair.attach(leg)
        if leg.side == CLIENT:
            self._introduce(leg)
            self._arm(RemoteProtocolError("the client did not finish its start-up in time"))
            self._watch = self._loop.call_later(WATCH_SECONDS, self._look)
            self.run(self.relay.start())

    def _introduce(self, leg: Leg) -> None:
        """Tell the relay who has come, and how."""
        relay, peer = self.relay, leg.transport.getPeer().host
        relay.peer, relay.loopback = peer, ipaddress.ip_address(peer.partition("%")[0]).is_loopback
        relay.offers_tls = self.outside.services.config.tls is not None
        spoken = leg.transport.raw.get_extra_info("ssl_object")
        if spoken is not None:
            relay.tls[CLIENT] = described(spoken, server_side=True)

    def received(self, side: Side, data: bytes) -> None:
        """Bytes that the fast way did not take."""
        self.run(self.relay.receive(side, data))

    def half_closed(self, side: Side) -> None:
        """A side sends nothing any more; it may still read."""
        if not self._closing and not self._ending:
            self.reason = self.reason or f"the {side} closed the connection"
            self.run(self.relay.lost(side))

    def lost(self, side: Side, how: str) -> None:
        """A side's connection is gone; `how` is empty for an orderly end."""
        self.pair.detach(side)
        if not self._closing and not self._ending:
            self.reason = self.reason or f"the {side} {how or 'closed the connection'}"
            self.run(self.relay.lost(side))
            if not self._closing and (side == CLIENT or self.relay.told(side)):
                self._close(None, self.reason)
        if self._closing:
            self._settle()

    def upgraded(self, side: Side, found: TLS) -> None:
        """A side speaks TLS now."""
        leg = self.pair.legs[side]
        if leg is not None:
            self.relay.tls[side] = found
            self.pair.attach(leg)

    # --- running

    def run(self, commands: Iterable[Command]) -> None:
        """Do what the relay says, in order, as it says it."""
        try:
            for command in commands:
                self._do(command)
        except Exception as error:
            self.broken(error)
            return
        if self._beside is not None and self.relay.started and not self._closing:
            self._close(None, "")
        self.pair.balance(self.relay.unread)

    def broken(self, error: Exception) -> None:
        """Fail closed. An error that is not the peer's or a refusal is a defect: only its type is logged, its text may quote a secret."""
        if not isinstance(error, RemoteProtocolError | HopgateError):
            _log.error("relay of %s failed: %s", self._name, type(error).__name__, exc_info=_log.isEnabledFor(logging.DEBUG))
            self.outside.services.metrics.failed_closed("relay")
        told = error if isinstance(error, ProtocolError | HopgateError) else LocalProtocolError("the gateway failed to relay this")
        if isinstance(told, LocalProtocolError):
            told = LocalProtocolError("the gateway failed to relay this", told.code)
        try:
            # what the target has been sent stays, what waits to be sent to it does not go
            self.pair.cut_server()
            for command in self.relay.refuse(told):
                self._do(command)
        except Exception as second:
            _log.error("relay of %s could not say so: %s", self._name, type(second).__name__)
        if not self._closing:
            self._abort("the relay failed")

    def held(self, command: Blocking, decision: Decision) -> None:
        """Reviewers have been asked about `command`."""
        if not self._closing:
            self.run(self.relay.hold(command, decision))

    def kill(self, reason: str) -> None:
        """End now: nothing more reaches the target, the client is told why."""
        self.pair.cut_server()
        if not self._closing:
            self.reason = reason
            self.run(self.relay.kill(reason))

    def adopt(self, session: Session, transcript: Transcript) -> None:
        """The session that has been opened for this relay. It lasts as long as the connection does."""
        relay = self.relay
        relay.session, self.transcript = session, transcript
        relay.record, relay.record_encoded = transcript.add, transcript.add_encoded
        session.busy += 1  # an open connection is not idle
        session.on_close.add(self._session_ended)

    async def run_beside(self, relay: Relay) -> Any:
        """Run a conversation of its own connection to the same target. Returns what it returns; raises what it fails with."""
        driver = Driver(self.outside, relay, beside=self)
        relay.session, relay.peer, relay.loopback = self.relay.session, self.relay.peer, self.relay.loopback
        driver._arm(Unavailable("the target did not answer in time"))
        try:
            driver.run(relay.start())
            await driver.closed
        finally:
            driver._abort("nobody waits for it")
        if relay.failure is not None:
            raise relay.failure
        if not relay.started:
            raise Unavailable(driver.reason or "the target closed the connection")
        return relay.result

    # --- commands

    def _do(self, command: Command) -> None:
        match command:
            case Send(side, data):
                (self.pair.to_client if side == CLIENT else self.pair.to_server)(data)
            case Blocking():
                self._ask(command)
            case Record(messages, flush):
                if self.transcript is not None:
                    self.transcript.extend(messages)
                    if flush:
                        self.transcript.flush()
            case Withdraw(question):
                found = self._tasks.get(id(question))
                if found is not None:
                    found[1].cancel()
            case Close(side, reason):
                self._close(side, reason)
            case CloseWrite(side):
                leg = self.pair.legs[side]
                if leg is not None:
                    leg.transport.loseWriteConnection()
            case Abort(reason):
                self._abort(reason)
            case Ready():
                self._disarm()
                self.outside.starting.discard(self)
                self._hasten()
            case Register(key):
                self.outside.signals.register(key, self._signalled)
                self._keys.append(key)
            case Signal(key):
                self.outside.signals.send(key)
            case Start(relay):
                spawn(self._start_beside(relay), name="conversation beside a relay")
            case _:
                raise TypeError(f"no such command: {type(command).__name__}")

    def _hasten(self) -> None:
        legs = {leg.side: leg for leg in self.pair}
        found = self.relay.faster(self.pair, {side: leg.dataReceived for side, leg in legs.items()}, self.broken)
        for side, receive in found.items():
            legs[side].receive_by(receive)

    def _ask(self, command: Blocking) -> None:
        if self._closing:
            return  # a strand that goes on is not answered any more
        if isinstance(command, StartTLS):
            # before anything else is read: from here on it is the handshake's
            leg = self.pair.legs[command.side]
            if leg is not None and leg.open:
                leg.transport.pauseProducing()
        elif isinstance(command, OpenSession):
            self._disarm()  # a reviewer may be asked; the client has said all
        self._tasks[id(command)] = (command, spawn(self._answer(command), name=f"relay: {type(command).__name__}"))

    async def _answer(self, command: Blocking) -> None:
        try:
            value = await answer(self, command)
        except asyncio.CancelledError:
            return
        except Exception as error:
            if not isinstance(error, HopgateError | ProtocolError) and not isinstance(command, Work):
                self.broken(error)
                return
            commands = self.relay.failed(command, error)
        else:
            commands = self.relay.answered(command, value)
        finally:
            self._tasks.pop(id(command), None)
        if self._closing:
            return
        if isinstance(command, OpenSession):
            self._arm(Unavailable("the target did not finish the start-up in time"))
        self.run(commands)
        if isinstance(command, StartTLS):
            leg = self.pair.legs[command.side]
            if leg is not None and leg.open and not leg.paused:
                leg.transport.resumeProducing()

    async def _start_beside(self, relay: Relay) -> None:
        try:
            await self.run_beside(relay)
        except (HopgateError, ProtocolError) as error:
            _log.warning("beside %s: %s", self._name, error.message)

    # --- ending

    def _close(self, side: Side | None, reason: str) -> None:
        if side is not None:
            leg = self.pair.legs[side]
            if leg is not None:
                leg.transport.finish()
            return
        self.reason = reason or self.reason
        if self._closing:
            return
        self._stop()
        self.pair.finish()
        self._linger = self._loop.call_later(LINGER_SECONDS, self._lingered, self.pair.unsent)
        self._settle()

    def _abort(self, reason: str) -> None:
        self.reason = self.reason or reason
        if not self._closing:
            self._stop()
        self.pair.abort()
        self._settle()

    def _stop(self) -> None:
        self._closing = True
        self._disarm()
        self.outside.starting.discard(self)
        for _ in self.relay.stop():
            pass  # all that it asked for is cancelled here
        for _, task in list(self._tasks.values()):
            if task is not asyncio.current_task():
                task.cancel()
        for key in self._keys:
            self.outside.signals.unregister(key)
        self._keys.clear()

    def _lingered(self, before: int) -> None:
        unsent = self.pair.unsent
        if 0 < unsent < before:
            self._linger = self._loop.call_later(LINGER_SECONDS, self._lingered, unsent)
        else:
            self._linger = None
            self._abort(self.reason)

    def _settle(self) -> None:
        """When both legs are gone, so is the session."""
        if not self.pair.gone or self._settled:
            return
        self._settled = True
        for timer in (self._linger, self._watch):
            if timer is not None:
                timer.cancel()
        if self.transcript is None:
            self._gone()
        else:
            spawn(self._close_session(self.transcript), name="close a session")

    async def _close_session(self, transcript: Transcript) -> None:
        transcript.flush()
        session = self.relay.session
        assert session is not None
        session.on_close.discard(self._session_ended)
        session.busy -= 1
        try:
            await session.close(self.reason or "the connection was closed")
        finally:
            self._gone()

    def _gone(self) -> None:
        self.outside.drivers.discard(self)
        self.closed.set_result(None)

    # --- timers and calls from elsewhere

    def _arm(self, error: ProtocolError | HopgateError) -> None:
        self._disarm()
        self._deadline = self._loop.call_later(STARTUP_SECONDS, self._too_late, error)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self, error: ProtocolError | HopgateError) -> None:
        self._deadline = None
        self.run(self.relay.refuse(error))

    def _look(self) -> None:
        """A client that is not read from says no goodbye: who waits for a reviewer and has gone gives the card back."""
        self._watch = self._loop.call_later(WATCH_SECONDS, self._look)
        client = self.pair.legs[CLIENT]
        if client is not None and client.paused and not self._closing and not client.transport.established:
            self.reason = "the client went away"
            client.transport.abortConnection()

    def _signalled(self) -> None:
        # not at once: whoever signals may be this relay itself, in the middle of a command
        self._loop.call_soon(lambda: None if self._closing else self.run(self.relay.signal()))

    def _session_ended(self, reason: str) -> None:
        # the session may end inside the relay's own call: the target is cut off now, the rest comes after that call
        self._ending = True
        self.pair.cut_server()
        if self.transcript is not None:
            self.transcript.flush()  # while there is a recording
        self._loop.call_soon(self.kill, reason)

    @property
    def _name(self) -> str:
        session = self.relay.session
        return self.relay.kind if session is None else f"session {session.id}"


def client_driver(outside: Outside, relay: Relay) -> ClientLeg:
    """A driver for a client that has just come; give its leg a transport to begin."""
    return ClientLeg(Driver(outside, relay))
