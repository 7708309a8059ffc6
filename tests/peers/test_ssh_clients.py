"""Paramiko and asyncssh as clients: other habits than OpenSSH's with requests, windows and ends."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest

from hopgate.tasks import spawn
from tests.peers.ssh_gateway import FILES, SHELL, Gateway, gateway
from tests.peers.sshd import OpenSSH, Sshd

pytestmark = pytest.mark.peer

PAYLOAD = bytes(range(256)) * 8000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    for name in ("paramiko", "asyncssh"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return


async def by_paramiko[T](world: Gateway, work: Callable[[paramiko.SSHClient], T]) -> T:
    """What `work` gives for a client that has logged in, in a thread."""

    def run() -> T:
        client = paramiko.SSHClient()
        client.load_host_keys(str(world.openssh.known_hosts))
        client.connect("127.0.0.1", world.port, "build", world.password, look_for_keys=False, allow_agent=False, timeout=30)
        try:
            return work(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


def ran(client: paramiko.SSHClient, command: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
    stdin, stdout, stderr = client.exec_command(command, timeout=50)
    stdin.write(data)
    stdin.channel.shutdown_write()
    out, err = stdout.read(), stderr.read()
    return stdout.channel.recv_exit_status(), out, err


async def test_paramiko_runs_commands(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:

        def work(client: paramiko.SSHClient) -> list[tuple[int, bytes, bytes]]:
            return [ran(client, "cat; exit 3", PAYLOAD), ran(client, "rm x"), *(ran(client, f"echo {number}") for number in range(5))]

        first, denied, *rest = await by_paramiko(world, work)
        assert first == (3, PAYLOAD, b"")
        assert denied[0] == 126
        assert b"nothing is removed here" in denied[2]
        assert rest == [(0, b"%d\n" % number, b"") for number in range(5)]


async def test_paramiko_waits_for_a_reviewer(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:
        running = spawn(by_paramiko(world, lambda client: ran(client, f"mkdir {tmp_path}/made; wc -c", PAYLOAD)), name="paramiko")
        await world.decide()
        status, out, err = await running
        assert (status, int(out)) == (0, len(PAYLOAD))
        assert b"waiting for a reviewer" in err


async def test_paramiko_is_refused_shells_terminals_and_tunnels(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world:

        def work(client: paramiko.SSHClient) -> tuple[int, bytes]:
            transport = client.get_transport()
            assert transport is not None
            with pytest.raises(paramiko.ChannelException):
                transport.open_channel("direct-tcpip", ("10.0.0.1", 80), ("127.0.0.1", 1))
            with pytest.raises(paramiko.SSHException):
                transport.request_port_forward("0.0.0.0", 0)
            channel = transport.open_session()
            channel.get_pty()  # refused in words, at what starts in it
            channel.invoke_shell()
            return channel.recv_exit_status(), channel.recv_stderr(1000)

        status, said = await by_paramiko(world, work)
        assert status == 126
        assert b"no terminal here" in said
        assert b"no rule allows this" in said


async def test_paramiko_moves_files(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh, more=FILES) as world:

        def work(client: paramiko.SSHClient) -> bytes:
            with client.open_sftp() as sftp:
                sftp.putfo(io.BytesIO(PAYLOAD), f"{tmp_path}/there")
                with pytest.raises(PermissionError):
                    sftp.stat("/etc/passwd")
                back = io.BytesIO()
                sftp.getfo(f"{tmp_path}/there", back)
                return back.getvalue()

        assert hashlib.sha256(await by_paramiko(world, work)).digest() == hashlib.sha256(PAYLOAD).digest()


def by_asyncssh(world: Gateway) -> Any:
    return asyncssh.connect(
        "127.0.0.1", world.port, username="build", password=world.password, known_hosts=str(world.openssh.known_hosts),
        client_keys=None, agent_path=None, config=None,
    )  # fmt: skip


async def test_asyncssh_runs_many_commands_at_once(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world, by_asyncssh(world) as connection:
        jobs = [connection.run("cat; echo err >&2; exit 2", input=PAYLOAD[: 1000 * number], encoding=None) for number in range(1, 13)]
        for number, done in enumerate(await asyncio.gather(*jobs), 1):
            assert (done.exit_status, done.stdout, done.stderr) == (2, PAYLOAD[: 1000 * number], b"err\n")
        done = await connection.run("rm x")
        assert done.exit_status == 126
        assert "nothing is removed here" in done.stderr


async def test_asyncssh_in_line_mode(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh, more=SHELL) as world, by_asyncssh(world) as connection:
        process = await connection.create_process(term_type="xterm", term_size=(60, 20))
        process.stdin.write("echo one\recho two\x7f\x7f\x7fthree\rexit\r")
        done = await asyncio.wait_for(process.wait(), 40)
        assert done.exit_status == 0
        assert "\r\none\r\n" in done.stdout
        assert "\r\nthree\r\n" in done.stdout


async def test_asyncssh_reads_slowly_and_nothing_is_lost(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world, by_asyncssh(world) as connection:
        process = await connection.create_process("seq 1 2000000", encoding=None, window=64 * 1024)
        digest, size = hashlib.sha256(), 0
        while data := await process.stdout.read(100_000):
            digest.update(data)
            size += len(data)
        expected = b"".join(b"%d\n" % number for number in range(1, 2_000_001))
        assert (size, digest.digest()) == (len(expected), hashlib.sha256(expected).digest())


async def test_asyncssh_forwards_what_a_rule_allows(tmp_path: Path, sshd: Sshd, openssh: OpenSSH) -> None:
    async with gateway(tmp_path, sshd, openssh) as world, by_asyncssh(world) as connection:
        reader, writer = await connection.open_connection("127.0.0.1", sshd.port, encoding=None)
        assert (await reader.readuntil(b"\n")).startswith(b"SSH-2.0-OpenSSH")
        writer.close()
        with pytest.raises(asyncssh.ChannelOpenError, match="no rule allows this"):
            await connection.open_connection("10.0.0.1", 80)
