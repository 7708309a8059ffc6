"""The sans-IO base: strands that ask stand still with what comes behind them, the other side goes on, and an end is an end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.errors import Denied, HopgateError
from relays.commands import CLIENT, SERVER, Abort, Ask, Close, Command, Commands, Connect, Read, Send, Side, Withdraw, Withdrawn
from relays.relay import Relay
from relays.wire import ProtocolError, RemoteProtocolError
from rules.model import Decision, Operation
from tests.playbook import ANY, Answer, Bytes, Failure, Held, Killed, Lost, Playbook, Signalled, Started
from tests.relays.facts import Facts

ALLOW = Decision("allow")
DENY = Decision("deny", message="no")
OPERATION = Operation("sql", Facts())


class Toy(Relay):
    """Three bytes of start-up; then each byte of the client is asked for, but `.`."""

    def conversation(self) -> Commands:
        begin = b""
        while len(begin) < 3:
            data = yield Read(CLIENT)
            if not data:
                raise RemoteProtocolError("left")
            begin += data
        try:
            yield Connect()
        except Denied:
            yield Close()
            yield Send(CLIENT, b"never said")
        yield Send(SERVER, begin[:3])
        answer = yield Read(SERVER)
        yield Send(CLIENT, answer)
        yield from self.received(CLIENT, begin[3:])

    def received(self, side: Side, data: bytes) -> Commands:
        if side == SERVER:
            yield Send(CLIENT, data)
            return
        for byte in data:
            if byte == ord("!"):
                raise RemoteProtocolError("no !", "08P01")
            if byte != ord("."):
                try:
                    decision = yield Ask(OPERATION)
                except Withdrawn:
                    yield Send(CLIENT, b"withdrawn")
                    continue
                if not decision.allowed:
                    yield Send(CLIENT, b"denied")
                    continue
            yield Send(SERVER, bytes([byte]))

    def held(self, side: Side, decision: Decision) -> Iterable[Command]:
        yield Send(side, b"held")

    def signalled(self) -> Iterable[Command]:
        yield from self.withdraw(CLIENT)

    def refused(self, error: ProtocolError | HopgateError) -> Iterable[Command]:
        yield Send(CLIENT, error.message.encode())

    def killed(self, reason: str) -> Iterable[Command]:
        yield Send(CLIENT, b"killed")


def started() -> Playbook:
    """A toy that has got through its start-up."""
    script = Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Answer() << Send(SERVER, b"abc")
    return script >> Bytes(SERVER, b"hi") << Send(CLIENT, b"hi")


def test_start_up_reads_in_turns_and_early_bytes_wait_for_it() -> None:
    script = Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"a") >> Bytes(CLIENT, b"bc") << Connect() >> Bytes(CLIENT, b".")
    script = script >> Answer() << Send(SERVER, b"abc") >> Bytes(SERVER, b"hi") << Send(CLIENT, b"hi") << Send(SERVER, b".")
    assert script
    assert not script.relay.client_busy
    assert not script.relay.server_busy


def test_a_side_that_asks_waits_while_the_other_goes_on() -> None:
    script = started() >> Bytes(CLIENT, b"xy") << Ask(ANY) >> Bytes(CLIENT, b".") >> Bytes(SERVER, b"more") << Send(CLIENT, b"more")
    assert script
    relay = script.relay
    assert relay.client_busy
    assert not relay.server_busy
    assert relay.unread(CLIENT) == 1
    script = Playbook(relay)
    script._questions.append(relay.waiting(CLIENT))  # type: ignore[arg-type]
    assert script >> Answer(ALLOW) << Send(SERVER, b"x") << Ask(ANY) >> Answer(DENY) << Send(CLIENT, b"denied") << Send(SERVER, b".")
    assert relay.unread(CLIENT) == 0
    assert not relay.client_busy


def test_decided_answers_a_sides_question() -> None:
    script = started() >> Bytes(CLIENT, b"x") << Ask(ANY)
    assert script
    assert list(script.relay.decided(ALLOW)) == [Send(SERVER, b"x")]


def test_a_held_operation_is_told_and_can_be_withdrawn_and_what_is_behind_it_goes_on() -> None:
    script = started() >> Bytes(CLIENT, b"x.") << Ask(ANY) >> Held(ALLOW) << Send(CLIENT, b"held") >> Signalled() << Withdraw(ANY)
    assert script << Send(CLIENT, b"withdrawn") << Send(SERVER, b".")


def test_the_answer_to_a_withdrawn_question_is_dropped() -> None:
    relay = Toy()
    script = Playbook(relay) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Answer() << Send(SERVER, b"abc")
    assert (
        script
        >> Bytes(SERVER, b"hi")
        << Send(CLIENT, b"hi")
        >> Bytes(CLIENT, b"x")
        << Ask(ANY)
        >> Signalled()
        << Withdraw(ANY)
        << Send(CLIENT, b"withdrawn")
        >> Answer(ALLOW)
    )


def test_a_protocol_error_tells_the_client_and_closes() -> None:
    script = started() >> Bytes(CLIENT, b"x!.") << Ask(ANY) >> Answer(ALLOW) << Send(SERVER, b"x")
    script = script << Send(CLIENT, b"no !") << Close(None, "no !") >> Bytes(CLIENT, b".") >> Bytes(SERVER, b"late")
    assert script
    assert script.relay.over
    assert script.relay.client_busy
    assert isinstance(script.relay.failure, RemoteProtocolError)


def test_what_a_question_fails_with_is_raised_where_it_was_asked() -> None:
    script = Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Failure(Denied("no")) << Close()
    assert script  # and nothing that the conversation says after its Close
    script = Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Failure(HopgateError("gone"))
    assert script << Send(CLIENT, b"gone") << Close(None, "gone")


def test_a_defect_reaches_the_driver() -> None:
    class Broken(Toy):
        def received(self, side: Side, data: bytes) -> Commands:
            if data:
                yield Send(SERVER, data)
                raise ZeroDivisionError

    relay = Broken()
    assert (
        Playbook(relay)
        >> Started()
        >> Bytes(CLIENT, b"abc")
        << Connect()
        >> Answer()
        << Send(SERVER, b"abc")
        >> Bytes(SERVER, b"hi")
        << Send(CLIENT, b"hi")
    )
    with pytest.raises(ZeroDivisionError):
        list(relay.receive(CLIENT, b"."))


def test_a_client_that_leaves_takes_its_question_back() -> None:
    assert started() >> Bytes(CLIENT, b"x.") << Ask(ANY) >> Lost(CLIENT) << Withdraw(ANY) << Close(None, "the client went away")
    assert Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Lost(CLIENT) << Withdraw(ANY) << Close


def test_a_client_that_leaves_in_start_up_is_read_as_nothing() -> None:
    assert Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"ab") >> Lost(CLIENT) << Send(CLIENT, b"left") << Close(None, "left")


def test_a_side_that_leaves_closes_both_after_what_it_sent() -> None:
    assert started() >> Bytes(CLIENT, b".") << Send(SERVER, b".") >> Lost(CLIENT) << Close() >> Lost(SERVER)
    assert started() >> Bytes(SERVER, b"last") << Send(CLIENT, b"last") >> Lost(SERVER) << Close()


def test_a_server_that_leaves_is_told_after_its_strand_has_worked_off_what_it_sent() -> None:
    class Asking(Toy):
        def received(self, side: Side, data: bytes) -> Commands:
            if side == SERVER:
                yield Ask(OPERATION)
                yield Send(CLIENT, data)

    script = Playbook(Asking()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Answer() << Send(SERVER, b"abc")
    script = script >> Bytes(SERVER, b"hi") << Send(CLIENT, b"hi") >> Bytes(SERVER, b"row") << Ask(ANY) >> Lost(SERVER)
    assert script >> Answer(ALLOW) << Send(CLIENT, b"row") << Close()


def test_a_killed_relay_says_so_and_nothing_else() -> None:
    script = started() >> Bytes(CLIENT, b"x") << Ask(ANY) >> Killed("locked") << Withdraw(ANY) << Send(CLIENT, b"killed")
    assert script << Close(None, "locked") >> Bytes(CLIENT, b".") >> Signalled()


def test_abort_is_an_end_too() -> None:
    class Aborting(Toy):
        def ended(self, side: Side) -> Iterable[Command]:
            return (Abort("x"), Send(CLIENT, b"never"))

    script = Playbook(Aborting()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() >> Answer() << Send(SERVER, b"abc")
    assert script >> Bytes(SERVER, b"hi") << Send(CLIENT, b"hi") >> Lost(CLIENT) << Abort("x")


@settings(max_examples=60)
@given(st.text(".xy", max_size=8), st.data())
def test_chunks_never_matter(text: str, data: st.DataObject) -> None:
    client = b"abc" + text.encode()
    whole, parts = _replay([client]), []
    while client:
        size = data.draw(st.integers(1, 4))
        parts.append(client[:size])
        client = client[size:]
    assert _replay(parts) == whole


def _replay(chunks: list[bytes]) -> tuple[bytes, bytes]:
    """What each side is sent, with every question allowed at once but those for `y`."""
    relay, sent, todo = Toy(), {CLIENT: b"", SERVER: b""}, list(chunks)
    asked = 0

    def play(commands: Iterable[Command]) -> None:
        nonlocal asked
        for command in list(commands):
            if isinstance(command, Send):
                sent[command.side] += command.data
            elif isinstance(command, Connect):
                play(relay.answered(command, None))
                play(relay.receive(SERVER, b"hi"))
            elif isinstance(command, Ask):
                asked += 1
                play(relay.answered(command, ALLOW if asked % 2 else DENY))

    play(relay.start())
    for chunk in todo:
        play(relay.receive(CLIENT, chunk))
    return sent[CLIENT], sent[SERVER]


def test_a_playbook_that_differs_shows_where() -> None:
    script = Playbook(Toy()) >> Started() >> Bytes(CLIENT, b"abc") << Connect() << Send(SERVER, b"abc")
    with pytest.raises(AssertionError, match=r"- << Send\(side='server', data=b'abc'\)"):
        bool(script)


def test_a_playbook_that_nobody_asserts_warns() -> None:
    script = Playbook(Toy()) >> Started()
    with pytest.warns(RuntimeWarning, match="never asserted"):
        script.__del__()
    script._ran = True
