"""The parts of `scripts/bench postgres` that must not lie: what counts as done, and what a client really read."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest

from playground.bench import __main__ as bench
from playground.bench import pgbench, wire_client
from playground.bench.postgres import ALL, _settled, _until
from playground.bench.postgres_stage import RULES, PostgresBench, bouncer_program, rules, scripts
from playground.demo.stage import Failed
from playground.postgres import Postgres
from rules.load import load_rules

GOOD = """\
number of transactions actually processed: 800/800
number of failed transactions: 0 (0.000%)
latency average = 0.200 ms
tps = 4000.5 (without initial connection time)
"""


def test_what_pgbench_says() -> None:
    assert pgbench.parse(GOOD, "", "x") == pgbench.Ran(800, 4000.5, 0.0002)


@pytest.mark.parametrize(
    ("output", "trouble"),
    [
        (GOOD.replace("800/800", "799/800"), ""),
        (GOOD.replace("transactions: 0", "transactions: 1"), ""),
        (GOOD.replace("tps", "tpm"), ""),
        ("", ""),
        (GOOD, "pgbench: error: connection refused"),
        (GOOD, "pgbench: error: client 1 aborted: ERROR:  no\nDETAIL:  x\npgbench: error: Run was aborted"),
    ],
    ids=["too few", "failed ones", "no rate", "nothing", "an error", "several lines"],
)
def test_what_was_not_done_fails(output: str, trouble: str) -> None:
    with pytest.raises(Failed, match="pgbench through x: ") as error:
        pgbench.parse(output, trouble, "x")
    assert ("ERROR" in str(error.value)) is ("ERROR" in trouble)


def test_what_was_not_recorded_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        """A stage whose gateway decides and records nothing."""

        def done(self) -> dict[str, int]:
            return {"decided": 10}

        def recorded(self) -> int:
            return 9

    monkeypatch.setattr("playground.bench.postgres._SETTLE", 0)
    with pytest.raises(Failed, match="of 10 transactions, 10 statements were decided and 9 recorded"):
        _settled(Deaf(), 10)  # type: ignore[arg-type]


def test_the_rules_are_a_hundred() -> None:
    assert len(load_rules([("bench", rules())]).rules) == RULES + 1


def test_every_measurement_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["postgres", "--only", "nothing"])
    told = capsys.readouterr().err
    assert all(name in told for name in ALL)


def test_without_a_relay_it_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "relay_missing", lambda: "there is none")
    assert bench.main(["postgres"]) == 0
    assert capsys.readouterr().out == "skipped: there is none\n"


def test_what_never_comes_fails() -> None:
    with pytest.raises(Failed, match="nothing came"):
        _until(lambda: False, "nothing came", seconds=0)


def test_what_the_ledger_says(tmp_path: Path) -> None:
    stage = PostgresBench.__new__(PostgresBench)
    stage.state = tmp_path
    (tmp_path / "ledger").mkdir()
    lines = [
        '{"event": "decided", "kind": "sql"}',
        '{"event": "decided", "kind": "session"}',
        '{"event": "masked", "counts": {"hide": 4}}',
        '{"event": "checkpoint"}',
    ]
    (tmp_path / "ledger" / "relay-0.ndjson").write_text("\n".join(lines) + "\n")
    (tmp_path / "ledger" / "http-0.ndjson").write_text(lines[0] + "\n")
    assert stage.done() == {"decided": 1, "masked": 4}


def test_scripts(tmp_path: Path) -> None:
    assert scripts(tmp_path, a="SELECT 1")["a"].read_text() == "SELECT 1"


@pytest.mark.peer
def test_the_yardsticks_pass_transactions_on() -> None:
    stage = PostgresBench()
    try:
        stage.database.start()
        stage.fill()
        stage.start_yardsticks()
        for way in ("direct", "forwarder", *(["pgbouncer"] if bouncer_program() else [])):
            ran, _ = stage.pgbench(way, "-S", "-c", "2", "-t", "50")
            assert ran.transactions == 100
        with pytest.raises(Failed, match="pgbench through direct"):
            stage.pgbench("direct", "-f", str(scripts(stage.agent, wrong="SELECT nothing")["wrong"]), "-t", "1")
    finally:
        stage.close()


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def served(*answers: bytes) -> tuple[int, list[bytes]]:
    """A server that gives one answer to each thing that it is sent, on a thread; what it was sent."""
    listener, seen = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def serve() -> None:
        stream, _ = listener.accept()
        with stream:
            for answer in answers:
                seen.append(stream.recv(65536))
                for start in range(0, len(answer), 7):
                    stream.sendall(answer[start : start + 7])
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], seen


READY = message(b"Z", b"I")


def test_the_client_logs_in_and_reads_to_the_end() -> None:
    rows = b"".join(message(b"D", b"x" * 1000) for _ in range(100))
    port, seen = served(message(b"R", b"\0\0\0\3"), message(b"R", b"\0\0\0\0") + message(b"S", b"a\0b\0") + READY, rows + READY)
    stream = wire_client.connect(port, "orders-db", "secret", "orders")
    wire_client.query(stream, "SELECT 1")
    assert wire_client.drain(stream) == (len(rows + READY), (rows + READY)[-64:])
    stream.close()
    assert b"user\0orders-db\0database\0orders\0\0" in seen[0]
    assert seen[1] == message(b"p", b"secret\0")
    assert seen[2] == message(b"Q", b"SELECT 1\0")


def test_a_cut_answer_is_no_answer() -> None:
    port, _ = served(message(b"R", b"\0\0\0\0") + READY, message(b"D", b"x" * 1000))
    stream = wire_client.connect(port, "a", "b", "c")
    wire_client.query(stream, "SELECT 1")
    with pytest.raises(ConnectionError, match="before the end"):
        wire_client.drain(stream)
    stream.close()


def test_a_refusal_is_told(postgres: Postgres) -> None:
    port, _ = served(message(b"E", b"SFATAL\0C28P01\0Mno\0\0"))
    with pytest.raises(wire_client.Refused, match="28P01"):
        wire_client.connect(port, "a", "b", "c")
    with pytest.raises(wire_client.Refused, match="authentication 10"):
        wire_client.connect(postgres.port, "app", "x", "orders")
