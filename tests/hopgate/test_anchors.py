"""Anchors: signed heads arrive elsewhere, failures show and hold nothing up."""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hopgate import anchors as module
from hopgate.anchors import Anchors, heads_in, sender
from hopgate.errors import Misconfigured
from hopgate.ledger import Ledger, ledger_key
from hopgate.verify import verify_state


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path))
    yield ledger
    ledger.close()


@asynccontextmanager
async def server(answer: bytes, got: list[bytes]) -> AsyncIterator[int]:
    """A TCP listener that keeps what it is sent, and answers once it has a whole JSON line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while b'"}}' not in data and (more := await reader.read(4096)):
            data += more
        got.append(data)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_a_webhook_gets_the_signed_head(tmp_path: Path, ledger: Ledger) -> None:
    await ledger.durable()
    got: list[bytes] = []
    async with server(b"HTTP/1.1 204 No Content\r\n\r\n", got) as port:
        anchors = Anchors(f"http://127.0.0.1:{port}/heads?token=secret", ledger)
        assert await anchors.send()
        assert await anchors.send()  # not sent twice
    assert (len(got), anchors.error, anchors.sent) == (1, None, ledger.head)
    heads = heads_in(got[0].decode().splitlines())
    assert heads == (ledger.head,)
    assert heads[0].signed_by(ledger_key(tmp_path).public_key())
    ledger.close()
    assert verify_state(tmp_path, anchors=heads).anchored == {"http-0": heads[0].i}
    assert "secret" not in anchors.target


async def test_syslog_over_udp_tcp_and_a_socket(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    await ledger.durable()
    kept = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        udp.bind(("127.0.0.1", 0))
        local.bind(str(tmp_path / "log"))
        monkeypatch.setattr(module, "LOCAL_SYSLOG", str(tmp_path / "log"))
        for target, end in ((f"syslog://127.0.0.1:{udp.getsockname()[1]}", udp), ("syslog:", local)):
            end.settimeout(5)
            assert await Anchors(target, ledger).send()
            kept.append(end.recv(4096))
    got: list[bytes] = []
    async with server(b"", got) as port:
        assert await Anchors(f"syslog+tcp://127.0.0.1:{port}", ledger).send()
        for _ in range(100):
            if got:
                break
            await asyncio.sleep(0.01)
    length, _, framed = got[0].partition(b" ")
    assert int(length) == len(framed)
    for message in (*kept, framed):
        assert message.startswith(b"<110>1 ")
        assert heads_in([message.decode()]) == (ledger.head,)


async def test_a_command_gets_the_head_on_its_standard_input(tmp_path: Path, ledger: Ledger) -> None:
    await ledger.durable()
    target = tmp_path / "kept"
    code = f"import sys; open({str(target)!r}, 'a').write(sys.stdin.read())"
    assert await Anchors(f"command:{sys.executable} -c {shlex.quote(code)}", ledger).send()
    assert heads_in(target.read_text().splitlines()) == (ledger.head,)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.1:1/x", "connecterror"),
        ("command:false", "exit status 1"),
        ("command:/no/such/program", "no such file or directory"),
        ("syslog+tcp://127.0.0.1:1", ""),
    ],
)
async def test_a_target_that_keeps_nothing_shows(tmp_path: Path, ledger: Ledger, target: str, reason: str) -> None:
    await ledger.durable()
    anchors = Anchors(target, ledger)
    assert not await anchors.send()
    assert not await anchors.send()
    assert anchors.error is not None
    assert reason in anchors.error
    await ledger.durable()
    assert ledger.path.read_bytes().count(b'"event":"anchor_failed"') == 1


async def test_an_answer_other_than_success_is_a_failure(ledger: Ledger) -> None:
    await ledger.durable()
    async with server(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", []) as port:
        anchors = Anchors(f"http://127.0.0.1:{port}/", ledger)
        assert not await anchors.send()
    assert anchors.error == "answered 302"


async def test_a_target_that_hangs_holds_nothing_up(ledger: Ledger) -> None:
    await ledger.durable()
    anchors = Anchors("command:sleep 600", ledger, timeout=0.1)
    anchors.start()
    for _ in range(300):
        if anchors.error:
            break
        await ledger.durable(ledger.append("decided"))
        await asyncio.sleep(0.01)
    assert anchors.error == "no answer in time"
    await anchors.close()


async def test_the_final_head_is_sent_at_the_close(tmp_path: Path, ledger: Ledger) -> None:
    anchors = Anchors(f"command:tee -a {tmp_path / 'kept'}", ledger, every=0.02)
    await ledger.durable()
    anchors.start()
    for _ in range(300):
        if anchors.sent:
            break
        await asyncio.sleep(0.01)
    ledger.close()
    await anchors.close()
    heads = heads_in((tmp_path / "kept").read_text().splitlines())
    assert [head.final for head in heads] == [False, True]


@pytest.mark.parametrize(
    "target", ["", "nonsense", "syslog", "syslog://", "https://", "ftp://x", "command:", "command:'x", "syslog+tcp:", "https://[x"]
)
def test_a_target_of_no_known_form_is_refused(target: str) -> None:
    with pytest.raises(Misconfigured, match=r"ledger\.anchor"):
        sender(target)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        '{"hopgate_head":{}}',
        '{"hopgate_head":7}',
        '{"hopgate_head":',
        '{"hopgate_head":{"process":"../x","i":1,"t":1,"final":true,"h":"","signature":""}}',
    ],
)
def test_lines_without_a_head_are_passed_over(line: str) -> None:
    assert heads_in([line]) == ()
