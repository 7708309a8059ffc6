"""What is asked of an SSH connection besides commands: facts, decisions, cards and fingerprints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import ssh
from rules.model import UNKNOWN, Connection, Operation
from rules.vocabulary import FACTS
from tests.rules.given import judged, rules_of

HOST = Connection("host-1", "ssh")

FACTS_OF: list[tuple[Operation, dict[str, Any]]] = [
    (ssh.shell_operation(), {"action": "shell"}),
    (ssh.line_shell_operation(), {"action": "shell"}),
    (ssh.pty_operation(b"xterm"), {"action": "pty"}),
    (ssh.agent_operation(), {"action": "agent"}),
    (ssh.x11_operation(), {"action": "x11"}),
    (ssh.subsystem_operation(b"netconf"), {"action": "subsystem", "subsystem": "netconf"}),
    (ssh.subsystem_operation(b"a b"), {"action": "subsystem", "subsystem": UNKNOWN}),
    (ssh.subsystem_operation(b""), {"action": "subsystem", "subsystem": UNKNOWN}),
    (ssh.env_operation(b"LANG", b"C"), {"action": "env", "variable": "LANG=C"}),
    (ssh.env_operation(b"A=B", b"C"), {"action": "env", "variable": UNKNOWN}),
    (ssh.env_operation(b"A", b"\0"), {"action": "env", "variable": UNKNOWN}),
    (ssh.forward_operation(b"DB.internal.", 5432), {"action": "forward", "destination": "db.internal:5432"}),
    (ssh.forward_operation(b"10.0.0.1", 22), {"action": "forward", "destination": "10.0.0.1:22"}),
    (ssh.forward_operation(b"::1", 22), {"action": "forward", "destination": "[::1]:22"}),
    (ssh.forward_operation(b"0:0::1", 22), {"action": "forward", "destination": "[::1]:22"}),
    (ssh.forward_operation(b"::ffff:127.0.0.1", 22), {"action": "forward", "destination": "127.0.0.1:22"}),
    (ssh.forward_operation(b"127.1", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"0x7f.0.0.1", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"2130706433", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"fe80::1%eth0", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"0.0.0.0", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"[::]", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"::ffff:0.0.0.0", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"a b", 22), {"action": "forward", "destination": UNKNOWN}),
    (ssh.forward_operation(b"h", 70000), {"action": "forward", "destination": UNKNOWN}),
    (ssh.unix_forward_operation(b"/run/x/../d.sock"), {"action": "forward", "destination": "unix:/run/d.sock", "paths": ("/run/d.sock",)}),
    (ssh.unix_forward_operation(b"d.sock"), {"action": "forward", "destination": UNKNOWN, "paths": UNKNOWN}),
    (ssh.reverse_forward_operation(b"localhost", 8080), {"action": "reverse_forward", "destination": "localhost:8080"}),
    (ssh.reverse_forward_operation(b"", 8080), {"action": "reverse_forward", "destination": "*:8080"}),
    (ssh.reverse_forward_operation(b"*", 8080), {"action": "reverse_forward", "destination": "*:8080"}),
    (ssh.reverse_forward_operation(b"0.0.0.0", 8080), {"action": "reverse_forward", "destination": "*:8080"}),
    (ssh.reverse_forward_operation(b"::", 8080), {"action": "reverse_forward", "destination": "*:8080"}),
    (ssh.reverse_forward_operation(b"127.1", 8080), {"action": "reverse_forward", "destination": UNKNOWN}),
    (ssh.unix_reverse_forward_operation(b"/s"), {"action": "reverse_forward", "destination": "unix:/s", "paths": ("/s",)}),
    (ssh.sftp_operation(["write"], [b"/srv/x"]), {"action": "sftp", "op": "write", "paths": ("/srv/x",)}),
    (ssh.sftp_operation(["rename"], [b"/a", b"/b"]), {"action": "sftp", "op": "rename", "paths": ("/a", "/b")}),
    (ssh.sftp_operation(["list"], [b"/a", b"/a"]), {"action": "sftp", "op": "list", "paths": ("/a",)}),
    (ssh.sftp_operation(["read"], [b"/\xff"]), {"action": "sftp", "op": "read", "paths": ("/\udcff",)}),
    (ssh.sftp_operation(["read"], None, reason="why"), {"action": "sftp", "op": "read", "paths": UNKNOWN}),
    (ssh.sftp_operation(["extended"], [], extension="limits@x"), {"action": "sftp", "op": "extended", "paths": (), "argv": "limits@x"}),
]


@pytest.mark.parametrize(("operation", "facts"), FACTS_OF, ids=lambda value: value.title if isinstance(value, Operation) else None)
def test_facts(operation: Operation, facts: dict[str, Any]) -> None:
    given_facts = {name: operation.facts.get(name) for name in FACTS["ssh"]}
    complete = UNKNOWN not in facts.values()
    assert operation.complete is complete
    assert bool(operation.reason) is not complete
    absent = dict.fromkeys(FACTS["ssh"])
    assert given_facts == {**absent, **facts, "complete": complete, "reason": operation.reason}
    assert operation.title.isprintable()


@pytest.mark.parametrize(
    ("operation", "effect"),
    [
        (ssh.shell_operation(), "deny"),
        (ssh.agent_operation(), "deny"),
        (ssh.subsystem_operation(b"sftp"), "allow"),
        (ssh.subsystem_operation(b"netconf"), "deny"),
        (ssh.sftp_operation(["write"], [b"/srv/upload/a"]), "allow"),
        (ssh.sftp_operation(["write"], [b"/srv/upload"]), "allow"),
        (ssh.sftp_operation(["write"], [b"/srv/uploads"]), "deny"),
        (ssh.sftp_operation(["write"], [b"/etc/passwd"]), "deny"),
        (ssh.sftp_operation(["write"], None, reason="unknown"), "deny"),
        (ssh.sftp_operation(["read"], [b"/srv/upload/a"]), "deny"),
        (ssh.sftp_operation(["write", "read"], [b"/srv/upload/a"]), "deny"),
        (ssh.sftp_operation(["write", "append"], [b"/srv/upload/a"]), "allow"),
        (ssh.sftp_operation(["rename"], [b"/srv/upload/a", b"/srv/upload/b"]), "hold"),
        (ssh.sftp_operation(["rename"], [b"/srv/upload/a", b"/etc/cron.d/b"]), "deny"),
        (ssh.forward_operation(b"db.internal", 5432), "allow"),
        (ssh.forward_operation(b"DB.INTERNAL.", 5432), "allow"),
        (ssh.forward_operation(b"db.internal", 22), "deny"),
        (ssh.reverse_forward_operation(b"db.internal", 5432), "deny"),
        (ssh.env_operation(b"LANG", b"de_DE.UTF-8"), "allow"),
        (ssh.env_operation(b"LD_PRELOAD", b"x"), "deny"),
    ],
    ids=lambda value: value.title if isinstance(value, Operation) else None,
)
def test_rules_that_name_them(operation: Operation, effect: str) -> None:
    rules = rules_of(
        "{on: ssh, match: {action: subsystem, subsystem: sftp}, effect: allow}",
        "{on: ssh, match: {action: sftp, op: [write, append], paths: ['/srv/upload/**']}, effect: allow}",
        "{on: ssh, match: {action: sftp, op: rename, paths: ['/srv/upload/**']}, effect: hold}",
        "{on: ssh, match: {action: forward, destination: 'db.internal:5432'}, effect: allow}",
        "{on: ssh, match: {action: env, variable: ['LANG=*', 'LC_*=*']}, effect: allow}",
    )
    assert judged(operation, rules, connection=HOST).effect == effect


def test_a_deny_on_a_destination_is_not_evaded_by_its_spelling() -> None:
    rules = rules_of(
        "{on: ssh, match: {action: forward}, effect: allow}",
        "{on: ssh, match: {action: forward, destination: '127.*'}, effect: deny}",
    )
    for host in (b"127.0.0.1", b"127.1", b"0177.0.0.1", b"0x7f000001", b"2130706433", b"::ffff:7f00:1", b"127.0.0.1."):
        assert judged(ssh.forward_operation(host, 80), rules, connection=HOST).effect == "deny"
    assert judged(ssh.forward_operation(b"h", 80), rules, connection=HOST).effect == "allow"


@pytest.mark.parametrize("operation", [operation for operation, _ in FACTS_OF], ids=lambda operation: operation.title)
def test_a_reviewer_can_be_asked(operation: Operation) -> None:
    assert operation.exact is not None
    shown = operation.exact()
    assert shown.title == operation.title
    assert shown.text


def test_the_fingerprint_covers_all_of_it() -> None:
    def write(**changed: Any) -> Operation:
        return ssh.sftp_operation(["write"], [b"/x"], **changed)

    different = [
        write(),
        write(payload=b"\x01"),
        write(context=b"root"),
        ssh.sftp_operation(["append"], [b"/x"]),
        ssh.sftp_operation(["write", "read"], [b"/x"]),
        ssh.sftp_operation(["write"], [b"/x", b"/y"]),
        ssh.shell_operation(),
        ssh.shell_operation(b"root"),
        ssh.line_shell_operation(),
        ssh.pty_operation(),
        ssh.pty_operation(b"xterm"),
        ssh.forward_operation(b"a", 11),
        ssh.forward_operation(b"a1", 1),
        ssh.reverse_forward_operation(b"a", 11),
        ssh.unix_forward_operation(b"/a"),
        ssh.unix_reverse_forward_operation(b"/a"),
        ssh.env_operation(b"A", b"B"),
        ssh.env_operation(b"AB", b""),
        ssh.subsystem_operation(b"a"),
        ssh.agent_operation(),
        ssh.x11_operation(),
    ]
    payloads = [operation.exact().payload for operation in different if operation.exact is not None]
    assert len(set(payloads)) == len(different)


def test_what_writes() -> None:
    assert not ssh.sftp_operation(["read"], [b"/x"]).writes
    assert ssh.sftp_operation(["read", "write"], [b"/x"]).writes
    assert ssh.sftp_operation(["setstat"], [b"/x"]).writes
    assert ssh.shell_operation().writes
    assert not ssh.env_operation(b"A", b"B").writes


@given(st.binary(max_size=80), st.integers(-1, 1 << 32))
def test_whatever_comes(text: bytes, port: int) -> None:
    operations = [
        ssh.subsystem_operation(text),
        ssh.env_operation(text, text),
        ssh.pty_operation(text),
        ssh.forward_operation(text, port),
        ssh.reverse_forward_operation(text, port),
        ssh.unix_forward_operation(text),
        ssh.sftp_operation(["read"], [text]),
    ]
    for operation in operations:
        assert operation.complete is (operation.reason == "")
        assert operation.title.isprintable()
        assert operation.exact is not None
        assert operation.exact().text.isprintable()
