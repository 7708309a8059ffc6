"""The SSH part of the demonstration and of the benchmark: what they claim is checked, and what did not happen fails."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from typing import Any

import pytest

from playground.bench.ssh_stage import RULES, rules
from playground.demo import commands, ssh
from playground.demo.report import Report
from rules.load import load_rules

SRV = "/host/srv"
STAGE: Any = SimpleNamespace(host=SimpleNamespace(srv=SRV))


def hops() -> list[dict[str, Any]]:
    return [
        {"client": "ssh", "request": each.line.format(srv=SRV), "status": each.status, "text": f"x {each.contains} y", "note": ""}
        for each in commands.COMMANDS
    ]


def test_what_happened_as_expected_holds() -> None:
    report = Report()
    ssh.commands(report, hops(), STAGE)
    assert not report.failed


@pytest.mark.parametrize("change", ["missing", "status", "text", "extra"])
def test_a_command_that_did_not_go_so_fails(change: str) -> None:
    found, report = hops(), Report()
    if change == "missing":
        found.pop()
    elif change == "status":
        found[2]["status"] = 0
    elif change == "text":
        found[0]["text"] = "nothing"
    else:
        found.append(found[0])
    ssh.commands(report, found, STAGE)
    assert len(report.failed) == 1


def test_the_models_turn_is_python_with_every_command() -> None:
    text = commands.message(["-p", "1"], "h@gate", ["-p", "2"], "root@host", SRV)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    calls = [node for node in ast.walk(ast.parse(code[1])) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run"]
    assert len(calls) == len(commands.COMMANDS)
    assert "'root@host'" in code[1]


def test_the_benchmarks_rules(tmp_path: Any) -> None:
    assert len(load_rules([("bench.yaml", rules(tmp_path))], reviewers=("ops",)).rules) == RULES
