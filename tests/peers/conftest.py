"""Fixtures of the tests with real peers."""

from __future__ import annotations

from tests.peers.postgres import postgres as postgres
from tests.peers.sshd import openssh as openssh
from tests.peers.sshd import sshd as sshd
