"""The conversation between a PostgreSQL client and its target: what was judged is what is sent.

Each message of a client is judged by its exact bytes, and those bytes go on. A message that may not is replaced by one that must fail
(denial by substitution): the server itself then rolls back what came before, skips what comes after, and says in which state the
transaction is. Only where nothing is open is an answer made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from hopgate.errors import HopgateError
from relays.commands import (
    CLIENT,
    SERVER,
    Ask,
    Close,
    Command,
    Commands,
    Conversation,
    OpenSession,
    Ready,
    Register,
    Send,
    Side,
    Start,
)
from relays.postgres import codec, login, reports, state
from relays.postgres.beside import Canceller
from relays.postgres.codec import HEADER, check_header, unpack_header
from relays.postgres.copy_data import CopyData
from relays.postgres.judging import ASKED, SENT, Refused
from relays.postgres.masks import Judged
from relays.postgres.pending import IDLE, Reply
from relays.postgres.startup import CancelRequest, Startup, StartupRefused
from relays.postgres.statements import INLINE, Reading, read
from relays.wire import ProtocolError, RemoteProtocolError
from rules.model import Decision
from rules.sql.postgres import is_small

if TYPE_CHECKING:
    pass


class PostgresRelay(CopyData):
    """One client and its target."""

    direct_tls = (login.ALPN,)

    def __init__(self) -> None:
        super().__init__()
        self.version = codec.PROTOCOL_3_0
        self._pieces: list[bytes] = []  # of a message that has not come whole
        self._have = self._need = 0
        self._stream_dropped = False
        self._stream = 0  # bytes of CopyData that are passed on as they come
        self._stopped_at: tuple[bytes, bytes, int] | None = None
        self._told: list[bytes] = []  # for the client, between two messages of the server
        self._target_key: codec.BackendKeyData | None = None

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
        self.replies.counted = session.masked
        yield from self._prepare_masks(session)
        if client_wire.waiting:
            raise RemoteProtocolError("the client speaks before the server is ready", "08P01")
        key = login.new_key(client.version)
        yield Register(login.cancel_key(key.pid, key.secret))
        statuses = b"".join(codec.ParameterStatus(name, value).build() for name, value in target.parameters.items())
        yield Send(CLIENT, statuses + key.build() + codec.ReadyForQuery(IDLE).build())
        self._begin_fast_path()
        yield Ready()

    @staticmethod
    def _database(configured: str, asked: str, connection: str) -> str:
        # libpq sends the user's name, which is the connection's, where no database was asked for
        if configured and asked not in ("", connection, configured):
            raise StartupRefused(f'the connection leads to the database "{configured}" only', "3D000")
        return configured or ("" if asked == connection else asked)

    # --- from the target

    def pass_server(self, data: bytes) -> bytes | None:
        core = self._core
        if core is not None and core.open:
            if (out := core.server(data)) is not None:
                return out
            self._leave_fast_path()
        if self._change or self._turn is not None or self._told or self._defined:
            return None
        out = self.replies.scan(data)
        self._account()
        if self.replies.ready:
            self._enter_fast_path()
        return out

    def received(self, side: Side, data: bytes) -> Commands:
        self._leave_fast_path()
        if side == CLIENT:
            yield from self._from_client(data)
            return
        out = self.replies.scan(data)
        self._account()
        if self._told and self.replies.between:
            out += b"".join(self._told)
            self._told.clear()
        if out:
            yield Send(CLIENT, out)
        if self.replies.ready:
            yield from self._after_ready()
        if self._turn is not None and (self._settled or self._listens):
            turn, self._turn = self._turn, None
            self.wake(turn)
        elif self.replies.ready:
            self._enter_fast_path()

    # --- from the client

    @property
    def _partial(self) -> bool:
        """A message of the client's has not come whole."""
        return bool(self._need or self._pieces or self._stream)

    def _midway(self) -> bool:
        return bool(self._stream) and not self._stream_dropped

    def pass_client(self, data: bytes) -> bytes | None:
        core = self._core
        if core is not None and core.open:
            if (passed := core.client(data)) is not None:
                return passed
            self._leave_fast_path()
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
                yield from self._refuse(refused)
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
        end, limits = len(data), codec.FRONTEND_LIMITS
        start = at
        if self._stream:
            passed = min(self._stream, end - at)
            self._stream -= passed
            at += passed
            if self._stream_dropped:
                start = at
        while at + HEADER <= end:
            kind, length = unpack_header(data, at)
            if not 4 <= length <= limits.get(kind, 0):
                check_header(kind, length, limits)
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
        if kind == 0x58 or kind == 0x48:
            return True
        if kind in _COPY:
            return self._pass_copy(kind)
        if self.replies.queue and (len(self.replies.queue) >= MAX_UNANSWERED or self._waits_for_copy(kind)):
            return None
        if kind == 0x51:
            return self._pass_query(data[at + HEADER : stop])
        if kind == 0x53:
            return self._pass_sync()
        if self._change in (SENT, ASKED):
            return None
        return self._pass_extended(kind, data, at, stop)

    def _think(self, kind: int, raw: bytes) -> Commands:
        """Deal with one whole message that did not pass at once. Raises Refused."""
        if len(self.replies.queue) >= MAX_UNANSWERED:
            while len(self.replies.queue) > MAX_UNANSWERED // 2:
                yield from self._listen()
        yield from self._await_copy(kind)
        if kind == 0x53:
            if self._pass_sync():
                yield Send(SERVER, raw)
        elif kind == 0x51:
            yield from self._think_query(raw)
        elif kind == 0x46:
            yield from self._settle()
            error = reports.error(reports.UNSUPPORTED, "function calls do not go through this gateway: use SELECT")
            yield from self._refuse_query(Refused(error))
        else:
            yield from self._think_extended(kind, raw)

    # --- simple queries

    def _pass_query(self, body: bytes) -> bool | None:
        if self._change in (SENT, ASKED):
            return None
        sql = body[:-1]
        reading = self.readings.get(sql, self.state)
        if body[-1:] != b"\0" or (reading is None and b"\0" in sql):
            raise RemoteProtocolError("a string in a message holds a NUL byte, or has no end")
        if reading is None:
            if len(sql) > INLINE or not is_small(sql):
                return None
            reading = read(sql, self.state)
            self.readings.keep(reading)
        decision = None if self._may_run_late(reading) else self._decide_now(reading.operation, reading.known)
        if decision is None:
            self._passing = reading
            return None
        reading.known = decision
        self._sent_query(reading, decision.operation)
        return True

    def _think_query(self, raw: bytes) -> Commands:
        sql = codec.Query.parse(raw[HEADER:]).sql
        self._refusals.judging(sql)
        try:
            yield from self._settle()
            reading = yield from self._read(sql)
            decision = yield from self._decide(reading.operation, reading.known)
            judged = yield from self._check_masks(reading, decision)
            self._check_late(reading)
        except Refused as refused:
            yield from self._refuse_query(refused)
            return
        if not decision.approval:
            reading.known = decision
        if not self.replies.skipping:
            self._sent_query(reading, decision.operation, judged)
            yield Send(SERVER, raw)

    def _sent_query(self, reading: Reading, operation: str, judged: Judged | None = None) -> None:
        replies = self.replies
        self.record(CLIENT, reading.text if judged is None else judged.shown(reading.text))
        self._sent(reading)
        if judged is not None:
            replies.judged = judged
        reply = Reply("Q", replies.segment, reading=reading, judged=judged, operation=operation)
        if reading.declares:
            reply.openings = self.names.openings
        replies.sent_query(reply)

    # --- refusing

    def _refuse(self, refused: Refused) -> Commands:
        """A message of the extended protocol may not go on: the server gets one that fails in its place."""
        yield from self._refuse_extended(refused, b"hopgate")

    def held(self, side: Side, decision: Decision) -> Iterable[Command]:
        if self.started:
            self._record_held(decision)
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

    # --- remembering

    def _recorded(self, text: bytes) -> None:
        self.record(SERVER, text)


_SKIPPED: Final = frozenset(b"PBDECHQF")  # what a server ignores between an error and the next Sync
_COPY: Final = frozenset(b"dcf")
MAX_UNANSWERED: Final = 10_000  # messages of a client; beyond, it waits: five bytes of it would be some hundred bytes here
