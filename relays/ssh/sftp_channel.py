"""The subsystem sftp of a client's channel: what `SftpFilter` says, done on both channels and asked of the session."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from relays.commands import CLIENT, SERVER, Side
from relays.ssh import codec, told
from relays.ssh.channel import Channel
from relays.ssh.codec import Request
from relays.ssh.program import Program
from relays.ssh.sftp.commands import Command, End, Forward, Judge, Record, Refuse, Tell
from relays.ssh.sftp.filter import SftpFilter
from rules.model import Decision

if TYPE_CHECKING:
    from relays.ssh.relay import SSHRelay


class SftpChannel(Program):
    """An sftp-server on the target. The client hears from it what the filter lets pass."""

    def __init__(self, relay: SSHRelay, client: Channel, label: bytes, decision: Decision, context: bytes) -> None:
        super().__init__(relay, client, label, decision, plain=True)
        self._filter = SftpFilter(context)
        self._judging: set[asyncio.Task[None]] = set()

    # --- bytes

    def data(self, data: bytes) -> None:
        if self._passes_out(data):
            self.client.write(data)
            self.client_drained()

    def client_data(self, data: bytes) -> None:
        channel = self._channel
        if self._passes_in(data) and channel is not None:
            channel.write(data)
            self.drained()

    def _passes_out(self, data: bytes | memoryview) -> bool:
        if self._over:
            return False
        self._output.count(len(data))
        if self._passes(SERVER, data):
            return True
        self.client_drained()
        return False

    def _passes_in(self, data: bytes | memoryview) -> bool:
        if self._over:
            return False
        if self._passes(CLIENT, data):
            return True
        self.drained()
        return False

    def _passes(self, side: Side, data: bytes | memoryview) -> bool:
        """Whether all that is to be done is to pass the data on. Else it has been done."""
        commands = self._filter.receive(side, data)
        if len(commands) == 1 and isinstance(only := commands[0], Forward) and only.data is data:
            return True
        self._do(commands)
        return False

    def eof(self) -> None:
        if not self._over:
            self._do(self._filter.eof(SERVER))

    def client_eof(self) -> None:
        if not self._over:
            self._do(self._filter.eof(CLIENT))

    def client_closing(self) -> bool:
        for task in tuple(self._judging):
            task.cancel()
        return super().client_closing()

    def drained(self) -> None:
        if self._channel is not None and not self._channel.queued and not self._filter.backlog:
            self.client.grant()

    def client_drained(self) -> None:
        if not self.client.queued:
            self._grant()

    # --- what the filter wants

    def _do(self, commands: list[Command]) -> None:
        """In order; a decision that is there at once may want more, which comes first."""
        waiting = deque(commands)
        while waiting and not self._over:
            match waiting.popleft():
                case Forward(side, data):
                    target = self.client if side == CLIENT else self._channel
                    if target is not None:
                        target.write(data)
                case Judge(token, operation) as question:
                    decision = self.relay.session.authorize_now(operation)
                    if decision is not None:
                        waiting.extendleft(reversed(self._filter.decided(token, decision)))
                    else:
                        task = self.relay.spawn(self._judge(question), "an sftp request")
                        self._judging.add(task)
                        task.add_done_callback(self._judging.discard)
                case Record(text):
                    self._note(text)
                case Tell(text):
                    self.client.write_extended(told.line(text))
                case End(side):
                    if side == SERVER:
                        self.said_all()
                    elif self._channel is not None:
                        self._channel.send_eof()
                case Refuse(reason):
                    self._refuse(reason)

    async def _judge(self, question: Judge) -> None:
        try:
            decision = await self.relay.session.authorize(question.operation, held=self._held)
        except Exception as error:
            self.relay.failed(error)
            decision = Decision("deny", message=told.FAILED)
        try:
            self._do(self._filter.decided(question.token, decision))
            self.drained()
        except Exception as error:
            self.client.broken(error)

    def _held(self, decision: Decision) -> None:
        self.client.write_extended(told.line(told.held(decision)))
        self._note(f"HELD {decision.message}")

    def _refuse(self, reason: str) -> None:
        self.client.write_extended(told.line(reason))
        self.exited(Request(b"exit-status", False, codec.exit_status(told.DENIED)))
        self.give_up()
        self.client.close()
        self._ended(reason)

    def _ended(self, how: str) -> None:
        for task in tuple(self._judging):
            task.cancel()
        for command in self._filter.finish():
            if isinstance(command, Record):
                self._note(command.text)
        super()._ended(how)

    def _note(self, text: str) -> None:
        self.relay.record(SERVER, b"%b %b" % (self._label, text.encode("utf-8", "backslashreplace")))
