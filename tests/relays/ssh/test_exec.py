"""Commands: judged by their bytes before the target sees anything of them, and then exactly those bytes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relays.ssh import codec
from relays.ssh.codec import Request, Variable
from rules.model import Decision, Operation
from tests.relays.ssh.harness import ALLOW, DENY, Line, Said, by_first_word, settle


def names(messages: list[Said]) -> list[str]:
    return [f"{each.name} {each.rest.name.decode()}" if each.name == "request" else each.name for each in messages]


def text(messages: list[Said], name: str = "error") -> bytes:
    return b"".join(each.rest for each in messages if each.name == name)


def status(messages: list[Said]) -> int:
    (found,) = [each.rest for each in messages if each.name == "request" and each.rest.name == b"exit-status"]
    return codec.exit_status_of(found.rest)


async def test_an_allowed_command_runs_byte_for_byte() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"echo  'a'\t\\\nb")
    upstream = await line.confirm()
    assert line.to_target() == [Said("request", 40, Request(b"exec", True, codec.string(b"echo  'a'\t\\\nb")))]
    assert line.to_client() == []
    line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
    await settle()
    assert names(line.to_client()) == ["success"]
    line.output(upstream, b"out")
    line.output(upstream, b"err", error=True)
    line.exit(upstream, 3)
    found = line.to_client()
    assert names(found) == ["data", "error", "eof", "request exit-status", "close"]
    assert (text(found, "data"), text(found), status(found)) == (b"out", b"err", 3)
    line.client(codec.CHANNEL_CLOSE, codec.UINT32.pack(channel))
    assert line.relay.client.channels == line.relay.server.channels == {}
    assert line.recorded == [
        b"[0] exec echo  'a'\t\\\nb", b"[0] ALLOWED by yes", b"[0] stdout\nout", b"[0] stderr\nerr", b"[0] exit status 3",
    ]  # fmt: skip


async def test_a_denied_command_is_accepted_explained_and_never_seen_by_the_target() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"uptime; rm -rf /")
    line.data(channel, b"input")
    await settle()
    found = line.to_client()
    assert names(found) == ["success", "error", "request exit-status", "eof", "close"]
    assert text(found) == b"hopgate: rule `no` denies this: not that (operation s1.1)\n"
    assert status(found) == 126
    assert line.to_target() == []
    assert b"REFUSED" in line.recorded[-1]


@pytest.mark.parametrize("broken", ["read", "authorize", "foresee"])
async def test_a_command_that_cannot_be_judged_does_not_run(broken: str) -> None:
    line = Line()
    channel = line.open()

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    if broken == "read":
        line.relay.commands.read = fail  # type: ignore[method-assign, assignment]
    else:
        setattr(line.session, broken, fail)
    line.ask(channel, b"env", Variable(b"LANG", b"C").build(), reply=False)
    line.exec(channel, b"uptime")
    await settle()
    found = line.to_client()
    assert line.to_target() == []
    assert found[-1].name == "close"
    assert line.failures == ["relay"]
    if broken != "foresee":
        assert text(found) == b"hopgate: the gateway failed to relay this\n"
        assert status(found) == 126


async def test_a_held_command_starts_only_after_approval_with_what_came_meanwhile() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"restart db")
    line.data(channel, b"one ")
    line.ask(channel, b"signal", codec.string(b"INT"), reply=False)
    line.data(channel, b"two")
    line.client(codec.CHANNEL_EOF, codec.UINT32.pack(channel))
    line.client(codec.GLOBAL_REQUEST, Request(b"keepalive@openssh.com", True, b"").build())
    await settle()
    found = line.to_client()
    assert names(found) == ["success", "error", "global_failure"] or names(found) == ["global_failure", "success", "error"]
    assert text(found) == b"hopgate: rule `ask` holds this; waiting for a reviewer (hopgate approvals approve a1)\n"
    assert line.to_target() == []
    line.approve()
    upstream = await line.confirm()
    assert line.to_target() == [Said("request", 40, Request(b"exec", True, codec.string(b"restart db")))]
    line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
    await settle()
    found = line.to_target()
    assert names(found) == ["data", "data", "eof", "request signal"]
    assert text(found, "data") == b"one two"
    line.exit(upstream)
    assert names(line.to_client()) == ["eof", "request exit-status", "close"]


async def test_a_held_command_that_is_denied_does_not_start() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"restart db")
    await settle()
    line.to_client()
    line.approve(replace(DENY, message="a reviewer denied this: not today (a1)"))
    await settle()
    found = line.to_client()
    assert text(found) == b"hopgate: a reviewer denied this: not today (a1) (operation s1.1)\n"
    assert status(found) == 126
    assert line.to_target() == []


@pytest.mark.parametrize("how", ["close", "lost", "target lost"])
async def test_who_leaves_while_held_withdraws_the_card(how: str) -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"restart db")
    await settle()
    line.to_client()
    if how == "close":
        line.client(codec.CHANNEL_CLOSE, codec.UINT32.pack(channel))
    elif how == "lost":
        line.relay.client.serviceStopped()
    else:
        line.relay.server.serviceStopped()
    await settle()
    assert len(line.session.withdrawn) == 1
    assert line.to_target() == []
    if how == "close":
        assert names(line.to_client()) == ["close"]
        assert line.relay.client.channels == {}
    elif how == "target lost":
        found = line.to_client()
        assert text(found) == b"hopgate: the target closed the connection\n"
        assert status(found) == 255


@pytest.mark.parametrize("second", [b"exec", b"shell", b"subsystem"])
async def test_a_channel_starts_one_thing_only(second: bytes) -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"restart db")
    line.ask(channel, second, codec.string(b"rm -rf /") if second != b"shell" else b"")
    await settle()
    line.approve()
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
    await settle()
    line.ask(channel, second, codec.string(b"rm -rf /") if second != b"shell" else b"")
    await settle()
    assert [each.rest.rest for each in line.to_target() if each.name == "request"] == [codec.string(b"restart db")]
    assert [name for name in names(line.to_client()) if name in ("success", "failure")] == ["success", "failure", "failure"]


async def test_code_on_standard_input_is_judged_when_it_ends() -> None:
    line = Line()
    for code, runs in ((b"uptime\n", True), (b"rm -rf /\n", False)):
        channel = line.open()
        line.exec(channel, b"bash -s")
        for at in range(0, len(code), 3):
            line.data(channel, code[at : at + 3])
        await settle()
        assert line.to_target() == []
        assert names(line.to_client()) == ["success"]
        line.client(codec.CHANNEL_EOF, codec.UINT32.pack(channel))
        if not runs:
            await settle()
            assert line.to_target() == []
            assert status(line.to_client()) == 126
            continue
        upstream = await line.confirm()
        line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
        await settle()
        sent = line.to_target()
        assert names(sent) == ["request exec", *["data"] * 3, "eof"]
        assert text(sent, "data") == code
        assert line.session.asked[-1].exact().text.endswith("uptime\n")  # type: ignore[misc]


async def test_too_much_code_is_refused_without_waiting_for_its_end() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"sh")
    for _ in range(3):
        line.data(channel, b"x" * 30_000)
    await settle()
    found = line.to_client()
    assert status(found) == 126
    assert b"bytes of code" in text(found)
    assert line.to_target() == []


async def test_variables_go_along_where_a_rule_allows_and_count_in_the_approval() -> None:
    def decide(operation: Operation) -> Decision:
        if operation.facts.get("action") == "env":
            return ALLOW if str(operation.facts.get("variable")).startswith("LC_") else DENY
        return by_first_word(operation)

    line = Line(decide)
    payloads = []
    for value in (b"C", b"de"):
        channel = line.open()
        for name in (b"LC_ALL", b"LANG", b"LD_PRELOAD", b"PATH"):
            line.ask(channel, b"env", Variable(name, value).build())
        assert names(line.to_client()) == ["success", "failure", "failure", "failure"]
        line.exec(channel, b"uptime")
        await line.confirm()
        sent = line.to_target()
        assert [each.rest.name for each in sent] == [b"env", b"exec"]
        assert sent[0].rest.rest == Variable(b"LC_ALL", value).build()
        payloads.append(line.session.asked[-1].exact().payload)  # type: ignore[misc]
    assert payloads[0] != payloads[1]
    assert {fields["name"] for event, fields in line.session.noted if event == "variable_left_out"} == {"LANG", "LD_PRELOAD", "PATH"}


async def test_a_target_that_does_not_run_it() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"uptime")
    upstream = await line.confirm()
    line.to_target()
    line.target(codec.CHANNEL_FAILURE, codec.UINT32.pack(upstream))
    await settle()
    found = line.to_client()
    assert names(found) == ["failure", "error", "request exit-status", "eof", "close"]
    assert names(line.to_target()) == ["close"]


async def test_a_target_that_opens_no_channel() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"uptime")
    await settle()
    opening = line.to_target()[0].rest
    line.target(codec.CHANNEL_OPEN_FAILURE, codec.Failure(opening.sender, 4, b"no").build())
    await settle()
    found = line.to_client()
    assert text(found) == b"hopgate: the target does not open a channel for it\n"
    assert status(found) == 126


async def test_a_target_that_dies_in_the_middle_of_a_command() -> None:
    line = Line()
    channel, upstream = await line.running()
    line.output(upstream, b"half a")
    line.relay.server.serviceStopped()
    found = line.to_client()
    assert names(found) == ["data", "error", "request exit-status", "close"]
    assert text(found) == b"hopgate: the target closed the connection\n"
    assert status(found) == 255
    line.client(codec.CHANNEL_CLOSE, codec.UINT32.pack(channel))
    assert line.near.ended == ["the target closed the connection"]


async def test_what_a_program_is_told_and_tells_besides_data() -> None:
    line = Line()
    channel, upstream = await line.running()
    line.ask(channel, b"signal", codec.string(b"TERM"), reply=False)
    line.ask(channel, b"break", codec.UINT32.pack(500))
    line.ask(channel, b"unheard-of")
    line.ask(channel, b"window-change", codec.FOUR.pack(1, 1, 0, 0))
    sent = line.to_target()
    assert [each.rest.name for each in sent] == [b"signal", b"break"]
    assert line.to_client() == []  # answers keep their order: that to `break` is the target's
    line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
    assert names(line.to_client()) == ["success", "failure", "failure"]
    for name in (b"xon-xoff", b"eow@openssh.com", b"unheard-of"):
        line.target(codec.CHANNEL_REQUEST, codec.UINT32.pack(upstream) + Request(name, name == b"unheard-of", b"\1").build())
    ended = Request(
        b"exit-signal", False, codec.string(b"KILL") + b"\0" + codec.string(b"a secret that no mask sees") + codec.string(b"en")
    )
    line.target(codec.CHANNEL_REQUEST, codec.UINT32.pack(upstream) + ended.build())
    said = line.to_client()
    assert names(said) == ["request xon-xoff", "request eow@openssh.com", "request exit-signal"]
    assert [each.rest.rest for each in said] == [b"\1", b"", codec.string(b"KILL") + b"\0" + codec.string(b"") * 2]
    assert names(line.to_target()) == ["failure"]
    line.target(codec.CHANNEL_CLOSE, codec.UINT32.pack(upstream))
    assert line.recorded[-1] == b"[0] ended by the signal KILL"


async def test_a_client_that_closes_is_still_told_how_it_ended() -> None:
    line = Line()
    channel, upstream = await line.running()
    line.relay.client.full = True
    line.output(upstream, b"never read")
    line.relay.client.resumeProducing()
    line.target(codec.CHANNEL_EOF, codec.UINT32.pack(upstream))
    line.to_client()
    # OpenSSH closes as soon as both directions have ended, and waits for the exit status all the same
    line.client(codec.CHANNEL_EOF, codec.UINT32.pack(channel))
    line.client(codec.CHANNEL_CLOSE, codec.UINT32.pack(channel))
    assert names(line.to_target()) == ["eof", "close"]
    assert line.to_client() == []
    line.target(codec.CHANNEL_REQUEST, codec.UINT32.pack(upstream) + Request(b"exit-status", False, codec.exit_status(3)).build())
    line.target(codec.CHANNEL_CLOSE, codec.UINT32.pack(upstream))
    found = line.to_client()
    assert names(found) == ["request exit-status", "close"]
    assert status(found) == 3
    assert line.relay.client.channels == line.relay.server.channels == {}
    assert line.failures == []


async def test_a_client_that_closes_early_does_not_stop_what_it_started() -> None:
    line = Line()
    channel, upstream = await line.running()
    line.relay.client.full = True
    line.output(upstream, b"x" * 30000)
    line.client(codec.CHANNEL_CLOSE, codec.UINT32.pack(channel))
    line.relay.client.resumeProducing()
    assert names(line.to_target()) == ["close"]
    line.output(upstream, b"more")
    line.target(codec.CHANNEL_CLOSE, codec.UINT32.pack(upstream))
    assert names(line.to_client()) == ["close"]
    assert line.relay.client.channels == line.relay.server.channels == {}


async def test_injected_secrets_never_come_back_however_they_are_cut() -> None:
    line = Line(literals=(b"s3cret-of-the-target",))
    _channel, upstream = await line.running()
    for piece in (b"it is s3cret-o", b"f-the-tar", b"get, is it\n"):
        line.output(upstream, piece)
        line.output(upstream, piece, error=True)
    line.exit(upstream)
    found = line.to_client()
    assert text(found, "data") == text(found, "error") == b"it is [redacted], is it\n"
    assert line.session.counted == {"credential": 2}
    assert not any(b"s3cret" in each for each in line.recorded)


async def test_a_prompt_without_an_end_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relays.ssh.output.IDLE_SECONDS", 0.01)
    line = Line(literals=(b"s3cret-of-the-target",))
    _, upstream = await line.running()
    line.output(upstream, b"name:")
    assert line.to_client() == []
    async with asyncio.timeout(20):
        while not (found := line.to_client()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert text(found, "data") == b"name:"


async def test_file_transfers_pass_as_they_are_and_only_they() -> None:
    line = Line(literals=(b"s3cret-of-the-target",))
    for command, hidden in ((b"scp -t /tmp/x", False), (b"scp -t /tmp/x; cat", True), (b"cat scp", True)):
        channel = line.open()
        line.exec(channel, command)
        upstream = await line.confirm()
        line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))
        await settle()
        line.to_client()
        line.output(upstream, b"s3cret-of-the-target")
        line.exit(upstream)
        assert (text(line.to_client(), "data") == b"s3cret-of-the-target") is not hidden


async def test_the_recording_is_cut_and_says_so() -> None:
    line = Line()
    _, upstream = await line.running()
    for _ in range(3):
        line.output(upstream, b"x" * 600)
    line.exit(upstream)
    assert [len(each) for each in line.recorded[2:4]] == [600 + 11, 400 + 11]
    assert line.recorded[-1] == b"[0] exit status 0; 1800 bytes in all, cut here"


async def test_a_session_beyond_its_limits_ends() -> None:
    line = Line()
    _, upstream = await line.running()
    line.session.allowance.overdrawn = "the session may read 10 bytes, and this is beyond"
    line.output(upstream, b"x" * 600)
    assert line.session.closed == "the session may read 10 bytes, and this is beyond"
    assert "data" not in names(line.to_client())


async def test_what_a_terminal_types_is_no_code_that_ends() -> None:
    line = Line(lambda operation: ALLOW if operation.facts.get("action") == "pty" else by_first_word(operation))
    channel = line.open()
    line.ask(channel, b"pty-req", codec.Terminal(b"xterm", 80, 24, 0, 0, b"\0").build())
    line.exec(channel, b"bash")
    await settle()
    assert status(line.to_client()) == 126
    assert line.to_target() == []


async def test_a_subsystem_gets_no_terminal_that_nobody_decided() -> None:
    """A terminal that is held went along with a subsystem that is allowed."""
    line = Line(lambda operation: {"subsystem": ALLOW, "pty": Decision("hold")}.get(operation.facts.get("action"), DENY))
    channel = line.open()
    line.ask(channel, b"pty-req", codec.Terminal(b"xterm", 80, 24, 0, 0, b"\0").build())
    line.ask(channel, b"subsystem", codec.string(b"netconf"))
    await settle()
    assert [operation.facts.get("action") for operation in line.session.asked] == ["subsystem", "pty"]
    assert line.to_target() == []


async def test_a_short_program_has_its_answer_before_its_end() -> None:
    line = Line()
    channel = line.open()
    line.exec(channel, b"yes 1")
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, codec.UINT32.pack(upstream))  # all of it at once, before anybody else runs
    line.output(upstream, b"out")
    line.exit(upstream)
    line.data(channel, b"late")
    await settle()
    assert names(line.to_client()) == ["success", "data", "eof", "request exit-status", "close"]
    assert line.failures == []


async def test_a_decision_is_remembered_while_the_rules_are() -> None:
    line = Line()
    seen: list[object] = []
    authorize = line.session.authorize

    async def watched(operation: Operation, *, known: Decision | None = None, **more: object) -> Decision:
        seen.append(known and known.rules)
        return await authorize(operation, known=known, **more)

    line.session.authorize = watched  # type: ignore[method-assign, assignment]
    for command in (b"yes 1", b"yes 1", b"yes 2", b"restart db", b"restart db"):
        line.exec(line.open(), command)
        await settle()
        if command == b"restart db":
            line.approve()
            await settle()
    assert seen == [None, ("yes",), None, None, None]
