"""The far ends of scp, rsync and git: exactly, and nothing that only begins like one."""

from __future__ import annotations

import pytest

from rules.model import UNKNOWN
from rules.shell.command import is_file_transfer
from tests.rules.shell.reading import read

TRANSFERS = [
    ("scp -t /srv/x", "write", ("/srv/x",)),
    ("scp -f /srv/x", "read", ("/srv/x",)),
    ("scp -r -p -t /srv/x", "write", ("/srv/x",)),
    ("scp -v -r -d -t -- /srv/x", "write", ("/srv/x",)),
    ("scp -rpt /srv/x", "write", ("/srv/x",)),
    ("scp -f -- '-x'", "read", UNKNOWN),
    ("scp -t '/srv/a b'", "write", ("/srv/a b",)),
    ("scp -t /srv/x/../y/", "write", ("/srv/y",)),
    ("scp -t x", "write", UNKNOWN),
    ("/usr/bin/scp -t /x", "write", ("/x",)),
    ("rsync --server -ogDtpre.iLsfxCIvu . /srv/x", "write", ("/srv/x",)),
    # symbolic links of the client's: what is copied through them next goes where they lead
    ("rsync --server -logDtpre.iLsfxCIvu . /srv/x", UNKNOWN, ("/srv/x",)),
    ("rsync --server -ae.iLsfxCIvu . /srv/x", UNKNOWN, ("/srv/x",)),
    ("rsync --server -r -l . /srv/x", UNKNOWN, ("/srv/x",)),
    ("rsync --server -logDtpre.iLsfxCIvu --munge-links . /srv/x", "write", ("/srv/x",)),
    ("rsync --server --sender -vlogDtpre.iLsfxCIvu . /srv/x /srv/y", "read", ("/srv/x", "/srv/y")),
    ("rsync --server -vvnogDtpre.iLfxCIvu --log-format=%i --numeric-ids --bwlimit=100 . /srv/x", "write", ("/srv/x",)),
    ("rsync --server -re.iLfxCIvu --delete . /srv/x", UNKNOWN, ("/srv/x",)),
    ("rsync --server --sender -re.iLfxCIvu --remove-source-files . /srv/x", UNKNOWN, ("/srv/x",)),
    ("rsync --server -re.iLfxCIvu . x/", "write", UNKNOWN),
    ("rsync --server -rse.iLfxCIvu .", UNKNOWN, UNKNOWN),
    ("rsync --server -rse.iLfxCIvu . /srv/x", UNKNOWN, UNKNOWN),
    ("git-upload-pack '/srv/r.git'", "read", ("/srv/r.git",)),
    ("git upload-pack '/srv/r.git'", "read", ("/srv/r.git",)),
    ("git-receive-pack '/srv/r.git'", "write", ("/srv/r.git",)),
    ("git-upload-archive '/srv/r.git'", "read", ("/srv/r.git",)),
    ("git-upload-pack '~/r.git'", "read", UNKNOWN),
]


@pytest.mark.parametrize(("command", "op", "paths"), TRANSFERS)
def test_what_is_one(command: str, op: object, paths: object) -> None:
    operation = read(command)
    assert operation.complete
    assert is_file_transfer(operation)
    assert operation.facts.get("op") == op
    assert operation.facts.get("paths") == paths


@pytest.mark.parametrize(
    "command",
    [
        "scp -t /x; bash",
        "scp -t /x && ls",
        "scp -t /x | cat",
        "cat y | scp -t /x",
        "scp -t /x > /y",
        "scp -t /x < /y",
        "scp -t /x &",
        "A=1 scp -t /x",
        "sudo scp -t /x",
        "nice scp -t /x",
        "bash -c 'scp -t /x'",
        "scp -t $x",
        "scp -t /x*",
        "scp -t `ls`",
        "scp -t",
        "scp -t /x /y",
        "scp -t -f /x",
        "scp -t -S /bin/sh /x",
        "scp -S/bin/sh -t /x",
        "scp -oProxyCommand=x -t /x",
        "scp /x h:/y",
        "scp",
        "/tmp/scp -t /x",
        "./scp -t /x",
        "scpx -t /x",
        "rsync /x h:/y",
        "rsync --server . ",
        "rsync --sender --server -r . /x",
        "rsync --server --daemon .",
        "rsync --server --daemon --config=/tmp/x . /x",
        "rsync --server -r --log-file=/etc/x . /x",
        "rsync --server -r --temp-dir /etc . /x",
        "rsync --server -r --backup-dir=/etc . /x",
        "rsync --server -r --files-from=/etc/shadow . /x",
        "rsync --server -r --link-dest=/etc . /x",
        "rsync --server -M--x . /x",
        "rsync --server -re sh . /x",
        "rsync --server -r $x . /x",
        "git-upload-pack",
        "git-upload-pack /x /y",
        "git-upload-pack --upload-pack=x",
        "git-upload-pack -x",
        "git upload-pack",
        "git -c x=y upload-pack /x",
        "git log",
        "git",
        "ls",
        "",
    ],
)
def test_what_only_looks_like_one(command: str) -> None:
    operation = read(command)
    assert not is_file_transfer(operation)
    for part in operation.parts or (operation,):
        if not part.complete:
            assert part.facts.get("op") is None


@pytest.mark.parametrize(
    "command", ["rsync --daemon", "rsync --server --daemon .", "rsync --server -r --config=/x . /y", "rsync -M--x a b"]
)
def test_what_may_start_something_is_not_understood(command: str) -> None:
    assert not read(command).complete
