"""`hopgate verify` as a command; what it finds is tested with hopgate.verify."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.hopgate.cli.conftest import Hopgate


def test_whole_then_altered(hopgate: Hopgate, config: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        hopgate("secrets", "set", name, stdin="value")
    done = hopgate("verify")
    assert done.status == 0, done.out
    assert "unaltered unless the gateway's key was used" in done.out
    copy = tmp_path / "copy"
    shutil.copytree(config.parent / "var", copy)
    ledger = copy / "ledger" / "cli.ndjson"
    ledger.write_bytes(ledger.read_bytes().replace(b'"name":"b"', b'"name":"x"'))
    done = hopgate("verify", "--state", str(copy), configured=False)
    assert done.status == 1
    assert "ledger/cli.ndjson: line" in done.out
    assert "edited" in done.out
    report = json.loads(hopgate("verify", "--state", str(copy), "--json").out)
    assert report["verdict"] == "altered"
    assert {"kind", "file", "line", "message"} <= report["findings"][0].keys()


def test_with_a_key_kept_elsewhere(hopgate: Hopgate, config: Path, tmp_path: Path) -> None:
    hopgate("secrets", "set", "a", stdin="value")
    key = tmp_path / "kept.pub"
    shutil.copy(config.parent / "var" / "keys" / "ledger.pub", key)
    assert hopgate("verify", "--public-key", str(key)).status == 0
    assert hopgate("verify", "--public-key", str(tmp_path / "none")).status == 1


def test_nothing_there(hopgate: Hopgate, tmp_path: Path) -> None:
    assert hopgate("verify", "--state", str(tmp_path)).status == 1
