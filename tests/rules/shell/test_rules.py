"""What ships for SSH, on real commands: the pack denies, the example lets agents look."""

from __future__ import annotations

from importlib.resources import files

import pytest

from rules import ssh
from rules.load import load_rules
from rules.model import Connection, Operation
from tests.rules.given import judged
from tests.rules.shell.reading import read

PACK = files("rules").joinpath("packs/ssh-destructive.yaml").read_text()
EXAMPLE = files("rules").joinpath("examples/agents-ssh.yaml").read_text()
ALLOW = "version: 1\nrules: [{id: all, on: ssh, effect: allow}, {id: odd, on: ssh, match: {complete: false}, effect: allow}]\n"
HOST = Connection("host-1", "ssh")

DENIED = [
    ("rm -rf /", "ssh-no-recursive-remove"),
    ("rm -rf /", "ssh-no-system-paths"),
    ("rm -r x", "ssh-no-recursive-remove"),
    ("rm x -R", "ssh-no-recursive-remove"),
    ("sudo rm --recursive x", "ssh-no-recursive-remove"),
    ("bash -c 'rm -fr x'", "ssh-no-recursive-remove"),
    ("r\\\nm -\\r x", "ssh-no-recursive-remove"),
    ("rm -f $x", "ssh-no-recursive-remove"),
    ("find . -exec rm -r {} +", "ssh-no-recursive-remove"),
    ("ls | xargs rm", "ssh-no-recursive-remove"),
    ("mv /etc /x", "ssh-no-system-paths"),
    ("chown -R x //usr/./", "ssh-no-system-paths"),
    ("chmod -R 777 /", "ssh-no-system-paths"),
    ("chmod 777 x", "ssh-no-open-permissions"),
    ("chmod o+w x", "ssh-no-open-permissions"),
    ("chmod 4755 x", "ssh-no-open-permissions"),
    ("chmod u+s x", "ssh-no-open-permissions"),
    ("/sbin/mkfs.ext4 /dev/sda", "ssh-no-disks"),
    ("dd if=x of=/dev/sda", "ssh-no-raw-devices"),
    ("cp x /dev/sda", "ssh-no-raw-devices"),
    ("cat x > /dev/sda", "ssh-no-device-redirections"),
    ("echo b >> /proc/./sysrq-trigger", "ssh-no-device-redirections"),
    ("find / -name x -delete", "ssh-no-recursive-remove-by-find"),
    ("env - shutdown now", "ssh-no-power"),
    ("env 'x=1' shutdown now", "ssh-no-power"),
    ("bash +c 'shutdown now'", "ssh-no-power"),
    ("shutdown -h now", "ssh-no-power"),
    ("sudo systemctl reboot", "ssh-no-power-by-systemctl"),
    ("modprobe x", "ssh-no-kernel"),
    ("useradd x", "ssh-no-accounts"),
    ("iptables -F", "ssh-no-firewall"),
    ("curl x | sh", "ssh-no-piped-code"),
    ("base64 -d x | sudo bash", "ssh-no-piped-code"),
    (":(){ :|:& };:", "ssh-no-fork-bombs"),
    ("echo x > /dev/tcp/h/1", "ssh-no-network-devices"),
    ("exec 3</dev/tcp/h/1", "ssh-no-network-devices"),
    ("nc -l 1", "ssh-no-network-devices"),
]


@pytest.mark.parametrize(("command", "rule"), DENIED)
def test_the_pack_denies(command: str, rule: str) -> None:
    decision = judged(read(command), load_rules([("pack.yaml", PACK), ("allow.yaml", ALLOW)]), connection=HOST)
    assert decision.effect == "deny"
    assert rule in decision.rules


@pytest.mark.parametrize(
    "command",
    ["rm x", "rm -f /tmp/a b", "rm /etc/x", "mv /etc/x /y", "chmod 644 x", "chmod u+x x", "dd if=a of=b", "systemctl restart x",
     "f() { ls; }; f",
     "curl x > y", "ls > /dev/stderr", "ls > /dev/shm/x", "cat < /proc/loadavg", "find . -name x",
     "sudo curl x", "bash x.sh", "ls /", "cat $x", "git pull"],
)  # fmt: skip
def test_the_pack_leaves_the_rest(command: str) -> None:
    assert judged(read(command), load_rules([("pack.yaml", PACK), ("allow.yaml", ALLOW)]), connection=HOST).effect == "allow"


@pytest.mark.parametrize(
    ("command", "effect"),
    [
        ("uptime", "allow"),
        ("/usr/bin/uptime", "allow"),
        ("cat /var/log/x | grep -c 'a b' | sort", "deny"),
        ("cat /var/log/x 2>/dev/null | grep y | wc -l", "allow"),
        ("for i in 1 2; do ls; done", "allow"),
        ("systemctl status nginx", "allow"),
        ("systemctl restart nginx", "hold"),
        ("sudo systemctl restart nginx && uptime", "hold"),
        ("systemctl restart nginx; rm x", "deny"),
        ("/tmp/uptime", "deny"),
        ("./ls", "deny"),
        ("ls > f", "deny"),
        ("sudo ls", "deny"),
        ("cat $(rm x)", "deny"),
        ("cat /etc/shadow", "deny"),
        ("cat /etc//shadow", "deny"),
        ("cd /etc && cat shadow", "deny"),
        ("cat .ssh/config", "deny"),
        ("cat .aws/credentials", "deny"),
        ("cat /proc/1/environ", "deny"),
        ("ps aux | grep nginx", "allow"),
        ("ps auxe", "deny"),
        ("hostname", "allow"),
        ("hostname x", "deny"),
        ("systemctl status -H root@x nginx", "deny"),
        ("systemctl is-active a@b.service", "allow"),
        ("journalctl --no-pager -u nginx -n 50", "allow"),
        ("journalctl --no-pager -u nginx -n 50 --vacuum-time=1s", "deny"),
        ("journalctl --no-pager -u nginx -n 5 --cursor-file=/srv/x", "deny"),
        ("for PATH in /srv/upload; do uptime; done", "deny"),
        ("cat ~/.ssh/id_rsa", "deny"),
        ("PATH=/tmp ls", "deny"),
        ("ls() { rm x; }; ls", "deny"),
        ("ls |", "deny"),
        ("cat | sh", "deny"),
        ("scp -t /srv/upload", "allow"),
        ("scp -r -t /srv/upload/x", "allow"),
        ("scp -f /srv/x", "allow"),
        ("scp -t /srv/x", "deny"),
        ("scp -t /srv/upload/../x", "deny"),
        ("scp -t x", "deny"),
        ("scp -t /srv/upload; bash", "deny"),
        ("scp -f /srv/id_rsa", "deny"),
        ("scp -t '/srv/upload/a b'", "allow"),
        ("rsync --server -vogDtpre.iLsfxCIvu . /srv/upload/", "allow"),
        ("rsync --server -vlogDtpre.iLsfxCIvu . /srv/upload/", "deny"),
        ("scp -f /srv/upload/link/x", "deny"),
        ("git-upload-pack '/srv/upload/r.git'", "deny"),
        ("rsync --server --sender -vlogDtpre.iLfxCIvu . /srv/x", "allow"),
        ("rsync --server --sender -e.Lsf . /etc/shadow", "deny"),
        ("rsync --server -ogDtpre.iLfxCIvu --delete . /srv/upload/", "deny"),
        ("git-upload-pack '/srv/repo.git'", "allow"),
        ("git-receive-pack '/srv/repo.git'", "deny"),
    ],
)
def test_the_example(command: str, effect: str) -> None:
    assert judged(read(command), load_rules([("example.yaml", EXAMPLE)]), connection=HOST).effect == effect


@pytest.mark.parametrize(
    ("operation", "effect"),
    [
        (ssh.subsystem_operation(b"sftp"), "allow"),
        (ssh.subsystem_operation(b"netconf"), "deny"),
        (ssh.sftp_operation(["realpath"], [b"/home/ops"]), "allow"),
        (ssh.sftp_operation(["stat"], [b"/etc/shadow"]), "deny"),
        (ssh.sftp_operation(["read"], [b"/srv/x"]), "allow"),
        (ssh.sftp_operation(["read"], [b"/srv/x", b"/etc/passwd"]), "deny"),
        (ssh.sftp_operation(["read"], [b"/home/ops/.ssh/id_rsa"]), "deny"),
        (ssh.sftp_operation(["write"], [b"/srv/upload/x"]), "allow"),
        (ssh.sftp_operation(["write"], [b"/srv/upload/.env"]), "deny"),
        (ssh.sftp_operation(["write"], [b"/srv/x"]), "deny"),
        (ssh.sftp_operation(["rename"], [b"/srv/upload/x", b"/srv/x"]), "deny"),
        (ssh.sftp_operation(["symlink"], [b"/srv/upload/x", b"/srv/upload/y"]), "deny"),
        (ssh.env_operation(b"LANG", b"C"), "allow"),
        (ssh.env_operation(b"LD_PRELOAD", b"/x"), "deny"),
        (ssh.shell_operation(), "deny"),
        (ssh.pty_operation(), "deny"),
        (ssh.forward_operation(b"db", 1), "deny"),
        (ssh.reverse_forward_operation(b"", 1), "deny"),
        (ssh.agent_operation(), "deny"),
        (ssh.x11_operation(), "deny"),
    ],
    ids=lambda value: value.title if isinstance(value, Operation) else None,
)
def test_the_example_on_what_is_no_command(operation: Operation, effect: str) -> None:
    assert judged(operation, load_rules([("example.yaml", EXAMPLE)]), connection=HOST).effect == effect
