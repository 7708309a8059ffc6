"""A configuration in a temporary directory, and `hopgate` in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hopgate.cli.app import run

CONFIG = """\
version: 1
state: ./var
rules: [my.yaml]
identity: {issuers: [{name: local, local: true}]}
connections:
  - {name: billing, kind: http, hosts: ["billing.internal:80"], target: "http://127.0.0.1:9", labels: {env: prod},
     credential: {headers: {Authorization: "Bearer ${secret:billing}"}}}
listen: {http: "127.0.0.1:18080"}
operators: [ops]
approvals: {reviewers: [finance], timeout: 5m}
"""
RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: http, match: {method: GET, path: "/v1/**"}, effect: allow}
  - id: large
    on: http
    match: {method: POST, path: /v1/refunds, body: {"$.amount": {gt: 100}}}
    effect: hold
    hold: {reviewers: [finance]}
  - {id: no-admin, on: http, match: {path: "/admin/**"}, effect: deny, message: the admin area is for people}
  - {id: hide, on: http, effect: mask, mask: {jsonpath: ["$..ssn"], strategy: partial, keep: 4}}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


type Hopgate = Callable[..., Done]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "my.yaml").write_text(RULES)
    path = tmp_path / "hopgate.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def hopgate(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hopgate:
    """`hopgate("token", "issue", …, stdin="…", token="…")` on the configuration of `config`."""

    def call(*arguments: str, stdin: str = "", token: str = "", configured: bool = True) -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        monkeypatch.setenv("HOPGATE_TOKEN", token)
        status = run([*arguments, *(["--config", str(config)] if configured else [])])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return call
