"""Line mode: each line is judged and runs as an exec of its own; what lasts is kept by the relay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relays.ssh import codec
from relays.ssh.codec import Request, Terminal
from relays.ssh.line_editor import End, Interrupt, Line, LineEditor
from relays.ssh.line_mode import MAX_UNSEEN
from rules.model import Decision, Operation
from tests.relays.ssh import harness
from tests.relays.ssh.harness import ALLOW, by_first_word, settle
from tests.relays.ssh.test_exec import names, status, text

U32 = codec.UINT32.pack


def lines_allowed(operation: Operation) -> Decision:
    return ALLOW if operation.facts.get("action") == "shell" else by_first_word(operation)


async def shell(*, terminal: bool = False) -> tuple[harness.Line, int]:
    line = harness.Line(lines_allowed)
    line.relay.login.connection = "build"  # type: ignore[misc]
    channel = line.open()
    if terminal:
        line.ask(channel, b"pty-req", Terminal(b"xterm", 80, 24, 0, 0, b"\0").build())
    line.ask(channel, b"shell")
    await settle()
    return line, channel


async def ran(line: harness.Line, command: bytes, output: bytes = b"", code: int = 0) -> None:
    """The target runs `command`, which must be what it is asked for."""
    upstream = await line.confirm()
    sent = line.to_target()
    assert [each.rest.rest for each in sent if each.name == "request"] == [codec.string(command)]
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    assert names(line.to_target()) == ["eof"]
    if output:
        line.output(upstream, output)
    line.exit(upstream, code)
    await settle()


async def test_each_line_is_judged_and_runs_as_an_exec() -> None:
    line, channel = await shell()
    assert names(line.to_client()) == ["success", "error"]
    assert line.to_target() == []
    line.data(channel, b"uptime\nrm -rf /\necho do")
    line.data(channel, b"ne\n")
    await ran(line, b"uptime", b"up 3 days\n")
    found = line.to_client()
    assert text(found, "data") == b"up 3 days\n"
    assert b"`no` denies this: not that" in text(found)
    await ran(line, b"echo done", b"done\n", 5)
    assert text(line.to_client(), "data") == b"done\n"
    line.client(codec.CHANNEL_EOF, U32(channel))
    found = line.to_client()
    assert names(found) == ["request exit-status", "eof", "close"]
    assert status(found) == 5


async def test_the_directory_lasts_and_is_judged_with_every_line() -> None:
    line, channel = await shell()
    line.data(channel, b"cd /tmp/a\\ b\n")
    await ran(line, b"{\ncd /tmp/a\\ b\n} && pwd", b"/tmp/a b\n")
    line.data(channel, b"ls\n")
    await ran(line, b"cd -- '/tmp/a b' && {\nls\n}")
    assert "cd -- '/tmp/a b' && {\nls\n}" in line.session.asked[-1].exact().text  # type: ignore[misc]
    line.data(channel, b"cd nowhere\n")
    await ran(line, b"cd -- '/tmp/a b' && {\ncd nowhere\n} && pwd", b"", 1)
    line.data(channel, b"cd there; rm x\n")
    await settle()
    assert "open" not in names(line.to_target())
    line.data(channel, b"pwd\n")
    await ran(line, b"cd -- '/tmp/a b' && {\npwd\n}")


async def test_a_line_cannot_leave_what_is_put_around_it() -> None:
    line, channel = await shell()
    line.data(channel, b"cd /tmp\n")
    await ran(line, b"{\ncd /tmp\n} && pwd", b"/tmp\n")
    for attempt in (b"}; rm x; {", b"cat <<E; rm x", b"ls } && rm x #"):
        line.data(channel, attempt + b"\n")
        await settle()
        assert "open" not in names(line.to_target()), attempt


async def test_a_held_line_waits_and_can_be_taken_back() -> None:
    line, channel = await shell(terminal=True)
    line.to_client()
    line.data(channel, b"restart db\r")
    await settle()
    assert b"hopgate approvals approve a1" in text(line.to_client(), "data")
    assert line.to_target() == []
    line.data(channel, b"\x03")
    await settle()
    assert len(line.session.withdrawn) == 1
    assert b"taken back" in text(line.to_client(), "data")
    line.data(channel, b"restart db\r")
    await settle()
    line.approve()
    await ran(line, b"restart db", b"done\n")
    assert b"done\r\n" in text(line.to_client(), "data")


async def test_a_terminal_has_a_prompt_and_an_echo() -> None:
    line, channel = await shell(terminal=True)
    found = line.to_client()
    assert names(found)[:2] == ["success", "success"]
    assert b"build:~$ " in text(found, "data")
    assert line.to_target() == []
    line.data(channel, b"uptmi\x7f\x7fime\rwho\r")
    await ran(line, b"uptime", b"up\n")
    await ran(line, b"who")
    line.ask(channel, b"window-change", codec.FOUR.pack(100, 30, 0, 0))
    shown = b"".join(line.cast)
    assert b'"m", "runs: uptime"' in shown
    assert b'"o", "up\\r\\n"' in shown
    assert b'"r", "100x30"' in shown
    line.data(channel, b"\x04")
    found = line.to_client()
    assert names(found)[-3:] == ["request exit-status", "eof", "close"]
    assert b"up\r\n" in text(found, "data")


async def test_interrupting_a_line_that_runs() -> None:
    line, channel = await shell(terminal=True)
    line.data(channel, b"sleep 9\r")
    upstream = await line.confirm()
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    line.to_client(), line.to_target()
    line.data(channel, b"typed ahead\x03")
    assert [each.rest.name for each in line.to_target()] == [b"signal"]
    line.data(channel, b"\x03")
    await settle()
    assert names(line.to_target())[-1] == "close"
    assert b"build:~$ " in text(line.to_client(), "data")


async def test_a_target_that_goes_ends_the_shell() -> None:
    line, channel = await shell()
    line.to_client()
    line.relay.server.serviceStopped()
    found = line.to_client()
    assert text(found) == b"hopgate: the target closed the connection\n"
    assert status(found) == 255
    line.client(codec.CHANNEL_CLOSE, U32(channel))
    assert line.near.ended


async def test_code_that_would_come_from_the_terminal_does_not_run() -> None:
    def everything(operation: Operation) -> Decision:
        return ALLOW

    line = harness.Line(everything)
    line.relay.login.connection = "build"  # type: ignore[misc]
    line.session.decide = lambda operation: replace(ALLOW, effect="deny") if operation.facts.get("action") == "pty" else ALLOW
    channel = line.open()
    line.ask(channel, b"shell")
    await settle()
    line.data(channel, b"bash\n")
    await settle()
    assert line.to_target() == []
    assert b"no input" in text(line.to_client())


async def test_without_a_rule_there_is_no_shell_and_no_terminal() -> None:
    line = harness.Line()
    channel = line.open()
    line.ask(channel, b"pty-req", Terminal(b"xterm", 80, 24, 0, 0, b"\0").build())
    line.ask(channel, b"shell")
    await settle()
    found = line.to_client()
    assert names(found) == ["success", "success", "error", "error", "request exit-status", "eof", "close"]
    assert b"ssh -T" in text(found)
    assert status(found) == 126
    assert line.to_target() == []
    assert [operation.facts.get("action") for operation in line.session.asked] == ["pty"]


async def test_a_granted_terminal_is_one_decision_and_says_what_it_is_not() -> None:
    line = harness.Line(lambda operation: ALLOW)
    channel = line.open()
    terminal = Terminal(b"xterm", 80, 24, 0, 0, b"\0").build()
    line.ask(channel, b"pty-req", terminal)
    line.ask(channel, b"window-change", codec.FOUR.pack(90, 30, 0, 0))
    line.ask(channel, b"shell")
    upstream = await line.confirm()
    sent = line.to_target()
    assert [each.rest.name for each in sent] == [b"pty-req", b"shell"]
    assert Terminal.parse(sent[0].rest.rest) == Terminal(b"xterm", 90, 30, 0, 0, b"\0")
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    line.target(codec.CHANNEL_SUCCESS, U32(upstream))
    await settle()
    assert b"best effort" in text(line.to_client())
    line.data(channel, b"rm -rf /\r")
    assert text(line.to_target(), "data") == b"rm -rf /\r"
    assert [operation.facts.get("action") for operation in line.session.asked] == ["pty"]
    line.ask(channel, b"window-change", codec.FOUR.pack(70, 20, 0, 0), reply=False)
    assert [each.rest for each in line.to_target()] == [Request(b"window-change", False, codec.FOUR.pack(70, 20, 0, 0))]


# --- the editor


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (b"ls -l\r", [Line("ls -l")]),
        (b"ls\n", [Line("ls")]),
        (b"ls\r\nid\r\n", [Line("ls"), Line("id")]),
        (b"\x1b[D\x1b[Dab\x1b[Dc\r", [Line("acb")]),
        (b"abc\x01x\x05y\r", [Line("xabcy")]),
        (b"one two\x17three\r", [Line("one three")]),
        (b"one\x15two\r", [Line("two")]),
        (b"one\x01\x0btwo\r", [Line("two")]),
        (b"first\r\x1b[A!\r", [Line("first"), Line("first!")]),
        (b"a\rb\r\x10\x10\x0e\r", [Line("a"), Line("b"), Line("b")]),
        (b"abc\x03\x04", [Interrupt(), End()]),
        (b"ab\x01\x04\r", [Line("b")]),
        (b"ab\x1b[3~\r", [Line("ab")]),
        ("zähler…\r".encode(), [Line("zähler…")]),
        ("a\u202eb\u200b\x07\x00c\r".encode(), [Line("abc")]),
        (b"a\tb\r", [Line("a b")]),
        (b"\x1b[200~rm x\x1b[201~\r", [Line("rm x")]),
        (b"\xff\r", [Line("\ufffd")]),
    ],
)
def test_keys_become_lines(keys: bytes, expected: list[object]) -> None:
    whole = LineEditor("$ ").feed(keys)
    editor = LineEditor("$ ")
    assert whole == [event for at in range(len(keys)) for event in editor.feed(keys[at : at + 1])] == expected


@pytest.mark.parametrize("columns", [1, 80, 0xFFFFFFFF])
def test_each_key_shows_one_row_however_long_the_line_is(columns: int) -> None:
    """Every key once drew the line from each of its characters on: 1,500 typed ones took minutes, of everybody's."""
    editor = LineEditor("$ ", columns)
    shown = []
    for key in "a\u0301" * 1000 + "\x01":
        editor.feed(key.encode())
        shown.append(len(editor.take_echo()))
    assert max(shown) < 4000
    assert editor.feed(b"\x05\r") == [Line("a\u0301" * 1000)]


@pytest.mark.parametrize("keys", [b"\x03", b"\r", b"\x0c"])
async def test_keys_wait_for_a_client_that_does_not_look(keys: bytes) -> None:
    line = harness.Line(lines_allowed)
    line.relay.login.connection = "build"  # type: ignore[misc]
    channel = line.open(window=1000)
    line.ask(channel, b"pty-req", Terminal(b"xterm", 80, 24, 0, 0, b"\0").build())
    line.ask(channel, b"shell")
    await settle()
    line.data(channel, keys * 6000)
    for _ in range(4):
        await settle()
    assert max(each.queued for each in line.relay.client.channels.values()) < MAX_UNSEEN + 8_000
    line.to_client()
    line.client(codec.CHANNEL_WINDOW_ADJUST, U32(channel) + U32(64 << 20))
    for _ in range(4):
        await settle()
    line.data(channel, b"\rls\r")
    await ran(line, b"ls")


async def test_a_line_behind_an_empty_one_runs() -> None:
    line, channel = await shell(terminal=True)
    line.to_client()
    line.data(channel, b"\r\r# nothing\rls\r")
    await ran(line, b"ls")


@given(st.binary(max_size=200), st.integers(1, 100))
def test_whatever_is_typed_gives_lines_that_show(keys: bytes, columns: int) -> None:
    editor = LineEditor("$ ", columns)
    events = editor.feed(keys + b"\r")
    editor.take_echo()
    assert all(event.text.isprintable() for event in events if isinstance(event, Line))
