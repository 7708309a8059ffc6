"""`hopgate check` beyond the file itself: what it refers to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hopgate.errors import Misconfigured
from tests.doubles import make_config

RULES = "version: 1\nrules:\n  - {id: a, on: http, effect: allow}\n"


def test_a_whole_configuration_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPGATE_TEST_KEY", "x")
    (tmp_path / "key").write_text("x")
    (tmp_path / "mine.yaml").write_text(RULES)
    credential = {"headers": {"A": "${env:HOPGATE_TEST_KEY}", "B": "${file:key}", "C": "${secret:c}"}}
    connections = [{"name": "a", "kind": "http", "target": "http://h", "credential": credential, "ca": "key"}]
    make_config(tmp_path, rules=["rules/packs/", "mine.yaml"], connections=connections, tls={"cert": "key", "key": "key"}).check()


def test_every_missing_thing_is_named_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("version: 1\nrules:\n  - {id: a, on: http, efect: allow}\n")
    (tmp_path / "directory").mkdir()
    credential = {"headers": {"A": "${env:HOPGATE_TEST_MISSING}", "B": "${file:missing}"}, "query": {"q": "${file:directory}"}}
    config = make_config(
        tmp_path,
        rules=["bad.yaml"],
        identity={"issuers": [{"name": "corp", "issuer": "https://i.example", "audience": "a", "jwks": "file:keys.json"}]},
        connections=[{"name": "a", "kind": "http", "target": "http://h", "credential": credential, "ca": "ca.pem"}],
        tls={"cert": "c.pem", "key": "k.pem"},
        approvals={"notify": ["slack://${env:HOPGATE_TEST_MISSING}"]},
    )
    with pytest.raises(Misconfigured) as caught:
        config.check()
    told = str(caught.value)
    for wanted in (
        "connections[0].credential.headers.A: ${env:HOPGATE_TEST_MISSING} is not set in the environment",
        "connections[0].credential.headers.B: ${file:" + str(tmp_path / "missing") + "} does not exist",
        "connections[0].credential.query.q: ${file:" + str(tmp_path / "directory") + "} is not a file",
        "connections[0].ca: " + str(tmp_path / "ca.pem") + " does not exist",
        "identity.issuers[0].jwks: " + str(tmp_path / "keys.json") + " does not exist",
        "tls.cert: ",
        "tls.key: ",
        "approvals.notify[0]: ${env:HOPGATE_TEST_MISSING} is not set",
        "bad.yaml:3:",
    ):
        assert wanted in told
    with pytest.raises(Misconfigured) as without_rules:
        config.check(rules=False)
    assert "bad.yaml" not in str(without_rules.value)


def test_a_file_that_this_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").touch(mode=0o000)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # root may read every file
    with pytest.raises(Misconfigured, match="cannot be read by this user"):
        make_config(tmp_path, tls={"cert": "key", "key": "key"}).check(rules=False)
