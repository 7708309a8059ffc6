"""One end of a channel: windows (RFC 4254 section 5.2), and what waits to be sent, in order.

The peer may send what its window allows, and gets more only when the owner says that all of it has gone on (`grant`): a reader who is
slow slows its writer, and never fills our memory. End of file, exit status and close wait behind the data that came before them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relays.ssh import codec
from relays.ssh.codec import TWO, Request
from relays.wire import UINT32, RemoteProtocolError

if TYPE_CHECKING:
    from relays.ssh.connection import Connection
    from relays.ssh.lane import Lane

WINDOW: Final = 2 << 20  # bytes that a peer may send before it is granted more
SMALL_WINDOW: Final = 64 << 10  # of further channels, when those that are open have taken the connection's budget
MAX_PACKET: Final = 32 << 10  # bytes of data in one message, RFC 4253 section 6.1
LEAST_PACKET: Final = 1024  # a peer that takes less (0, say) would have us send without end
MAX_REPLIES: Final = 64  # requests of a channel that are not answered, either way

_log = logging.getLogger("hopgate.relays")


type Answer = Callable[[bool], None]


class Owner:
    """What hears of a channel. An exception out of any of these closes the channel, and only that."""

    def opened(self, rest: bytes) -> None:
        """The peer has accepted the channel that we opened."""

    def refused(self, reason: int, text: bytes) -> None:
        """The peer has not; nothing follows."""

    def data(self, data: bytes) -> None:
        raise NotImplementedError

    def extended(self, data: bytes) -> None:
        """Standard error, which only programs have."""
        raise RemoteProtocolError("standard error comes where there is none")

    def eof(self) -> None:
        """The peer sends no more data."""

    def request(self, request: Request, answer: Answer) -> None:
        """A request of the peer's. `answer` is called once, now or later, whether it wants that or not."""
        raise NotImplementedError

    def drained(self) -> None:
        """Nothing waits to be sent any more."""

    def closing(self) -> bool:
        """The peer has closed its end and takes no more data. True: requests may follow, and then our close. OpenSSH closes when both
        directions have ended, and still waits for the exit status."""
        return False

    def closed(self) -> None:
        """The channel is over, or its connection gone. Called once, whatever else failed."""


class Channel:
    """One of a connection's channels. `owner` is set before anything is received."""

    def __init__(self, connection: Connection, number: int, window: int, owner: Owner) -> None:
        self.connection = connection
        self.number = number  # what the peer calls it
        self.owner = owner
        self.window = window  # bytes, when it is full
        self.queued = 0  # bytes of data that wait
        self.ended = False  # we send no more data
        self.gone = False  # `Owner.closed` has been called
        self.lane: Lane | None = None  # the short way of what comes
        self.window_in = window  # bytes that the peer may still send
        self.recipient = -1  # what we call it when we speak to the peer
        self.window_out = 0  # bytes that we may still send
        self.packet_out = 0  # bytes of data in one message to the peer
        self.ready = False  # both ends know it
        self.eof_received = self._close_sent = self.close_received = False
        self.queue: deque[tuple[int, bytes | memoryview]] = deque()
        self._replies: deque[Answer] = deque()  # of the peer's, to our requests
        self._owed: deque[list[bool]] = deque()  # answers to the peer's requests: they carry no number, so none may overtake another
        self._unwanted = False

    def confirm(self, recipient: int, window: int, max_packet: int) -> None:
        """Both ends know the channel now. Raises RemoteProtocolError for a packet size that cannot be worked with."""
        if max_packet < LEAST_PACKET:
            raise RemoteProtocolError(f"a channel must take packets of {LEAST_PACKET} bytes")
        self.recipient, self.window_out, self.packet_out = recipient, window, min(max_packet, MAX_PACKET)
        self.ready = True
        if self._unwanted:
            self._gone()
            self._send_close()

    @property
    def open(self) -> bool:
        """Whether both ends may still speak."""
        return self.ready and not self._close_sent and not self.gone

    # --- sending

    def write(self, data: bytes | memoryview) -> None:
        """Send data, as far as the peer takes it; the rest waits."""
        if self.ended or not data:
            return
        if self.takes_now(len(data)):
            self.send_data(data)
        else:
            self._enqueue(codec.CHANNEL_DATA, data)

    def write_extended(self, data: bytes) -> None:
        """Likewise, as standard error."""
        if self.ended or not data:
            return
        self._enqueue(codec.CHANNEL_EXTENDED_DATA, data)

    def send_after(self, request: Request) -> None:
        """Send a request behind all data: exit-status, exit-signal."""
        if not self._close_sent:
            self.queue.append((codec.CHANNEL_REQUEST, request.build()))
            self.flush()

    def send_request(self, request: Request, replied: Answer | None = None) -> None:
        """Send a request at once, past data that waits: a signal must reach a program that does not read. `replied` is told the answer
        to one that wants it; False as well when the channel closes first. Raises RemoteProtocolError when too many are unanswered."""
        if self._close_sent or not self.ready:
            if replied is not None:
                replied(False)
            return
        if request.want_reply:
            if len(self._replies) >= MAX_REPLIES:
                raise RemoteProtocolError("too many requests of a channel are unanswered")
            self._replies.append(replied or _nobody)
        self._send(codec.CHANNEL_REQUEST, UINT32.pack(self.recipient) + request.build())

    def send_eof(self) -> None:
        """Say, behind all data, that no more comes."""
        if not self.ended:
            self.ended = True
            self.queue.append((codec.CHANNEL_EOF, b""))
            self.flush()

    def close(self) -> None:
        """Close behind all that waits."""
        self.ended = True
        if not self._close_sent:
            self.queue.append((codec.CHANNEL_CLOSE, b""))
            self.flush()

    def abort(self) -> None:
        """Close now; what waits is dropped."""
        self.ended = True
        self._unwanted = not self.ready
        self.queue.clear()
        self.queued = 0
        self._send_close()

    def flush(self) -> None:
        """Send of what waits as much as the peer takes."""
        queue = self.queue
        if not queue or not self.ready:
            return
        while queue and not self.connection.full:
            number, payload = queue[0]
            if number in (codec.CHANNEL_DATA, codec.CHANNEL_EXTENDED_DATA):
                size = min(len(payload), self.window_out)
                if size < len(payload):
                    if not size:
                        return
                    queue[0] = (number, payload[size:])
                    payload = payload[:size]
                else:
                    queue.popleft()
                self.queued -= size
                self.send_data(payload, extended=number == codec.CHANNEL_EXTENDED_DATA)
                continue
            queue.popleft()
            if number == codec.CHANNEL_CLOSE:
                queue.clear()
                self._send_close()
            else:
                self._send(number, UINT32.pack(self.recipient) + payload)
        if not queue:
            self._tell(self.owner.drained)

    def _enqueue(self, number: int, data: bytes | memoryview) -> None:
        self.queue.append((number, data))
        self.queued += len(data)
        self.flush()

    def takes_now(self, size: int) -> bool:
        """Whether so much data may be sent at once and in order: nothing waits, and the peer takes it."""
        return size <= self.window_out and not self.queue and not self.ended and self.ready and not self.connection.full

    def send_data(self, data: bytes | memoryview, *, extended: bool = False) -> None:
        """Send what the peer's window takes now."""
        self.window_out -= len(data)
        limit = self.packet_out
        whole = memoryview(data)
        for at in range(0, len(data), limit):
            piece = whole[at : at + limit]
            if extended:
                self._send(codec.CHANNEL_EXTENDED_DATA, codec.THREE.pack(self.recipient, codec.STDERR, len(piece)), piece)
            else:
                self._send(codec.CHANNEL_DATA, TWO.pack(self.recipient, len(piece)), piece)

    def _send_close(self) -> None:
        if self._close_sent or not self.ready:
            return
        self._close_sent = True
        self._send(codec.CHANNEL_CLOSE, UINT32.pack(self.recipient))
        if self.close_received:
            self._gone()
            self.connection.forget(self)

    def _send(self, number: int, *pieces: bytes | memoryview) -> None:
        self.connection.send(number, *pieces)

    # --- receiving

    def grant(self) -> None:
        """All that the peer has sent has gone on: it may send a whole window again. Told to it when half of one is due."""
        owed = self.window - self.window_in
        if owed * 2 >= self.window and self.open and not self.eof_received and not self.close_received:
            self.window_in = self.window
            self._send(codec.CHANNEL_WINDOW_ADJUST, TWO.pack(self.recipient, owed))

    def takes(self, size: int) -> bool:
        """Whether so many bytes of data may come; else the channel has been closed, or nobody reads them. Raises RemoteProtocolError."""
        if self.close_received:
            raise RemoteProtocolError("data came behind the close of a channel")
        if self.eof_received:
            self.break_off("data came behind the end of file")
        elif size > self.window_in or size > MAX_PACKET:
            self.break_off("more data came than was granted")
        else:
            self.window_in -= size
            return size > 0 and not self.gone
        return False

    def got_data(self, data: bytes | memoryview, *, extended: bool = False) -> None:
        """Data that `takes` has let in, of one message or of several."""
        if self.gone:
            return
        try:
            if extended:
                self.owner.extended(bytes(data))
            elif self.lane is None or not self.lane.take(data):
                self.owner.data(bytes(data))
        except Exception as error:
            self.broken(error)

    def got_window(self, size: int) -> None:
        """Raises RemoteProtocolError for a window beyond 2^32 - 1."""
        self.window_out += size
        if self.window_out > 0xFFFFFFFF:
            raise RemoteProtocolError("the window of a channel is too large")
        self.flush()

    def got_eof(self) -> None:
        if not self.eof_received:
            self.eof_received = True
            self._tell(self.owner.eof)

    def got_request(self, request: Request) -> None:
        answer = self._owe() if request.want_reply else _nobody
        if self.gone:
            answer(False)
        elif len(self._owed) > MAX_REPLIES:
            self.break_off("too many requests wait for an answer")
        else:
            try:
                self.owner.request(request, answer)
            except Exception as error:
                self.broken(error)

    def _owe(self) -> Answer:
        slot: list[bool] = []
        owed = self._owed
        owed.append(slot)

        def answer(success: bool) -> None:
            if not slot:
                slot.append(success)
            while owed and owed[0]:
                (given,) = owed.popleft()
                if not self._close_sent:
                    self._send(codec.CHANNEL_SUCCESS if given else codec.CHANNEL_FAILURE, UINT32.pack(self.recipient))

        return answer

    def got_reply(self, success: bool) -> None:
        """Raises RemoteProtocolError for an answer to nothing."""
        if not self._replies:
            raise RemoteProtocolError("an answer came to a request that was not made")
        replied = self._replies.popleft()
        try:
            replied(success)
        except Exception as error:
            self.broken(error)

    def got_close(self) -> None:
        self.close_received = True
        if not self._close_sent and not self.gone and self._lingers():
            self.ended = True
            kept = [each for each in self.queue if each[0] in (codec.CHANNEL_REQUEST, codec.CHANNEL_CLOSE)]
            self.queue, self.queued = deque(kept), 0
            self.flush()
            self._tell(self.owner.drained)
            return
        self._gone()
        if self._close_sent:
            self.connection.forget(self)
        else:
            self.abort()

    def _lingers(self) -> bool:
        try:
            return self.owner.closing()
        except Exception as error:
            self.connection.peer.failed(error)
            return False

    def lost(self) -> None:
        """The connection is gone."""
        self._close_sent = True
        self.ended = True
        self.queue.clear()
        self._gone()

    def break_off(self, reason: str) -> None:
        """End a channel that cannot go on, on this end; its owner ends the other."""
        _log.info("a channel was closed: %s", reason)
        self._gone()
        self.abort()

    def broken(self, error: Exception) -> None:
        """An owner failed: fail closed. Only the error's type is logged, its text may quote what was sent."""
        if not isinstance(error, RemoteProtocolError):
            self.connection.peer.failed(error)
        self.break_off(error.message if isinstance(error, RemoteProtocolError) else "the gateway failed to relay it")

    def _gone(self) -> None:
        if self.gone:
            return
        self.gone = True
        replies = list(self._replies)
        self._replies.clear()
        for replied in replies:
            self._tell(lambda replied=replied: replied(False))  # type: ignore[misc]
        try:
            self.owner.closed()
        except Exception as error:
            self.connection.peer.failed(error)

    def _tell(self, call: Callable[[], None]) -> None:
        if self.gone and call == self.owner.drained:
            return
        try:
            call()
        except Exception as error:
            self.broken(error)


def _nobody(success: bool) -> None:
    """Who asked does not want to know."""
