"""One gateway on one state directory, whoever is killed first."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hopgate.errors import Misconfigured
from hopgate.state_lock import StateLock, holder


def test_a_second_gateway_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    state = tmp_path / "var"
    lock = StateLock.take(state)
    with pytest.raises(Misconfigured, match=rf"in use by the gateway with pid {os.getpid()}: stop it"):
        StateLock.take(state)
    assert holder(state) == os.getpid()
    lock.close()
    StateLock.take(state).close()
    assert holder(state) is None
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_child_with_the_descriptor_keeps_it_taken(tmp_path: Path) -> None:
    lock = StateLock.take(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,))
    lock.close()
    try:
        with pytest.raises(Misconfigured, match="in use"):
            StateLock.take(tmp_path)
    finally:
        child.communicate(b"\n")
    StateLock.take(tmp_path).close()


def test_a_lock_file_with_rubbish_or_without_access(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\xff\xfe no pid")
    lock = StateLock.take(tmp_path)
    os.pwrite(lock.descriptor, b"rubbish\n", 0)
    with pytest.raises(Misconfigured, match="in use by another gateway"):
        StateLock.take(tmp_path)
    lock.close()
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot be opened"):
        StateLock.take(tmp_path / "file")
    assert holder(tmp_path / "nowhere") is None
