"""The server and the client that the other tests of SSH stand on."""

from __future__ import annotations

import pytest

from tests.peers.sshd import OpenSSH, Sshd


@pytest.mark.peer
def test_the_client_gets_into_the_server(sshd: Sshd, openssh: OpenSSH) -> None:
    openssh.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key()}\n")
    for key in (sshd.key, sshd.rsa_key):
        done = openssh.run(sshd.port, sshd.user, "-T", "--", "cat; echo $HOME", key=key, stdin=b"in\n")
        assert (done.returncode, done.stdout.decode()) == (0, f"in\n{sshd.home}\n"), done.stderr
    assert openssh.run(sshd.port, sshd.user, "true").returncode == 255
    assert "Accepted publickey" in sshd.log()
