"""`hopgate replay`: terminals, transcripts and HTTP exchanges, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.test import tflow

from hopgate.asciicast import Cast
from hopgate.cli import replaying
from hopgate.cli.replay_text import Piece, pieces
from hopgate.flow_format import ShownMessage, ShownRequest, ShownResponse, encode_http_flow, encode_tcp_flow, encode_tcp_message
from hopgate.flow_reading import BadFlow
from tests.hopgate.cli.conftest import Hopgate
from tests.hopgate.cli.test_sessions import rows as rows  # a fixture
from tests.hopgate.test_flow_reading import CONNECTION

RECORDING = "recordings/2030/01/01/s1.mitm"


def tcp(*messages: tuple[bool, bytes], **metadata: Any) -> bytes:
    timed = [(from_client, text, 10.0 + index) for index, (from_client, text) in enumerate(messages)]
    return encode_tcp_flow(CONNECTION, [encode_tcp_message(*each) for each in timed], flow_id="f", created=1.0, metadata=metadata)


def terminal(number: int, *shown: bytes) -> list[bytes]:
    """The records of a terminal, one an event."""
    lines: list[bytes] = []
    cast = Cast(lines.append, 100, 30, lambda: 0.0, 1.0)
    for data in shown:
        cast.output(data)
    cast.marker("uptime: allowed")
    cast.close()
    return [tcp((False, line), asciicast=number) for line in lines]


def http(
    content: bytes = b'{"a": 1}', kind: bytes = b"application/json", messages: Sequence[ShownMessage] = (), answered: bool = True
) -> bytes:
    flow: Any = tflow.twebsocketflow() if messages else tflow.tflow(resp=True)
    return encode_http_flow(
        flow,
        request=ShownRequest(b"/v1/x?y=\x1b", (), b"", None),
        response=ShownResponse(((b"Content-Type", kind),), content) if answered else None,
        metadata={"session": "s1"},
        comment="agent on billing: allow",
        messages=messages,
    )


def test_a_transcript(hopgate: Hopgate, rows: Path) -> None:
    (rows / RECORDING).write_bytes(tcp((True, b"select 1;\nselect 2"), (False, b"1\x1b]0;t\x07\xff\xe2\x80\xae\n")))
    done = hopgate("replay", "s1")
    assert (done.status, done.err) == (0, "")
    lines = [line.split(" ", 1)[1] for line in done.out.splitlines()]
    assert lines == ["> select 1;", "> select 2", "< 1\\u{1b}]0;t\\u{7}\ufffd\\u{202e}"]


def test_terminals_are_shown_as_they_were(hopgate: Hopgate, rows: Path) -> None:
    one, two = terminal(4, b"$ \x1b[31muptime\x1b[0m\r\n", b"\x1b]52;c;eA==\x07up"), terminal(7, b"other")
    (rows / RECORDING).write_bytes(tcp((True, b"exec"), (False, b"out")) + one[0] + two[0] + b"".join(one[1:]) + b"".join(two[1:]))
    done = hopgate("replay", "s1", "--no-timing")
    assert done.status == 0
    assert "> exec" in done.out
    assert "terminal 4, 100 columns, 30 rows\n$ \x1b[31muptime\x1b[0m\r\nup\x1b[7m uptime: allowed \x1b[0m\r\n" in done.out
    assert done.out.index("up") < done.out.index("other")
    assert "\x1b]" not in done.out


def test_terminals_are_exported(hopgate: Hopgate, rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.cast"
    (rows / RECORDING).write_bytes(b"".join(terminal(4, b"a") + terminal(7, b"b")))
    assert hopgate("replay", "s1", "--cast", str(target)).status == 0
    assert json.loads(target.read_text().splitlines()[1])[1:] == ["o", "a"]
    assert json.loads((tmp_path / "out-2.cast").read_text().splitlines()[1])[1:] == ["o", "b"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert hopgate("replay", "s1", "--cast", str(target)).status == 1
    (rows / RECORDING).write_bytes(tcp((True, b"x")))
    assert "no recording of a terminal" in hopgate("replay", "s1", "--cast", str(tmp_path / "none.cast")).err


def test_http(hopgate: Hopgate, rows: Path) -> None:
    records = [http(), http(b"\x89PNG" * 9, b"image/png"), http(b"x" * 9000, b"text/plain; charset=utf-8"), http(answered=False)]
    records.append(http(messages=[ShownMessage(1, True, b"hello", 5.0), ShownMessage(1, False, b"\x1b[c", 6.0)]))
    (rows / RECORDING).write_bytes(b"".join(records))
    out = hopgate("replay", "s1").out
    assert "> GET http://address:22/v1/x?y=\\u{1b}" in out
    assert '< {"a": 1}' in out
    assert "< 200 OK" in out
    assert "< (36 bytes of image/png)" in out
    assert "(9000 bytes)" in out
    assert "(agent on billing: allow)" in out
    assert "> hello" in out
    assert "< \\u{1b}[c" in out


def test_what_cannot_be_replayed(hopgate: Hopgate, rows: Path) -> None:
    assert "there is no session" in hopgate("replay", "s9").err
    assert "has no recording" in hopgate("replay", "s2").err
    assert hopgate("replay", "s1", "--speed", "0").status == 2
    for data in (b"no flows", b"0:}", tcp((False, b"no cast"), asciicast=1)):
        (rows / RECORDING).write_bytes(data)
        done = hopgate("replay", "s1")
        assert (done.status, done.err.count("\n")) == (1, 1)
    (rows / RECORDING).unlink()
    assert "any more" in hopgate("replay", "s1").err


def test_an_open_session_is_replayed_as_far_as_it_is(hopgate: Hopgate, rows: Path) -> None:
    (rows / RECORDING).write_bytes(tcp((True, b"one")) + tcp((True, b"two"))[:40])
    done = hopgate("replay", "s1")
    assert (done.status, done.out.split(" ", 1)[1]) == (0, "> one\n")


@pytest.mark.parametrize("flow", [{}, {"type": "tcp"}, {"type": "tcp", "messages": [1]}, {"type": "http"}, {"metadata": 1}, {"type": None}])
def test_flows_that_nobody_wrote(flow: dict[str, Any]) -> None:
    if flow == {"type": None}:
        assert [piece.text for piece in pieces([flow])] == ["(None flow)\n"]
        return
    with pytest.raises(BadFlow):
        list(pieces([flow]))


def test_pauses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    slept: list[float] = []
    monkeypatch.setattr(replaying.time, "sleep", slept.append)
    shown = [Piece(100.0, "a"), Piece(101.0, "b"), Piece(500.0, "c"), Piece(499.0, "d")]
    replaying.play(shown, 2.0)
    assert slept == [0.5, 1.0]
    replaying.play(shown, 0.0)
    assert slept == [0.5, 1.0]
    assert capsys.readouterr().out == "abcdabcd"
