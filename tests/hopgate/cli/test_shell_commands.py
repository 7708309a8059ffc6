"""`hopgate explain --ssh`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hopgate.cli.conftest import Hopgate

CONFIG = """\
version: 1
state: ./var
rules: [my.yaml]
identity: {issuers: [{name: local, local: true}]}
connections:
  - {name: build, kind: ssh, target: "a:9", host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN9Y/EwdzC2ONg8tIk0tLy9TUxOYGaqoWe+LtTZmO3ej",
     shell: bash, credential: {username: ops, private_key: "${secret:b}"}}
  - {name: other, kind: ssh, target: "127.0.0.1:9",
     host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN9Y/EwdzC2ONg8tIk0tLy9TUxOYGaqoWe+LtTZmO3ej",
     credential: {username: ops, password: "${secret:build}"}}
listen: {http: "127.0.0.1:18080"}
approvals: {reviewers: [ops]}
"""
RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: look, on: ssh, match: {programs: [uptime, ls]}, effect: allow}
  - {id: restart, on: ssh, match: {argv: ["systemctl restart *"]}, effect: hold}
"""


@pytest.mark.parametrize(
    ("connection", "command", "effect"),
    [
        ("build", "uptime; ls -l", "allow"),
        ("build", "uptime; rm x", "deny"),
        ("build", "systemctl restart nginx", "hold"),
        ("build", "ls (", "deny"),
        ("other", "uptime", "deny"),  # which shell reads it is not known
    ],
)
def test_commands_are_judged(hopgate: Hopgate, config: Path, connection: str, command: str, effect: str) -> None:
    config.write_text(CONFIG)
    (config.parent / "my.yaml").write_text(RULES)
    for given, stdin in ((command, ""), ("-", command)):
        done = hopgate("explain", "--connection", connection, "--as", "a", "--group", "agents", "--ssh", given, "--json", stdin=stdin)
        assert (done.status, done.err) == (0, "")
        assert json.loads(done.out)["effect"] == effect
