"""Line mode: a shell whose prompt is the gateway's. Each line is judged as a command, and runs as an exec of its own.

So it permits what commands are permitted, and no more. There is no terminal on the target: programs that need one do not run here.
What lasts from line to line is the working directory, which is kept here and said again with every command, in the judged bytes.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from hopgate.errors import HopgateError
from relays.commands import CLIENT, SERVER
from relays.ssh import codec, told
from relays.ssh.channel import Answer, Channel
from relays.ssh.codec import Request, Terminal, Variable
from relays.ssh.commands import packed
from relays.ssh.line_editor import MAX_LINE, End, Interrupt, Line, LineEditor
from relays.ssh.program import Program
from relays.ssh.running import Running
from relays.wire import RemoteProtocolError
from rules.model import Decision, Operation
from rules.printable import visible
from rules.shell.command import takes_code_from_channel

if TYPE_CHECKING:
    from hopgate.asciicast import Cast
    from relays.ssh.relay import SSHRelay

BANNER: Final = "each line is judged and runs as a command of its own; there is no terminal for programs here"
MAX_AHEAD: Final = 16 << 10  # bytes that are typed, or lines that are sent, while a command runs; the rest waits with the client
MAX_UNSEEN: Final = 64 << 10  # bytes that the client has not taken yet: until then no more of its keys are looked at
KEYS_AT_ONCE: Final = 512  # before others have their turn
MAX_PATH: Final = 4096  # PATH_MAX
COLUMNS: Final = 80


class LineProgram(Program):
    """One line at work: its end leaves the client's channel as it is."""

    def __init__(self, relay: SSHRelay, client: Channel, label: bytes, decision: Decision, *, terminal: bool, captured: bool) -> None:
        super().__init__(relay, client, label, decision, terminal=terminal)
        self.returns = terminal
        self.status = told.LOST
        self.captured: bytearray | None = bytearray() if captured else None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _say(self, shown: bytes, error: bool) -> None:
        if self.captured is None or error:
            super()._say(shown, error)
        elif len(self.captured) <= MAX_PATH:
            self.captured += shown

    def said_all(self) -> None: ...

    def exited(self, request: Request) -> None:
        self.status = codec.exit_status_of(request.rest) if request.name == b"exit-status" else 128

    def finished(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def interrupt(self) -> None:
        """^C: as a terminal would."""
        if self._channel is not None:
            self._channel.send_request(Request(b"signal", False, codec.string(b"INT")))

    def abandon(self) -> None:
        """It does not end: let it run on without us, as a terminal that is closed does."""
        Program.client_closed(self)
        self.finished()


class LineMode(Running):
    """The shell of one channel, from `begin` to its `exit`."""

    def __init__(
        self,
        relay: SSHRelay,
        channel: Channel,
        label: bytes,
        environment: Mapping[bytes, bytes],
        terminal: Terminal | None,
    ) -> None:
        self.relay = relay
        self.channel = channel
        self.status = 0
        self.cwd = b""  # the account's home, until it changes
        self._label = label
        self._environment = environment
        self._terminal = terminal is not None
        self._editor = LineEditor(columns=terminal.columns or COLUMNS) if terminal is not None else None
        self._cast: Cast | None = None
        if terminal is not None:
            self._cast = relay.cast(channel.number, terminal.columns, terminal.rows)
        self._buffer = bytearray()  # of lines without a terminal
        self._lines: deque[bytes] = deque()
        self._ahead = bytearray()  # keys typed while a command runs
        self._end = False  # no more lines come
        self._interrupted = False
        self._program: LineProgram | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def begin(self) -> None:
        self._tell(BANNER)
        self._prompt()

    # --- what the client says

    def client_data(self, data: bytes) -> None:
        if self._over:
            return
        if self._editor is None:
            self._take_lines(data)
        elif self._task is not None:
            self._type_ahead(data)
        else:
            self._ahead += data
            self._keys()
        self._grant()

    def client_eof(self) -> None:
        self._end = True
        if self._editor is None and self._buffer:
            self._lines.append(bytes(self._buffer))
            self._buffer.clear()
        self._next()

    def client_request(self, request: Request, answer: Answer) -> None:
        if request.name == b"window-change" and self._editor is not None:
            size = codec.Size.parse(request.rest)
            self._editor.columns = size.columns or COLUMNS
            if self._cast is not None:
                self._cast.resize(size.columns, size.rows)
            answer(True)
        elif request.name == b"signal" and codec.one_string(request.rest) == b"INT":
            self._interrupt()
            answer(True)
        else:
            answer(False)

    def client_drained(self) -> None:
        if self._program is not None:
            self._program.client_drained()
        elif self._task is None and not self._over:
            self._keys()
            self._grant()

    def client_closed(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self._program is not None:
            self._program.abandon()
        if self._cast is not None:
            self._cast.close()

    def target_lost(self) -> None:
        self._end = True
        self._lines.clear()
        self.status = told.LOST
        if self._task is None and not self._over:
            self._tell(told.TARGET_LOST)
            self._exit(told.LOST)

    # --- lines

    def _take_lines(self, data: bytes) -> None:
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        if len(rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise RemoteProtocolError("a line is too long")
        self._lines.extend(bytes(line.removesuffix(b"\r")) for line in lines)
        self._next()

    def _keys(self) -> None:
        """Look at the keys that wait, one after the other: what follows a line is for the next prompt. A part of them at a time."""
        editor = self._editor
        if editor is None or self._task is not None or self._over or self.channel.queued > MAX_UNSEEN:
            return
        data = bytes(self._ahead[:KEYS_AT_ONCE])
        at = 0
        while at < len(data) and self._task is None and not self._over and self.channel.queued <= MAX_UNSEEN:
            events = editor.feed(data[at : at + 1])
            at += 1
            for event in events:
                match event:
                    case Line(text):
                        self._lines.append(text.encode())
                    case Interrupt():
                        self._write_echo()
                        self._prompt()
                    case End():
                        self._end = True
            if self._lines or self._end:
                self._write_echo()
                self._next()
        self._write_echo()
        del self._ahead[:at]
        if not self._ahead:
            self._grant()
        elif at == KEYS_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._keys)

    def _type_ahead(self, data: bytes) -> None:
        if b"\x03" in data:
            self._ahead.clear()
            self._interrupt()
            data = data.rpartition(b"\x03")[2]
        room = max(0, MAX_AHEAD - len(self._ahead))
        self._ahead += data[:room]

    def _interrupt(self) -> None:
        if self._program is None:
            if self._task is not None:
                self._task.cancel()  # it waits for a reviewer: the card is withdrawn
            return
        if self._interrupted:
            self._program.abandon()
        self._interrupted = True
        self._program.interrupt()

    def _next(self) -> None:
        """Begin with the next line, or end, unless one runs."""
        if self._task is not None or self._over:
            return
        while self._lines:
            line = self._lines.popleft()
            words = line.split()
            if not words or words[0].startswith(b"#"):
                self._prompt()
                continue
            if words[0] in (b"exit", b"logout"):
                self._exit(int(words[1]) & 0xFF if len(words) > 1 and words[1].isdigit() else self.status)
                return
            self._interrupted = False
            self._task = self.relay.spawn(self._run(line), "a line")
            return
        if self._end:
            self._exit(self.status)

    async def _run(self, line: bytes) -> None:
        try:
            await self._judge_and_run(line)
        except asyncio.CancelledError:
            if self._over or self.relay.client.over:
                raise
            self.status = 130
            self._tell("taken back")
        except (HopgateError, RemoteProtocolError) as error:
            self.status = told.DENIED
            self._tell(error.message)
        except Exception as error:
            self.relay.failed(error)
            self.status = told.DENIED
            self._tell(told.FAILED)
        finally:
            self._task = self._program = None
        if self._over:
            return
        if self.relay.server.over:
            self._exit(told.LOST)
            return
        self._prompt()
        self._next()
        self._keys()
        self._grant()

    async def _judge_and_run(self, line: bytes) -> None:
        relay = self.relay
        alone = await relay.commands.read(line, b"")
        changes = _changes_directory(alone)
        command, context = self._command(line, changes), self._context()
        relay.record(CLIENT, b"%b exec %b" % (self._label, relay.hidden(command)))
        operation = await relay.commands.read(command, context)
        decision = await relay.commands.authorize(operation, command, context, self._held)
        if not decision.allowed or takes_code_from_channel(operation):
            sentence = told.denied(decision, operation) if not decision.allowed else "there is no input for it here"
            relay.record(SERVER, b"%b REFUSED %b" % (self._label, sentence.encode()))
            self._mark(f"refused: {visible(line.decode(errors='replace'))}")
            self.status = told.DENIED
            self._tell(sentence)
            return
        relay.record(SERVER, b"%b ALLOWED by %b" % (self._label, (decision.approval or ", ".join(decision.rules)).encode()))
        self._mark(f"runs: {visible(line.decode(errors='replace'))}")
        program = LineProgram(relay, self.channel, self._label, decision, terminal=self._terminal, captured=changes)
        program.cast = self._cast
        requests = [Request(b"env", False, Variable(*pair).build()) for pair in self._environment.items()]
        if not await program.start([*requests, Request(b"exec", True, codec.string(command))], lambda: None):
            program.give_up()
            self.status = told.DENIED
            self._tell("the target does not run it")
            return
        self._program = program
        program.client_eof()
        program.client_drained()
        await program.done
        self.status = program.status
        if program.captured is not None and not program.status:
            self._changed(bytes(program.captured))

    def _command(self, line: bytes, changes: bool) -> bytes:
        """What is judged and sent for a line: the line itself, in the directory where we are."""
        if not self.cwd and not changes:
            return line
        where = (
            b"cd -- %b && " % shlex.quote(self.cwd.decode(errors="surrogateescape")).encode(errors="surrogateescape") if self.cwd else b""
        )
        return where + b"{\n" + line + b"\n}" + (b" && pwd" if changes else b"")

    def _changed(self, said: bytes) -> None:
        path = said.removesuffix(b"\n")
        if path.startswith(b"/") and b"\n" not in path and len(path) < MAX_PATH:
            self.cwd = path
        else:
            self.status = told.DENIED
            self._tell("the target does not say which directory this is")

    def _context(self) -> bytes:
        variables = (part for pair in sorted(self._environment.items()) for part in pair)
        return packed(self.relay.account_name, b"", *variables)

    # --- what the client is shown

    def _held(self, decision: Decision) -> None:
        self._tell(told.held(decision))
        self.relay.record(SERVER, b"%b HELD %b" % (self._label, decision.message.encode()))

    def _prompt(self) -> None:
        if self._editor is None or self._over:
            return
        where = visible(self.cwd.decode(errors="replace")) or "~"
        self._editor.prompt = f"{self.relay.login.connection}:{where}$ "
        self._editor.show()
        self._write_echo()

    def _write_echo(self) -> None:
        if self._editor is not None:
            self._write(self._editor.take_echo())

    def _tell(self, text: str) -> None:
        line = told.line(text, terminal=self._terminal)
        if self._terminal:
            self._write(line)
        else:
            self.channel.write_extended(line)

    def _write(self, data: bytes) -> None:
        self.channel.write(data)
        if self._cast is not None and data:
            self._cast.output(data)

    def _mark(self, text: str) -> None:
        if self._cast is not None:
            self._cast.marker(text)

    def _grant(self) -> None:
        if len(self._lines) < 64 and (self._task is not None or not self._ahead):
            self.channel.grant()

    def _exit(self, status: int) -> None:
        self._over = True
        if self._terminal:
            self._write(b"\r\n")
        self.channel.send_after(Request(b"exit-status", False, codec.exit_status(status)))
        self.channel.send_eof()
        self.channel.close()
        if self._cast is not None:
            self._cast.close()


def _changes_directory(operation: Operation) -> bool:
    """Whether a line is a `cd` and nothing else."""
    facts = operation.facts
    return operation.complete and not operation.parts and facts.get("programs") == ("cd",) and set(facts.get("facets")) <= {"expansion"}
