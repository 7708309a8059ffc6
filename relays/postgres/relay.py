"""The conversation between a PostgreSQL client and its target: what was judged is what is sent.

Each message of a client is judged by its exact bytes, and those bytes go on. A message that may not is replaced by one that must fail
(denial by substitution): the server itself then rolls back what came before, skips what comes after, and says in which state the
transaction is. Only where nothing is open is an answer made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from hopgate.errors import HopgateError
from relays.commands import (
    CLIENT,
    SERVER,
    Ask,
    Close,
    Command,
    Commands,
    Connect,
    Conversation,
    OpenSession,
    Ready,
    Register,
    Send,
    Side,
    Start,
    Turn,
    Withdrawn,
    Work,
)
from relays.postgres import codec, login, reports, state
from relays.postgres.codec import HEADER, SYNC, check_header, unpack_header
from relays.postgres.extended import Extended
from relays.postgres.replies import FAILED, IDLE, Replies, Reply
from relays.postgres.startup import CancelRequest, Startup, StartupRefused
from relays.postgres.statements import INLINE, MAX_NAMES, Names, Reading, Readings, read
from relays.relay import Relay
from relays.wire import ProtocolError, RemoteProtocolError
from rules.model import Decision, Operation
from rules.sql.postgres import is_small
from rules.sql.session import SessionState

# what stands in the place of a refused statement: it is no SQL, so the server refuses it before it looks at anything
REFUSED: Final = b"hopgate refused this statement"

_NO_CHANGE: Final = 0
_SENT: Final = 1  # a statement is under way after which the session may be another
_ASKED: Final = 2  # the server has been asked what the session is now
_FAILED: Final = 3  # it cannot be asked before the failed transaction ends


class Refused(Exception):
    """A message may not go on. `report` is the ErrorResponse that the client gets for it."""

    def __init__(self, report: bytes) -> None:
        super().__init__()
        self.report = report


class PostgresRelay(Extended, Relay):
    """One client and its target."""

    kind = "postgres"
    direct_tls: ClassVar[tuple[str, ...] | None] = (login.ALPN,)

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.replies = Replies(self.names)
        self.readings = Readings()
        self.state = SessionState(prepared=self.names.prepared)
        self.version = codec.PROTOCOL_3_0
        self._change = _NO_CHANGE
        self._transaction_changed = False
        self._turn: Turn | None = None
        self._dropping = False  # what comes before the next Sync is not sent: the server would skip it
        self._pieces: list[bytes] = []  # of a message that has not come whole
        self._have = self._need = 0
        self._stream_dropped = False
        self._stream = 0  # bytes of CopyData that are passed on as they come
        self._stopped_at: tuple[bytes, bytes, int] | None = None
        self._told: list[bytes] = []  # for the client, between two messages of the server
        self._target_key: codec.BackendKeyData | None = None
        self._early: Decision | None = None

    # --- start-up

    def conversation(self) -> Conversation[None]:
        client_wire = login.Wire(self, CLIENT)
        packet = yield from login.first_packet(client_wire)
        if packet is None:
            yield Close()
            return
        if isinstance(packet, CancelRequest):
            yield from login.cancel(packet)
            return
        if not isinstance(packet, Startup):
            raise RemoteProtocolError("the client asks for encryption twice", "08P01")
        client = yield from login.identify(client_wire, packet)
        self.version = client.version
        session = yield OpenSession(client.principal, client.connection)
        database = self._database(session.connection.database, client.database, client.connection)
        target = yield from login.log_in(self, database, client.settings, client.version)
        self._target_key = target.key
        self.state = state.parse_state((yield from login.ask_state(target.wire)), self.names.prepared)
        if self.state.client_encoding.upper() != "UTF8":
            raise RemoteProtocolError("the target does not speak UTF-8", "22023")
        if target.wire.waiting:
            raise RemoteProtocolError("the target speaks out of turn during the login", "08P01")
        self.replies.parameters = dict(target.parameters)
        self.replies.head.tell = self._recorded
        self.replies.changed = self._parameter_changed
        if client_wire.waiting:
            raise RemoteProtocolError("the client speaks before the server is ready", "08P01")
        key = login.new_key(client.version)
        yield Register(login.cancel_key(key.pid, key.secret))
        statuses = b"".join(codec.ParameterStatus(name, value).build() for name, value in target.parameters.items())
        yield Send(CLIENT, statuses + key.build() + codec.ReadyForQuery(IDLE).build())
        yield Ready()

    @staticmethod
    def _database(configured: str, asked: str, connection: str) -> str:
        # libpq sends the user's name, which is the connection's, where no database was asked for
        if configured and asked not in ("", connection, configured):
            raise StartupRefused(f'the connection leads to the database "{configured}" only', "3D000")
        return configured or ("" if asked == connection else asked)

    # --- from the target

    def pass_server(self, data: bytes) -> bytes | None:
        if self._change or self._turn is not None or self._told:
            return None
        out = self.replies.scan(data)
        if self.replies.ready:
            self._account()
        return out

    def received(self, side: Side, data: bytes) -> Commands:
        if side == CLIENT:
            yield from self._from_client(data)
            return
        out = self.replies.scan(data)
        if self._told and self.replies.between:
            out += b"".join(self._told)
            self._told.clear()
        if out:
            yield Send(CLIENT, out)
        if self.replies.ready:
            self._account()
            yield from self._after_ready()
        if self._turn is not None and self._settled:
            turn, self._turn = self._turn, None
            self.wake(turn)

    def _account(self) -> None:
        """Tell the session what the client has been given. What is over its limits is found by the next operation."""
        assert self.session is not None
        self.session.account(bytes=self.replies.bytes, rows=self.replies.rows)
        self.replies.bytes = self.replies.rows = 0

    def _after_ready(self) -> Commands:
        """The server is ready: ask what the session has become, if the last statement may have changed it."""
        replies = self.replies
        if self._change == _ASKED and not replies.queue:
            self._change = _NO_CHANGE
            if replies.internal_failed:
                raise RemoteProtocolError("the target does not tell its session's state", "08P01")
            self.state = state.parse_state(replies.state_row, self.names.prepared)
            self._transaction_changed = self._transaction_changed and replies.status != IDLE
        elif self._change in (_SENT, _FAILED) and not replies.queue:
            if replies.status == FAILED:
                self._change = _FAILED
                self.state = _unknown(self.state)
            else:
                self._transaction_changed = replies.status != IDLE
                self._change = _ASKED
                replies.state_row, replies.internal_failed = b"", False
                replies.sent_query(Reply("Q", replies.segment, internal=True))
                yield Send(SERVER, state.QUERY)

    @property
    def _settled(self) -> bool:
        return not self.replies.queue and self._change in (_NO_CHANGE, _FAILED)

    def _parameter_changed(self, name: bytes, value: bytes) -> None:
        """A setting that the server reports has another value: some decide how the next statement is read."""
        if name == b"standard_conforming_strings":
            self.state = _replaced(self.state, standard_conforming_strings=value == b"on")
        elif name == b"client_encoding" and value != b"UTF8":
            self.state = _replaced(self.state, client_encoding=value.decode("ascii", "replace"))

    # --- from the client

    def pass_client(self, data: bytes) -> bytes | None:
        out, stopped, at = self._scan(data, 0)
        if stopped is None:
            return out
        self._stopped_at = (out, stopped, at)
        return None

    def _from_client(self, data: bytes) -> Commands:
        if self._stopped_at is not None:
            # pass_client has come this far with the same bytes
            (out, data, at), self._stopped_at = self._stopped_at, None
            stopped: bytes | None = data
        else:
            out, stopped, at = self._scan(data, 0)
        while True:
            if out:
                yield Send(SERVER, out)
            if stopped is None:
                return
            data = stopped
            kind, length = unpack_header(data, at)
            after = at + 1 + length
            try:
                yield from self._think(kind, data[at:after])
            except Refused as refused:
                yield from self._refuse(refused.report)
            out, stopped, at = self._scan(data, after)

    def _scan(self, data: bytes, at: int) -> tuple[bytes, bytes | None, int]:
        """Let messages pass for as long as that needs no thought. What to send, and where in which bytes thought is needed, if it is."""
        if self._need:
            self._pieces.append(data[at:] if at else data)
            self._have += len(data) - at
            if self._have < self._need:
                return b"", None, 0
            data, at = b"".join(self._pieces), 0
            self._pieces, self._have, self._need = [], 0, 0
        out: list[bytes] = []
        end = len(data)
        start = at
        if self._stream:
            passed = min(self._stream, end - at)
            self._stream -= passed
            at += passed
            if self._stream_dropped:
                start = at
        while at + HEADER <= end:
            kind, length = unpack_header(data, at)
            check_header(kind, length, codec.FRONTEND_LIMITS)
            stop = at + 1 + length
            if stop > end:
                if kind == 0x64:
                    self._stream = stop - end
                    self._stream_dropped = not self._takes_copy()
                    if self._stream_dropped:
                        out.append(data[start:at])
                        start = end
                    at = end
                else:
                    self._need = stop - at
                break
            verdict = self._pass(kind, data, at, stop)
            if verdict is None:
                if start < at:
                    out.append(data[start:at])
                return b"".join(out), data, at
            if verdict is not True:
                if start < at:
                    out.append(data[start:at])
                if verdict:
                    out.append(verdict)
                start = stop
            at = stop
        if start < at:
            out.append(data[start:at])
        if at < end:
            self._pieces, self._have = [data[at:]], end - at
            self._need = self._need or HEADER
        return (out[0] if len(out) == 1 else b"".join(out)), None, 0

    def _pass(self, kind: int, data: bytes, at: int, stop: int) -> bool | bytes | None:
        """Whether the message at `at` goes on: True as it is, bytes in its place (b"" for nothing), None when it needs thought."""
        if self._dropping or self.replies.skipping:
            if kind in _SKIPPED:
                return b""
            if kind == 0x53:
                self._dropping = False  # Sync: the server goes on from here
        if kind == 0x51:
            return self._pass_query(data[at + HEADER : stop])
        if kind == 0x53:
            return self._pass_sync()
        if kind == 0x58 or kind == 0x48:
            return True
        if kind in _COPY:
            return self._pass_copy(kind)
        if self._change in (_SENT, _ASKED):
            return None
        return self._pass_extended(kind, data, at, stop)

    def _think(self, kind: int, raw: bytes) -> Commands:
        """Deal with one whole message that did not pass at once. Raises Refused."""
        if kind == 0x51:
            yield from self._think_query(raw)
        elif kind == 0x46:
            yield from self._settle()
            error = reports.error(reports.UNSUPPORTED, "function calls do not go through this gateway: use SELECT")
            yield from self._refuse_query(error)
        else:
            yield from self._think_extended(kind, raw)

    # --- simple queries

    def _pass_query(self, body: bytes) -> bool | None:
        if self._change in (_SENT, _ASKED):
            return None
        sql = body[:-1]
        reading = self.readings.get(sql, self.state)
        if reading is None:
            if b"\0" in sql or body[-1:] != b"\0":
                raise RemoteProtocolError("a string in a message holds a NUL byte, or has no end")
            if len(sql) > INLINE or not is_small(sql):
                return None
            reading = read(sql, self.state)
            self.readings.keep(reading)
        decision = self._decide_now(reading.operation, reading.known)
        if decision is None:
            return None
        reading.known = decision
        self._sent_query(reading)
        return True

    def _think_query(self, raw: bytes) -> Commands:
        yield from self._settle()
        sql = codec.Query.parse(raw[HEADER:]).sql
        reading = yield from self._read(sql)
        try:
            decision = yield from self._decide(reading.operation, reading.known)
            yield from self._check_masks(reading, decision)
        except Refused as refused:
            yield from self._refuse_query(refused.report)
            return
        self._sent_query(reading)
        yield Send(SERVER, raw)

    def _sent_query(self, reading: Reading) -> None:
        replies = self.replies
        self.record(CLIENT, reading.text)
        self._sent(reading)
        replies.sent_query(Reply("Q", replies.segment, reading=reading))

    def _sent(self, reading: Reading) -> None:
        """A statement is about to run: what of it concerns the statements after it."""
        self.replies.copy_over = False
        if reading.changes or self._transaction_changed or self._change == _FAILED:
            self._change = _SENT
        if reading.cursors:
            self.names.portals.clear()
            if reading.forgets_all:
                self.names.forget_all()
            for name in reading.declares:
                if len(self.names.cursors) < MAX_NAMES:
                    self.names.cursors.add(name.encode("utf-8", "surrogateescape"))
            for name in reading.forgets:
                self.names.forget(name.encode("utf-8", "surrogateescape"))

    # --- deciding

    def _read(self, sql: bytes) -> Conversation[Reading]:
        """What a text means in this session; read elsewhere when it is long."""
        known = self.readings.get(sql, self.state)
        if known is not None:
            return known
        here = self.state
        if len(sql) <= INLINE and is_small(sql):
            reading = read(sql, here)
        else:
            reading = yield Work(lambda: read(sql, here))
        self.readings.keep(reading)
        found: Reading = reading
        return found

    def _decide_now(self, operation: Operation, known: Decision | None) -> Decision | None:
        """An allowing decision that needs no waiting and hides nothing, or None."""
        assert self.session is not None
        decision = self.session.authorize_now(operation, known)
        if decision is not None and decision.masks:
            self._early = decision  # what is masked needs thought, but is not to be decided twice
            return None
        return decision

    def _decide(self, operation: Operation, known: Decision | None = None) -> Conversation[Decision]:
        """Raises Refused with what to tell the client."""
        early, self._early = self._early, None
        if early is not None:
            return early
        try:
            decision: Decision = yield from self.decide(operation, known)
        except Withdrawn:
            raise Refused(reports.error(reports.CANCELED, "canceling statement due to user request")) from None
        if not decision.allowed:
            raise Refused(reports.denied(decision))
        return decision

    def _check_masks(self, reading: Reading, decision: Decision) -> Conversation[Any]:
        """Raises Refused where masks forbid the statement. Gives what masks its results."""
        if decision.masks:
            raise Refused(reports.error(reports.DENIED, "masked columns cannot be read here yet"))
        yield from ()
        return None

    def _settle(self) -> Conversation[None]:
        """Wait until the session is known to be what the next statement will find. Raises Refused where that would be for ever."""
        if self._change == _SENT and self.replies.unsynced:
            sentence = "what changes the session must be followed by Sync before the next statement"
            raise Refused(reports.error(reports.UNSUPPORTED, sentence))
        while self._change in (_SENT, _ASKED):
            self._turn = Turn()
            yield self._turn

    # --- refusing

    def _refuse(self, report: bytes) -> Commands:
        """A message of the extended protocol may not go on: the server gets one that fails in its place."""
        yield from self._refuse_extended(report, b"hopgate")

    def _refuse_query(self, report: bytes) -> Commands:
        """A simple query may not run."""
        replies = self.replies
        self.record(SERVER, b"REFUSED " + codec.Report.parse(report[HEADER:]).get(b"M"))
        if replies.idle and replies.status in (IDLE, FAILED):
            yield Send(CLIENT, report + codec.ReadyForQuery(replies.status).build())
            return
        replies.sent_query(Reply("Q", replies.segment, error=report))
        yield Send(SERVER, codec.Query(REFUSED).build())

    def held(self, side: Side, decision: Decision) -> Iterable[Command]:
        if self.replies.between:
            yield Send(CLIENT, reports.held(decision))
        else:
            self._told.append(reports.held(decision))

    def signalled(self) -> Iterable[Command]:
        if isinstance(self.waiting(CLIENT), Ask):
            yield from self.withdraw(CLIENT)
        elif self._target_key is not None:
            yield Start(Canceller(CancelRequest(self._target_key.pid, self._target_key.secret)))

    def ended(self, side: Side) -> Iterable[Command]:
        if side == SERVER and self.replies.between and not self.replies.fatal:
            yield Send(CLIENT, reports.fatal(reports.LOST, "the target closed the connection"))
        yield Close()

    def refused(self, error: ProtocolError | HopgateError) -> Iterable[Command]:
        if self.replies.between:
            yield Send(CLIENT, reports.of(error))

    def killed(self, reason: str) -> Iterable[Command]:
        if self.replies.between:
            yield Send(CLIENT, reports.fatal(reports.ENDED, f"the session was ended: {reason}"))

    # --- COPY

    def _takes_copy(self) -> bool:
        """Whether CopyData goes on; else its COPY has ended, and it is dropped. Raises RemoteProtocolError where there was none."""
        replies = self.replies
        if replies.copy_over:
            return False
        if replies.copying == "in" or any(reply.reading is not None and reply.reading.copies_in for reply in replies.queue):
            return True
        raise RemoteProtocolError("COPY data without a COPY", "08P01")

    def _pass_copy(self, kind: int) -> bool | bytes:
        if not self._takes_copy():
            return b""
        if kind != 0x64:
            self.replies.copy_over = True
        return True

    # --- remembering

    def _recorded(self, text: bytes) -> None:
        self.record(SERVER, text)


class Canceller(Relay):
    """Tells the target to stop what a session does, on a connection of its own (section 54.2.8)."""

    kind = "postgres"

    def __init__(self, request: CancelRequest) -> None:
        super().__init__()
        self._request = request

    def conversation(self) -> Conversation[None]:
        yield from login.connect(self)
        yield Send(SERVER, self._request.build())
        yield Close()


def _replaced(found: SessionState, **changes: Any) -> SessionState:
    from dataclasses import replace

    return replace(found, **changes)


def _unknown(found: SessionState) -> SessionState:
    """The state inside of a failed transaction that had changed it."""
    return _replaced(found, schemas=None)


_SKIPPED: Final = frozenset(b"PBDECHQF")  # what a server ignores between an error and the next Sync
_COPY: Final = frozenset(b"dcf")

__all__ = ["INLINE", "REFUSED", "SYNC", "Canceller", "Connect", "PostgresRelay", "Refused"]
