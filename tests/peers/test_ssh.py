"""The real OpenSSH client through the gateway to a real sshd: commands judged, held, recorded; everything else by rule."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from hopgate.tasks import spawn
from tests.peers.ssh_gateway import FILES, SHELL, gateway
from tests.peers.sshd import OpenSSH, Sshd

pytestmark = pytest.mark.peer


async def test_an_allowed_command_runs_as_if_nobody_were_between(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        payload = bytes(range(256)) * 4096
        done = await world.ssh("cat; echo err >&2; exit 7", stdin=payload)
        assert (done.returncode, done.stderr) == (7, b"err\n")
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(payload).digest()
        done = await world.ssh("true")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        await world.quiet()
        assert ("cat ; echo ; exit", "allow") in await world.decisions()


async def test_a_denied_command_says_why_and_leaves_no_trace(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    async with gateway(tmp_path, sshd, openssh) as world:
        before = sshd.log().count("Starting session")
        for command in (f"rm {victim}", f"echo x; sh -c 'rm {victim}'", f"unheard-of {victim}", f'bash -c "$(echo rm {victim})"'):
            done = await world.ssh(command)
            assert (done.returncode, done.stdout) == (126, b""), command
            assert done.stderr.startswith(b"hopgate: "), done.stderr
            assert done.stderr.count(b"\n") == 1, done.stderr
        assert b"rule `nothing-removed` denies this: nothing is removed here" in (await world.ssh(f"rm {victim}")).stderr
        assert sshd.log().count("Starting session") == before
        await world.quiet()
        assert [effect for _, effect in await world.decisions()] == ["deny"] * 5
    assert victim.read_text() == "here"


async def test_a_held_command_runs_when_it_is_approved(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    made = tmp_path / "made here"
    async with gateway(tmp_path, sshd, openssh) as world:
        running = spawn(world.ssh(f"mkdir '{made}' && cat", stdin=b"sent before"), name="ssh")
        approval = await world.pending()
        assert approval.text == f"mkdir '{made}' && cat"
        assert not made.exists()
        await world.decide()
        done = await running
        assert (done.returncode, done.stdout) == (0, b"sent before")
        assert made.is_dir()
        assert b"waiting for a reviewer" in done.stderr
        assert approval.id.encode() in done.stderr
        running = spawn(world.ssh(f"mkdir '{made}/2'"), name="ssh")
        await world.decide("deny")
        done = await running
        assert done.returncode == 126
        assert b"not now" in done.stderr
        assert not (made / "2").exists()


async def test_who_goes_away_takes_the_request_back(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        process = await world.start(f"mkdir {tmp_path}/never")
        approval = await world.pending()
        process.kill()
        await process.wait()
        await world.quiet()
        found = await world.services.store.find_approval(approval.id)
        assert found is not None
        assert found.state == "withdrawn"
    assert not (tmp_path / "never").exists()


async def test_code_on_standard_input_is_judged(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    async with gateway(tmp_path, sshd, openssh) as world:
        done = await world.ssh("bash -s", stdin=b"echo one\necho two\n")
        assert (done.returncode, done.stdout) == (0, b"one\ntwo\n"), done.stderr
        done = await world.ssh("bash", stdin=f"echo one\nrm {victim}\n".encode())
        assert done.returncode == 126
        assert done.stdout == b""
        done = await world.ssh("python3 -", stdin=b"print(1 + 1)\n")
        assert (done.returncode, done.stdout) == (0, b"2\n"), done.stderr
    assert victim.exists()


async def test_variables_go_along_by_rule(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        words = ("-o", "SendEnv=LC_* HOPGATE_TEST_*", "--", "echo $LC_HERE-$HOPGATE_TEST_NOT")
        done = await world.ssh(*words, environment={"LC_HERE": "yes", "HOPGATE_TEST_NOT": "no"})
        assert done.stdout == b"yes-\n", done.stderr


async def test_a_terminal_needs_a_rule_and_a_shell_has_lines(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        done = await world.ssh("-tt", "--", "echo hi")  # for whom a terminal is a must
        assert (done.returncode, done.stdout) == (126, b""), done.stderr
        assert b"hopgate: no terminal here (ssh -T goes without one)" in done.stderr
        assert b"no rule allows this" in done.stderr
        assert ("pty", "deny") in await world.decisions()
        done = await world.ssh("-T")
        assert done.returncode == 126
        assert b"no rule allows this" in done.stderr


async def test_line_mode_runs_each_line_by_itself(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    directory = tmp_path / "a b"
    directory.mkdir()
    async with gateway(tmp_path, sshd, openssh, more=SHELL) as world:
        script = f"cd '{directory}'\npwd\nrm -rf .\ntouch here\nls\nfalse\n".encode()
        done = await world.ssh("-T", stdin=script)
        assert (done.returncode, done.stdout) == (1, f"{directory}\nhere\n".encode()), done.stderr
        assert b"nothing is removed here" in done.stderr
        done = await world.ssh("-tt", stdin=b"echo one\r\x04")
        assert done.returncode == 0
        assert b"build:~$ \x1b[Kecho one\r\none\r\n" in done.stdout
        titles = [title for title, _ in await world.decisions()]
        assert "cd ; pwd" in titles
        assert titles.count("shell") == 2


async def test_forwarding_by_destination(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        done = await world.ssh("-W", f"127.0.0.1:{sshd.port}", stdin=b"")
        assert done.stdout.startswith(b"SSH-2.0-OpenSSH"), done.stderr
        done = await world.ssh("-W", "169.254.169.254:80")
        assert done.returncode == 255
        assert b"administratively prohibited: hopgate: no rule allows this" in done.stderr
        jump = f"ssh -W 127.0.0.1:22 {' '.join(openssh.options(world.port))} build@127.0.0.1"
        done = await world.ssh("-o", f"ProxyCommand={jump}", "--", "true")
        assert done.returncode == 255
        assert b"no jumping" in done.stderr
        assert b"instead of jumping" in done.stderr
        effects = dict(await world.decisions())
        assert effects["forward to 127.0.0.1:22"] == "deny"


async def test_ports_on_the_target(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"from the client's side")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    local = server.sockets[0].getsockname()[1]
    async with gateway(tmp_path, sshd, openssh) as world:
        process = await world.start("-v", "-N", "-R", f"localhost:0:127.0.0.1:{local}")
        assert process.stderr is not None
        port = 0
        async with asyncio.timeout(30):
            while not port:
                text = await process.stderr.readline()
                if b"Allocated port" in text:
                    port = int(text.split(b"Allocated port ")[1].split()[0])
        reader, writer = await asyncio.open_connection("localhost", port)
        assert await asyncio.wait_for(reader.read(), 30) == b"from the client's side"
        writer.close()
        process.kill()
        await process.communicate()
        done = await world.ssh("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0.0.0.0:0:127.0.0.1:1")
        assert done.returncode == 255
        assert b"remote port forwarding failed" in done.stderr
    server.close()


async def test_secrets_are_hidden_in_output_and_recording(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    key = sshd.key.read_text()
    async with gateway(tmp_path, sshd, openssh) as world:
        done = await world.ssh(f"cat {sshd.key}; printf 'AKIAIOSF'; sleep 0.1; printf 'ODNN7EXAMPLE\\n'")
        lines = key.splitlines()
        assert done.returncode == 0
        assert lines[2].encode() not in done.stdout
        assert b"AKIAIOSFODNN7EXAMPLE" not in done.stdout
        await world.quiet()
        recordings = b"".join(path.read_bytes() for path in (world.config.state / "recordings").rglob("*.mitm"))
        assert b"exec cat" in recordings
        assert b"ALLOWED by look" in recordings
        assert lines[2].encode() not in recordings
        assert b"AKIAIOSFODNN7EXAMPLE" not in recordings
        assert any(line["event"] == "masked" for line in await world.ledger())


async def test_copies_are_byte_for_byte(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    source, there = tmp_path / "source", tmp_path / "there"
    source.write_bytes(b"AKIAIOSFODNN7EXAMPLE" + bytes(range(256)) * 4000)
    async with gateway(tmp_path, sshd, openssh, more=FILES) as world:
        options = list(openssh.options(world.port))
        for more in (("-O",), ("-s",)):
            for words in ((source, f"build@127.0.0.1:{there}"), (f"build@127.0.0.1:{there}", tmp_path / "back")):
                done = await world.program("scp", *more, *options, *map(str, words))
                assert done.returncode == 0, (more, words, done.stderr)
            assert (tmp_path / "back").read_bytes() == there.read_bytes() == source.read_bytes()
            there.unlink()
        elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
        done = await world.program("scp", "-s", *options, str(source), f"build@127.0.0.1:{elsewhere}")
        assert done.returncode != 0, done.stderr
        assert not elsewhere.exists()


async def test_many_commands_on_one_connection(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        control = ("-o", f"ControlPath={tmp_path}/c", "-o", "ControlMaster=auto", "-o", "ControlPersist=60")
        master = await world.ssh(*control, "--", "true")
        assert master.returncode == 0, master.stderr
        jobs = [
            world.ssh(*control, "--", f"echo {number}; head -c {number} | wc -c; exit {number}", stdin=b"x" * 20) for number in range(12)
        ]
        for number, done in enumerate(await asyncio.gather(*jobs)):
            assert done.stdout.split() == [b"%d" % number] * 2, done.stderr
            assert done.returncode == number, done.stderr
        await world.ssh(*control, "-O", "exit", "--")
        await world.quiet()
        assert sum(line["event"] == "session_opened" for line in await world.ledger()) == 1


async def test_a_killed_session_ends_on_both_sides(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        process = await world.start(f"echo started; sleep 100; touch {tmp_path}/survived")
        assert process.stdout is not None
        assert await process.stdout.readline() == b"started\n"
        (session,) = world.services.sessions._live
        session.end("killed by ops")
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 255
        assert b"the session was ended: killed by ops" in err
        await world.quiet()
        assert [line["reason"] for line in await world.ledger() if line["event"] == "session_closed"] == ["killed by ops"]


async def test_a_target_that_dies(tmp_path: Path, openssh: OpenSSH) -> None:
    with Sshd() as server:
        async with gateway(tmp_path, server, openssh) as world:
            process = await world.start("echo half; head -1; kill -9 $PPID; sleep 100")
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.readline() == b"half\n"
            process.stdin.write(b"now\n")
            _, err = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 255
            assert b"hopgate: the target closed the connection\n" in err
            await asyncio.to_thread(server.stop)
            done = await world.ssh("true")
            assert done.returncode == 255
            assert b"connection build: " in done.stderr
            await world.quiet()
            assert len([line for line in await world.ledger() if line["event"] == "session_closed"]) == 2


async def test_a_session_with_limits_ends_when_they_are_reached(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        text = (tmp_path / "rules.yaml").read_text()
        (tmp_path / "rules.yaml").write_text(
            text.replace("connections: [build]}, effect: allow}", "connections: [build]}, effect: allow, limits: {bytes: 100KB}}")
        )
        await world.services.rules.refresh()
        done = await world.ssh("head -c 1000000 /dev/zero")
        assert done.returncode == 255
        assert b"the session may read" in done.stderr
        assert len(done.stdout) < 500_000
