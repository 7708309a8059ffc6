"""How commands end: statuses, one line on stderr, help at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hopgate.cli.app import build
from tests.hopgate.cli.conftest import Hopgate

# every command, and what calling it without anything must end with
COMMANDS = (
    *((name,) for name in ("up", "check", "explain", "unlock", "verify", "replay", "env", "doctor", "watch")),
    ("console", "login"),
    *(("token", name) for name in ("issue", "exchange", "ssh-cert", "revoke")),
    *(("ssh", name) for name in ("known-hosts", "config")),
    *(("secrets", name) for name in ("set", "list", "rotate", "delete")),
    *(("approvals", name) for name in ("list", "show", "approve", "deny", "watch")),
    *(("sessions", name) for name in ("list", "show", "kill", "export")),
    *(("ca", name) for name in ("create", "show", "export")),
)


def test_the_commands_are_these() -> None:
    app = build()
    found: set[tuple[str, ...]] = {(str(each.name),) for each in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found |= {(str(group.name), str(each.name)) for each in group.typer_instance.registered_commands}
    assert found == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_has_help(hopgate: Hopgate, command: tuple[str, ...]) -> None:
    done = hopgate(*command, "--help", configured=False)
    assert done.status == 0
    assert done.out.startswith("Usage: hopgate")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("frobnicate",), 2, "no such command 'frobnicate'"),
        (("up", "--workers", "0"), 2, "--workers"),
        (("up", "--frob"), 2, "no such option: --frob"),
        (("explain",), 2, "missing option"),
        (("token", "issue"), 2, "missing option '--subject'"),
        (("secrets", "set", "x"), 2, "no value for x on stdin"),
        (("approvals", "approve", "abc"), 2, "who are you? put your token into hopgate_token"),
        (("approvals", "list", "--state", "eaten"), 2, "--state must be pending"),
        (("approvals", "show", "abc"), 1, "there is no approval abc"),
        (("sessions", "show", "abc"), 1, "there is no session abc"),
        (("sessions", "kill"), 2, "name one thing to kill"),
        (("sessions", "kill", "a", "--all"), 2, "name one thing to kill"),
        (("unlock", "subject"), 2, "what to unlock?"),
        (("unlock", "all", "x"), 2, "what to unlock?"),
        (("ca", "show"), 1, "there is no certificate authority yet"),
        (("verify", "--state", "/nonexistent"), 2, "/nonexistent: is not a directory"),
        (("token", "exchange", "ey.ey.ey"), 2, "write the token to stdin"),
    ],
)
def test_an_error_is_one_line_and_a_status(hopgate: Hopgate, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = hopgate(*arguments)
    assert (done.status, done.out) == (status, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("hopgate: ")
    assert said in done.err.lower()


@pytest.mark.parametrize("command", ["check", "up", "verify", "env"])
def test_a_missing_configuration_is_told(hopgate: Hopgate, command: str) -> None:
    done = hopgate(command, "--config", "/nonexistent.yaml", configured=False)
    assert done.status == 1
    assert done.err == "hopgate: /nonexistent.yaml: cannot be read: no such file or directory\n"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from hopgate.cli.app import run; run(['--help']); "
        "heavy = {'pydantic', 'sqlalchemy', 'httpx', 'cryptography', 'ruamel', 'rules', 'mitmproxy'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # typer brings pydantic itself in some versions
    assert done.stderr.strip() in ("[]", "['pydantic']")


def test_runs_as_a_module_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "hopgate", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hopgate 0.")


def test_a_closed_pipe_is_no_traceback(config: Path) -> None:
    script = f"{sys.executable} -m hopgate check --config '{config}' | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
