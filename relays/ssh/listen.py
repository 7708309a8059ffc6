"""Listens for SSH: each client gets a `ServerTransport`."""

from __future__ import annotations

import contextlib
import logging
import socket
from importlib import import_module
from typing import TYPE_CHECKING, cast

from hopgate.addresses import Address
from hopgate.ssh_keys import host_key
from hopgate.tasks import spawn
from relays.listen import SocketListener
from relays.outside import Outside
from relays.ssh.server import ServerTransport
from relays.transport import LoopTransport

if TYPE_CHECKING:
    from relays.ssh.server import OnLogin

_log = logging.getLogger("hopgate.relays")


class SshListener(SocketListener):
    """One address, with the gateway's host key. `on_login` is that of `relays.ssh.relay` unless a test gives another."""

    def __init__(self, outside: Outside, address: Address, on_login: OnLogin | None = None, *, shared: bool = False) -> None:
        """Raises Misconfigured when the host key cannot be used."""
        super().__init__(outside, address, shared=shared)
        self.host_key = host_key(outside.services.config.state)
        self.on_login = on_login or cast("OnLogin", import_module("relays.ssh.relay").on_login)

    def _accepted(self, sock: socket.socket) -> None:
        spawn(self._begin(sock), name="an ssh client")

    async def _begin(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._transport, sock)
        except OSError as error:
            _log.info("an ssh client could not begin: %s", type(error).__name__)
            with contextlib.suppress(OSError):
                sock.close()

    def _transport(self) -> LoopTransport:
        return LoopTransport(ServerTransport(self._outside, self.host_key, self.on_login), self._loop)  # type: ignore[arg-type]
