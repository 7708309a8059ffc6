"""The benchmark fails unless everything was done; its numbers are not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.bench import __main__ as bench
from playground.bench import measure, origin, stage
from playground.demo.stage import Failed
from rules.load import load_rules

pytestmark = pytest.mark.peer


def test_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["http", "--requests", "60", "--rounds", "1", "--only", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "260, 260, 780 of 260 requests: all" in out  # 200 to warm up, three masked values each


def test_what_was_not_done_fails(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    events = [
        {"event": "decided", "kind": "http"},
        {"event": "decided", "kind": "session"},
        {"event": "masked", "counts": {"a": 2, "b": 1}},
    ]
    (tmp_path / "ledger" / "http-0.ndjson").write_text("".join(json.dumps(each) + "\n" for each in events))
    assert stage.done_by(tmp_path) == {"decided": 1, "masked": 3, "recorded": 0}
    assert stage.done_by(tmp_path) != stage.expected(1)
    assert stage.expected(2) == {"decided": 2, "masked": 2 * origin.MASKED, "recorded": 2}


def test_a_missing_recording_fails_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        """A stage whose gateway answers and writes nothing."""

        stock_pid, stock, proxy, state = 1, 1, 1, Path("/nonexistent")

        def token(self, *_: str) -> str:
            return "t"

        def worker_pids(self) -> list[int]:
            return [1]

        def load(self, _: int, count: int, **__: object) -> dict[str, object]:
            return {"seconds": 1.0, "statuses": {"200": count}}

    monkeypatch.setattr(measure, "cpu_seconds", lambda _: 0.0)
    monkeypatch.setattr("playground.bench.measure.time.sleep", lambda _: None)
    with pytest.raises(Failed, match=r"of 210 requests: .*'recorded': 0"):
        list(measure.cpu(Deaf(), 10, 1))  # type: ignore[arg-type]


def test_the_rules_are_a_hundred_and_the_answer_is_a_kilobyte() -> None:
    assert len(load_rules([("bench", stage.rules())]).rules) == stage.RULES + 1
    assert 800 < len(origin.document()) < 1200
