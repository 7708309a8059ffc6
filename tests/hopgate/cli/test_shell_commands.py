"""`hopgate explain --ssh` and `--ssh-action`."""

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
  - {id: upload, on: ssh, match: {action: sftp, op: write, paths: ["/srv/upload/**"]}, effect: allow}
  - {id: forward, on: ssh, match: {destination: ["db:5432", "*:8080", "unix:/run/x"]}, effect: allow}
  - {id: other, on: ssh, match: {action: [pty, agent]}, effect: hold}
  - {id: named, on: ssh, match: {subsystem: netconf}, effect: allow}
  - {id: extended, on: ssh, match: {op: extended, argv: "x@y"}, effect: allow}
  - {id: language, on: ssh, match: {variable: "LANG=*"}, effect: allow}
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


@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("shell", "deny"),
        ("pty", "hold"),
        ("agent", "hold"),
        ("x11", "deny"),
        ("subsystem netconf", "allow"),
        ("env LANG=C", "allow"),
        ("env PATH=/x", "deny"),
        ("forward db:5432", "allow"),
        ("forward unix:/run/x", "allow"),
        ("reverse_forward *:8080", "allow"),
        ("reverse_forward unix:/run/y", "deny"),
        ("sftp write /srv/upload/x", "allow"),
        ("sftp write /srv/upload/../x", "deny"),
        ("sftp write srv", "deny"),
        ("sftp rename /srv/upload/a /srv/upload/b", "deny"),
        ("sftp extended x@y", "allow"),
    ],
)
def test_what_is_no_command_is_judged(hopgate: Hopgate, config: Path, action: str, effect: str) -> None:
    config.write_text(CONFIG)
    (config.parent / "my.yaml").write_text(RULES)
    done = hopgate("explain", "--connection", "build", "--as", "a", "--group", "agents", "--ssh-action", action, "--json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["effect"] == effect
    assert found["facts"]["action"] == action.split()[0]


@pytest.mark.parametrize("action", ["shells", "forward db", "env A", "subsystem", "sftp", "sftp write", "sftp sing /x", "shell x", " "])
def test_what_is_no_action(hopgate: Hopgate, config: Path, action: str) -> None:
    config.write_text(CONFIG)
    (config.parent / "my.yaml").write_text(RULES)
    done = hopgate("explain", "--connection", "build", "--as", "a", "--ssh-action", action)
    assert done.status == 2
    assert "--ssh-action" in done.err
    assert done.err.count("\n") == 1
