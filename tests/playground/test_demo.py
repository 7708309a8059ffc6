"""Parts of the demonstration that the whole run does not reach everywhere. tests/peers/test_demo.py runs the whole."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from playground.demo import runas
from playground.demo.generated import messages
from playground.demo.stage import Failed, Stage, free_ports


def test_without_rights_the_code_runs_as_this_user_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1)
    chosen = runas.choose(tmp_path)
    assert (chosen.program, chosen.separate) == ("", False)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_as_root_the_code_cannot_read_what_is_the_gateways(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage")
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)  # pytest's directories are closed to others
    chosen = runas.choose(stage.agent)
    if not chosen.separate:
        pytest.skip("no Python that another user could run")
    (stage.gateway / "secret").write_text("key")
    script = f"import os; print(os.getuid(), os.getgroups()); open({str(stage.gateway / 'secret')!r})"
    plain = {"PATH": os.environ["PATH"], **chosen.environment}
    done = subprocess.run([chosen.program, "-c", script], cwd=stage.agent, env=plain, capture_output=True, text=True, check=False)
    assert done.stdout.split()[0] not in ("0", str(os.getuid()))
    assert done.stdout.strip().endswith("[]")
    assert "PermissionError" in done.stderr


def test_the_generated_code_compiles() -> None:
    *turns, last = messages(9800)
    assert last == "TERMINATE"
    for turn in turns:
        code = turn.partition("```python\n")[2].partition("```")[0]
        compile(code, "generated", "exec")


def test_ports_are_free_and_differ() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(Failed, match="hopgate check ended with status 1"):
        stage.hopgate("check")
    stage.config.write_text("version: 1\nidentity: {issuers: [{name: local, local: true}]}\n")
    assert ": ok: " in stage.hopgate("check")
    with pytest.raises(Failed, match="hopgate check ended with status 0"):
        stage.hopgate("check", fails=True)
    stage.close()
    assert tmp_path.exists()  # a directory that was given is kept
