"""A client's channel of the type `session` (RFC 4254 section 6): variables, a terminal, and the one thing that is started on it.

What is started is judged first, by its exact bytes, and those bytes are what the target gets. Until then everything that the client
sends waits here, bounded by the window, and nothing overtakes anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from hopgate.errors import HopgateError
from relays.commands import CLIENT, SERVER
from relays.ssh import codec, told
from relays.ssh.channel import Answer, Channel, Owner
from relays.ssh.codec import Request, Terminal, Variable
from relays.ssh.commands import packed
from relays.ssh.environment import passes
from relays.ssh.forwarding import AGENT, X11
from relays.ssh.line_mode import LineMode
from relays.ssh.program import Program
from relays.ssh.running import Running
from relays.ssh.sftp_channel import SftpChannel
from relays.wire import RemoteProtocolError
from rules.model import Decision, Operation
from rules.shell.bounds import MAX_BYTES
from rules.shell.command import is_file_transfer, takes_code_from_channel
from rules.ssh import line_shell_operation, pty_operation, subsystem_operation

if TYPE_CHECKING:
    from relays.ssh.relay import SSHRelay

STARTS: Final = frozenset({b"exec", b"shell", b"subsystem"})
MAX_WAITING: Final = 64  # requests that wait behind one that is judged
MAX_VARIABLES: Final = 64
MAX_VARIABLE: Final = 4 << 10  # bytes of a variable's name and value
MAX_CODE: Final = MAX_BYTES  # of code on standard input; fits every window
CODE_SECONDS: Final = 3.0  # without the end of the code before its sender is told what we wait for
LABELLED: Final = "this terminal is recorded; what is typed in it is not judged line by line (best effort)"


class _Ended(Exception):
    """It is not started. The text is for the client; empty when all has been said."""


class SessionChannel(Owner):
    """One client's channel. `channel` is set as soon as it is accepted."""

    channel: Channel

    def __init__(self, relay: SSHRelay) -> None:
        self.relay = relay
        self._started = False
        self._over = False
        self._running: Running | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Request, Answer]] = deque()
        self._early: list[bytes] = []  # data before anything runs
        self._early_size = 0
        self._early_eof = False
        self._code: asyncio.Future[None] | None = None
        self._environment: dict[bytes, bytes] = {}
        self._offers: dict[bytes, tuple[Request, Operation]] = {}  # the agent, the display
        self._terminal: Terminal | None = None
        self._raw = False  # the target makes the terminal; else it is ours, for line mode
        self._refused = False  # no rule gives a terminal of either kind: nothing starts in it
        self._answer: Answer | None = None

    @property
    def label(self) -> bytes:
        return b"[%d]" % self.channel.number

    # --- what the client says

    def data(self, data: bytes) -> None:
        if self._running is not None:
            self._running.client_data(data)
        elif not self._over:
            self._early.append(data)
            self._early_size += len(data)
            self._look_at_code()

    def eof(self) -> None:
        if self._running is not None:
            self._running.client_eof()
        self._early_eof = True
        self._look_at_code()

    def drained(self) -> None:
        if self._running is not None:
            self._running.client_drained()

    def closing(self) -> bool:
        return self._running is not None and self._running.client_closing()

    def closed(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self._running is not None:
            self._running.client_closed()

    def target_lost(self) -> None:
        """Nothing can be started any more. What runs knows."""
        if self._running is not None:
            self._running.target_lost()
        elif not self._over:
            if self._task is not None:
                self._task.cancel()
            self._end(told.TARGET_LOST, told.LOST)

    def request(self, request: Request, answer: Answer) -> None:
        if self._task is None:
            self._take(request, answer)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((request, answer))
        else:
            raise RemoteProtocolError("too many requests wait behind one that is judged")

    def _take(self, request: Request, answer: Answer) -> None:
        name = request.name
        if name in STARTS:
            if self._started:
                # RFC 4254 section 6.5: only one of these succeeds per channel; a second would run unseen
                answer(False)
                return
            self._started = True
            self._answer = answer
            self._task = self.relay.spawn(self._start(request), "start a program")
        elif self._running is not None:
            self._running.client_request(request, answer)
        elif self._started:
            answer(False)
        elif name == b"env":
            answer(self._variable(Variable.parse(request.rest)))
        elif name == b"pty-req":
            answer(self._pty(Terminal.parse(request.rest)))
        elif name == b"window-change" and self._terminal is not None:
            self._terminal = self._terminal._replace(**codec.Size.parse(request.rest)._asdict())
            answer(True)
        elif name in (AGENT, X11):
            answer(self._offer(request))
        else:
            answer(False)

    # --- before the start

    def _variable(self, variable: Variable) -> bool:
        """Whether it goes along. What does not is left out, as sshd does with what it does not accept."""
        if len(self._environment) >= MAX_VARIABLES or len(variable.name) + len(variable.value) > MAX_VARIABLE:
            return False
        if passes(self.relay, variable):
            self._environment[variable.name] = variable.value
            return True
        return False

    def _pty(self, terminal: Terminal) -> bool:
        """Whether there may be a terminal; decided, and written down, with what is started in it.

        A terminal that the rules deny is denied there too, in words: OpenSSH for which it is a must (-t) leaves at a refusal of this
        request, often before it has shown what was said on standard error.
        """
        if self._terminal is not None or not self.relay.login.ceilings.pty:
            return False
        session = self.relay.session
        ours = session.foresee(pty_operation(terminal.term)).effect == "deny"
        self._refused = ours and session.foresee(line_shell_operation()).effect == "deny"
        self._raw = not ours or self._refused
        self._terminal = terminal
        return True

    def _offer(self, request: Request) -> bool:
        """Whether the client may offer its agent or display; decided, and written down, with what is started."""
        operation = self.relay.forwards.offered(request)
        if operation is None or self.relay.session.foresee(operation).effect == "deny":
            self.relay.session.note("offer_refused", request=request.name.decode())
            return False
        self._offers[request.name] = (request, operation)
        return True

    # --- the start

    async def _start(self, request: Request) -> None:
        relay = self.relay
        try:
            running = await self._begin(request)
        except asyncio.CancelledError:
            raise
        except _Ended as ended:
            self._end(str(ended))
        except (HopgateError, RemoteProtocolError) as error:
            self._end(error.message)
        except Exception as error:
            relay.failed(error)
            self._end(told.FAILED)
        else:
            self._run(running)
        finally:
            self._task = None
        while self._waiting and self._task is None and not self._over:
            waiting, answer = self._waiting.popleft()
            try:
                self._take(waiting, answer)
            except Exception as error:
                self.channel.broken(error)

    async def _begin(self, request: Request) -> Running:
        if self._refused:
            self._accept()
            self._tell("no terminal here (ssh -T goes without one)")
            await self._authorize_terminal()
        forced = self.relay.login.ceilings.force_command
        if forced is not None:
            return await self._exec(forced)
        if request.name == b"exec":
            return await self._exec(codec.one_string(request.rest))
        if request.name == b"shell":
            return await self._shell()
        return await self._subsystem(codec.one_string(request.rest))

    async def _exec(self, command: bytes) -> Running:
        relay = self.relay
        commands, context = relay.commands, self._context()
        self._record(b"exec " + relay.hidden(command))
        operation = await commands.read(command, context)
        if self._terminal is None and takes_code_from_channel(operation):
            code = await self._all_code()
            self._record(b"stdin\n" + relay.hidden(code))
            operation = await commands.read(command, context, code)
            decision = await relay.session.authorize(operation, held=self._held)
        else:
            decision = await commands.authorize(operation, command, context, self._held)
        self._check(operation, decision)
        if self._raw:
            await self._authorize_terminal()
        plain = self._terminal is None and is_file_transfer(operation)
        program = self._program(decision, plain=plain)
        await self._start_program(program, Request(b"exec", True, codec.string(command)))
        return program

    async def _shell(self) -> Running:
        self._record(b"shell")
        if not self._raw:
            await self._authorize(line_shell_operation(self._context()))
            self._accept()
            shell = LineMode(self.relay, self.channel, self.label, self._environment, self._terminal)
            shell.begin()
            return shell
        decision = await self._authorize_terminal()
        program = self._program(decision)
        await self._start_program(program, Request(b"shell", True, b""))
        return program

    async def _subsystem(self, name: bytes) -> Running:
        self._record(b"subsystem " + self.relay.hidden(name))
        context = self._context()
        decision = await self._authorize(subsystem_operation(name, context))
        if self._raw:
            await self._authorize_terminal()
        if name == b"sftp":
            program: Program = SftpChannel(self.relay, self.channel, self.label, decision, context)
        else:
            program = self._program(decision)
        await self._start_program(program, Request(b"subsystem", True, codec.string(name)))
        return program

    async def _authorize_terminal(self) -> Decision:
        """A terminal of the target's is a decision about all that will happen in it."""
        assert self._terminal is not None
        decision = await self._authorize(pty_operation(self._terminal.term, self._context()))
        self._accept()
        self._tell(LABELLED)
        return decision

    def _program(self, decision: Decision, *, plain: bool = False) -> Program:
        program = Program(self.relay, self.channel, self.label, decision, plain=plain, terminal=self._terminal is not None)
        if self._terminal is not None:
            program.returns = not self._raw
            if self._raw:
                program.cast = self.relay.cast(self.channel.number, self._terminal.columns, self._terminal.rows)
        return program

    async def _start_program(self, program: Program, request: Request) -> None:
        """Send all that was judged with the command, and the command. Raises _Ended when the target does not run it."""
        requests = [Request(b"env", False, Variable(*pair).build()) for pair in self._environment.items()]
        for offer, operation in self._offers.values():
            await self._authorize(operation)
            self.relay.forwards.offer(offer)
            requests.append(Request(offer.name, False, offer.rest))
        if self._terminal is not None and self._raw:
            requests.append(Request(b"pty-req", True, self._terminal.build()))
        if await program.start([*requests, request], self._accept):
            return
        program.give_up()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(False)
        raise _Ended("the target does not run it")

    # --- deciding

    async def _authorize(self, operation: Operation) -> Decision:
        decision = await self.relay.session.authorize(operation, held=self._held)
        self._check(operation, decision)
        return decision

    def _check(self, operation: Operation, decision: Decision) -> None:
        """Raises _Ended for what may not be."""
        if decision.allowed:
            how = f"by {decision.approval}" if decision.approval else f"by {', '.join(decision.rules)}"
            self.relay.record(SERVER, b"%b ALLOWED %b" % (self.label, how.encode()))
            return
        sentence = told.denied(decision, operation)
        self.relay.record(SERVER, b"%b REFUSED %b" % (self.label, sentence.encode()))
        raise _Ended(sentence)

    def _held(self, decision: Decision) -> None:
        self._accept()
        self._tell(told.held(decision))
        self.relay.record(SERVER, b"%b HELD %b" % (self.label, decision.message.encode()))

    def _context(self) -> bytes:
        """What changes the meaning of what is started, besides its bytes."""
        variables = (part for pair in sorted(self._environment.items()) for part in pair)
        terminal = self._terminal.term if self._terminal is not None and self._raw else b""
        return packed(self.relay.account_name, terminal, *variables)

    async def _all_code(self) -> bytes:
        """What a shell or an interpreter is to run comes as data: all of it, until its end. Raises _Ended when that is too much."""
        self._accept()
        loop = asyncio.get_running_loop()
        self._code = loop.create_future()
        self._look_at_code()
        timer = loop.call_later(CODE_SECONDS, self._tell, "what comes on standard input is run as code: it is judged when it ends")
        try:
            await self._code
        finally:
            timer.cancel()
        if self._early_size > MAX_CODE:
            raise _Ended(f"more than {MAX_CODE} bytes of code came on standard input")
        return b"".join(self._early)

    def _look_at_code(self) -> None:
        code = self._code
        if code is not None and not code.done() and (self._early_eof or self._early_size > MAX_CODE):
            code.set_result(None)

    # --- what the client is told

    def _run(self, running: Running) -> None:
        self._running = running
        early, self._early = self._early, []
        for data in early:
            running.client_data(data)
        if self._early_eof:
            running.client_eof()
        running.take_short_way()
        if not self.channel.queued:
            running.client_drained()

    def _accept(self) -> None:
        """The request has been granted, as far as the client is concerned: what follows is said on standard error."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(True)

    def _tell(self, text: str) -> None:
        self.channel.write_extended(told.line(text, terminal=self._terminal is not None))

    def _end(self, text: str, status: int = told.DENIED) -> None:
        if self._over:
            return
        self._over = True
        self._early.clear()
        self._accept()
        if text:
            self._tell(text)
        self.channel.send_after(Request(b"exit-status", False, codec.exit_status(status)))
        self.channel.send_eof()
        self.channel.close()

    def _record(self, text: bytes) -> None:
        self.relay.record(CLIENT, b"%b %b" % (self.label, text))
