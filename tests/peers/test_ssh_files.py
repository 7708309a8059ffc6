"""Files through the gateway with the real programs: sftp, rsync, git, and the many short commands of a configuration tool."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hopgate.cli.replay_text import cast_lines, pieces
from hopgate.flow_reading import read_flows
from hopgate.playback import terminals
from tests.peers.ssh_gateway import Gateway, gateway
from tests.peers.sshd import OpenSSH, Sshd

pytestmark = pytest.mark.peer

FILES = """
  - {id: find, on: ssh, match: {action: sftp, op: [realpath, stat, list]}, effect: allow}
  - {id: fetch, on: ssh, match: {action: sftp, op: read, paths: ["TMP/srv/**"]}, effect: allow}
  - id: upload
    on: ssh
    match: {action: sftp, op: [write, mkdir, setstat, remove, rename], paths: ["TMP/srv/upload/**"]}
    effect: allow
  - {id: sealed, on: ssh, match: {action: sftp, op: [rmdir], paths: ["TMP/srv/**"]}, effect: hold, hold: {reviewers: [ops]}}
  - {id: lines, on: ssh, match: {action: [shell]}, effect: allow}
"""


def place(directory: Path) -> Path:
    """What there is on the target."""
    srv = directory / "srv"
    (srv / "upload").mkdir(parents=True)
    (srv / "data").write_bytes(bytes(range(256)) * 2000)
    (directory / "outside").mkdir()
    (directory / "outside" / "secret").write_text("secret")
    (srv / "upload" / "link").symlink_to(directory / "outside")
    return srv


async def sftp(world: Gateway, openssh: OpenSSH, *batch: str) -> subprocess.CompletedProcess[bytes]:
    """Run a batch; a line after `-` may fail."""
    words = ("sftp", "-o", "BatchMode=no", "-b", "-", *openssh.options(world.port), "build@127.0.0.1")
    return await world.program(*words, input="\n".join(batch).encode())


def transcript(world: Gateway) -> str:
    recordings = sorted((world.config.state / "recordings").rglob("*.mitm"))
    return "".join(piece.text for path in recordings for piece in pieces(read_flows(path)))


async def test_sftp_by_path(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    srv = place(tmp_path)
    local = tmp_path / "local"
    local.mkdir()
    (local / "up").write_bytes(b"\x00AKIAIOSFODNN7EXAMPLE" + bytes(range(255)) * 5000)
    async with gateway(tmp_path, sshd, openssh, more=FILES) as world:
        batch = (f"lcd {local}", f"cd {srv}", "ls -l", "get data", "cd upload", "put up", "mkdir d", "rename up d/up", "chmod 600 d/up")
        done = await sftp(world, openssh, *batch, "get d/up back")
        assert done.returncode == 0, done.stderr
        assert (local / "data").read_bytes() == (srv / "data").read_bytes()
        assert (local / "back").read_bytes() == (local / "up").read_bytes() == (srv / "upload" / "d" / "up").read_bytes()
        refused = (
            f"put {local}/up {srv}/data",
            f"put {local}/up {srv}/upload/../data",
            f"put {local}/up {srv}/upload/link/new",
            f"get {srv}/upload/link/secret {local}/secret",
            f"get {tmp_path}/outside/secret {local}/secret",
            f"rm {srv}/data",
            f"rename {srv}/upload/d/up {srv}/up",
            f"ln -s {tmp_path}/outside {srv}/upload/another",
            f"ln {srv}/data {srv}/upload/hard",
        )
        before = (srv / "data").read_bytes()
        for line in refused:
            done = await sftp(world, openssh, line)
            assert done.returncode != 0, line
            assert b"no rule allows this" in done.stderr, (line, done.stderr)
        assert (srv / "data").read_bytes() == before
        assert sorted(path.name for path in (srv / "upload").iterdir()) == ["d", "link"]
        assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]
        assert not (local / "secret").exists()
        await world.quiet()
        told = await asyncio.to_thread(transcript, world)
        digest = hashlib.sha256((local / "up").read_bytes()).hexdigest()
        assert f"sftp write {srv}/upload/up: {len((local / 'up').read_bytes())} bytes, sha256 {digest}" in told
        assert f"sftp write {srv}/data: denied" in told
        ledger = [line for line in await world.ledger() if line["event"] == "decided" and line["title"].startswith("sftp write")]
        assert [line["effect"] for line in ledger] == ["allow", "deny", "deny", "deny"]


async def test_a_held_request_waits(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    srv = place(tmp_path)
    async with gateway(tmp_path, sshd, openssh, more=FILES) as world, asyncio.TaskGroup() as group:
        (srv / "upload" / "d").mkdir()
        running = group.create_task(sftp(world, openssh, f"rmdir {srv}/upload/d", f"ls {srv}"))
        approval = await world.pending()
        assert approval.text == f"sftp rmdir {srv}/upload/d"
        assert (srv / "upload" / "d").is_dir()
        await world.decide()
        done = await running
        assert done.returncode == 0, done.stderr
        assert b"waiting for a reviewer" in done.stderr
        assert not (srv / "upload" / "d").exists()


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
async def test_rsync(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_bytes(b"AKIAIOSFODNN7EXAMPLE" * 1000)
    (source / "b c").write_text("x")
    async with gateway(tmp_path, sshd, openssh) as world:
        shell = "ssh " + " ".join(openssh.options(world.port))
        for words in ((f"{source}/", f"build@127.0.0.1:{there}/"), (f"build@127.0.0.1:{there}/", f"{back}/")):
            done = await world.program("rsync", "-a", "-z", "--old-args", "-e", shell, *words)
            assert done.returncode == 0, done.stderr
        assert (back / "deep" / "a").read_bytes() == (source / "deep" / "a").read_bytes()
        assert (back / "b c").read_text() == "x"
        done = await world.program("rsync", "-a", "--rsync-path", "rm -rf x; rsync", "-e", shell, f"{source}/", f"build@127.0.0.1:{there}/")
        assert done.returncode != 0
        assert b"nothing is removed here" in done.stderr
        done = await world.program("rsync", "-a", "-e", shell, "-M--log-file=/tmp/x", f"{source}/", f"build@127.0.0.1:{there}/")
        assert b"the gateway did not understand" in done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
async def test_git(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    bare, work = tmp_path / "bare.git", tmp_path / "work"

    async with gateway(tmp_path, sshd, openssh) as world:
        environment = {
            "GIT_SSH_COMMAND": "ssh " + " ".join(openssh.options(world.port)),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

        async def git(*words: str, into: Path = tmp_path) -> subprocess.CompletedProcess[bytes]:
            return await world.program("git", *words, cwd=into, environment=environment)

        assert (await git("init", "-q", "--bare", str(bare))).returncode == 0
        # the target's git looks whose directory it is
        (sshd.home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
        done = await git("clone", "-q", f"build@127.0.0.1:{bare}", str(work))
        assert done.returncode == 0, done.stderr
        (work / "file").write_text("x" * 100_000)
        assert (await git("add", "file", into=work)).returncode == 0
        assert (await git("commit", "-q", "-m", "one", into=work)).returncode == 0
        done = await git("push", "-q", "origin", "HEAD:refs/heads/main", into=work)
        assert done.returncode == 0, done.stderr
        done = await git("clone", "-q", "-b", "main", f"build@127.0.0.1:{bare}", str(tmp_path / "again"))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "again" / "file").read_text() == "x" * 100_000
        titles = [title for title, effect in await world.decisions() if effect == "allow"]
        assert titles == ["git-upload-pack", "git-receive-pack", "git-upload-pack"]


async def test_many_short_commands_and_small_files(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    """As Ansible does it: a shared connection, a command, a copy of a module by sftp, and its run, again and again."""
    srv = place(tmp_path)
    module = tmp_path / "module.py"
    module.write_text('import json\nprint(json.dumps({"changed": False}))\n')
    async with gateway(tmp_path, sshd, openssh, more=FILES) as world:
        control = ("-o", f"ControlPath={tmp_path}/c", "-o", "ControlMaster=auto", "-o", "ControlPersist=60")

        async def host(number: int) -> None:
            name = f"{srv}/upload/m{number}.py"
            done = await world.ssh(*control, "--", "/bin/sh -c 'echo ~ && sleep 0'")
            assert done.returncode == 0, done.stderr
            line = ("sftp", "-b", "-", *control, *openssh.options(world.port), "build@127.0.0.1")
            done = await world.program(*line, input=f"put {module} {name}\nchmod 700 {name}".encode())
            assert done.returncode == 0, done.stderr
            done = await world.ssh(*control, "--", f"/bin/sh -c 'python3 {name} && sleep 0'")
            assert (done.returncode, json.loads(done.stdout or b"null")) == (0, {"changed": False}), done.stderr

        await host(0)
        await asyncio.gather(*(host(number) for number in range(1, 6)))
        await world.ssh(*control, "-O", "exit", "--")
        await world.quiet()
        ledger = await world.ledger()
        assert sum(line["event"] == "session_opened" for line in ledger) == 1
        assert sum(line["event"] == "decided" and line["title"].startswith("sftp write") for line in ledger) == 6


async def test_a_terminal_is_recorded_and_replayed(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh, more=FILES) as world:
        done = await world.ssh("-tt", stdin=b"echo AKIAIOSFODNN7EXAMPLE one\r\x04")
        assert done.returncode == 0, done.stderr
        await world.quiet()
        (path,) = (world.config.state / "recordings").rglob("*.mitm")
        (lines,) = await asyncio.to_thread(lambda: cast_lines(read_flows(path)))
        events: list[Any] = [json.loads(line) for line in lines]
        assert events[0]["version"] == 2
        shown = "".join(event[2] for event in events[1:] if event[1] == "o")
        assert "[redacted] one" in shown
        (played,) = await asyncio.to_thread(terminals, path)  # what the console's player gets
        assert [json.loads(line) for line in played.splitlines()] == events
        assert "echo" in await asyncio.to_thread(transcript, world)
